"""Which database a configuration means, and how it is opened: to serve, or to look beside a server."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse
from acmems.state.options import StateOptions, missing_driver
from acmems.text import Secret

if TYPE_CHECKING:
    from acmems.state.engines.postgresql import PostgresDatabase

_POSTGRESQL = "acmems.state.engines.postgresql"


def open_state(options: StateOptions, account: Path, *, lock: int | None = None) -> Database:
    """Open the state of a server, or make it.

    Args:
        options: where it is.
        account: the directory of the account.
        lock: a descriptor that holds the lock of a SQLite file already, for the processes of one server.

    Raises:
        StateInUse: another server uses it, and it is not made for several.
        StateUnavailable: it cannot be used; the text says what to do.
    """
    place = options.place(account)
    if isinstance(place, Secret):
        return _postgresql().open(place)
    return SqliteDatabase.open(place, lock=lock, is_shared=lock is not None)


def look_at_state(options: StateOptions, account: Path) -> Database:
    """Open the state for a command: to read only where a server uses a SQLite file, else as a server does.

    The tables of a database of PostgreSQL stay as they are: servers of another version may use it.

    Args:
        options: where it is.
        account: the directory of the account.

    Raises:
        StateUnavailable: it cannot be used; the text says what to do.
    """
    place = options.place(account)
    if isinstance(place, Secret):
        return _postgresql().look(place)
    if not place.exists():
        return SqliteDatabase.look(place)  # which says so
    try:
        return SqliteDatabase.open(place)
    except StateInUse:
        return SqliteDatabase.look(place)


def _postgresql() -> type[PostgresDatabase]:
    """Return the engine, which is loaded only where it is needed: without it the server is smaller.

    Raises:
        StateUnavailable: what it needs is not installed.
    """
    if (missing := missing_driver()) is not None:
        raise StateUnavailable(missing)
    engine: type[PostgresDatabase] = importlib.import_module(_POSTGRESQL).PostgresDatabase
    return engine
