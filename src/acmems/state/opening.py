"""Which database a configuration means, and how it is opened: to serve, or to look beside a server."""

from __future__ import annotations

from pathlib import Path

from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse
from acmems.state.options import StateOptions


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
    return SqliteDatabase.open(options.file_for(account), lock=lock, is_shared=lock is not None)


def look_at_state(options: StateOptions, account: Path) -> Database:
    """Open the state for a command: to read only where a server uses a SQLite file, else as a server does.

    Args:
        options: where it is.
        account: the directory of the account.

    Raises:
        StateUnavailable: it cannot be used; the text says what to do.
    """
    path = options.file_for(account)
    if not path.exists():
        return SqliteDatabase.look(path)  # which says so
    try:
        return SqliteDatabase.open(path)
    except StateInUse:
        return SqliteDatabase.look(path)
