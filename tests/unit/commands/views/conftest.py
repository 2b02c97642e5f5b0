"""A state that has something to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.viewing import StateToLookAt

from acmems.state.engines.sqlite import SqliteDatabase


@pytest.fixture
def state(config: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[StateToLookAt]:
    """A state that a server has open."""
    database = SqliteDatabase.open(config.parent / "account" / "state.sqlite")
    yield StateToLookAt(config, database, capsys)
    database.close()
