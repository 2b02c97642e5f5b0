"""A state in each of the databases that it can be kept in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from tests.peers import Postgres
from tests.sharing import ENGINES, Sharer, server_for, sharing

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.text import Secret


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A state that is new: tests that want it run once with each engine."""
    opened: Database
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            opened = SqliteDatabase.open(tmp_path / "state.sqlite")
        else:
            server: Postgres = request.getfixturevalue("postgres")
            name = stack.enter_context(server.lent_database())
            opened = PostgresDatabase.open(Secret(server.url_of(name)))
        yield opened
        opened.close()


@pytest.fixture(params=ENGINES)
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Sharer]]:
    """Nodes that share a state that is new: tests that want them run once with each engine."""
    with sharing(tmp_path, 3, server_for(request)) as opened:
        yield opened


Unwritable = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def unwritable(database: Database, monkeypatch: pytest.MonkeyPatch) -> Unwritable:
    """Within this context no change can be made, whatever the engine; reading works."""
    assert isinstance(database, SqliteDatabase | PostgresDatabase)
    commits = database._commits

    def fail(_: Any) -> list[Any]:
        raise StateUnavailable("the disk is full")

    @contextlib.contextmanager
    def hold() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(commits, "_transact", fail)
            yield

    return hold
