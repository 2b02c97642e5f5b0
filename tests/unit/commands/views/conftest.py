"""A state that has something to look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.viewing import StateToLookAt, looking_at


@pytest.fixture
def state(config: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[StateToLookAt]:
    """A state that a server has open."""
    with looking_at(config.parent, capsys) as made:
        yield made
