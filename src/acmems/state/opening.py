"""Which database a configuration means, and how it is opened: to serve, or to look beside a server."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database
from acmems.state.engines.migrations import MIGRATIONS
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse, take_lock
from acmems.state.options import StateOptions, missing_driver
from acmems.text import Secret

if TYPE_CHECKING:
    from acmems.state.engines.postgresql import PostgresDatabase

_POSTGRESQL = "acmems.state.engines.postgresql"


@dataclass(frozen=True, slots=True)
class StateClaim:
    """What a supervisor holds of a state for all processes of its server.

    Args:
        lock: a descriptor that holds the lock of a SQLite file; None where the database needs none.
    """

    lock: int | None = None


def claim_state(options: StateOptions, account: Path) -> StateClaim:
    """Claim the state for processes that are started later, which open it each for itself.

    Args:
        options: where it is.
        account: the directory of the account.

    Raises:
        StateInUse: another server uses it, and it is not made for several.
        StateUnavailable: it cannot be used; the text says what to do.
    """
    place = options.place(account)
    return StateClaim(None if isinstance(place, Secret) else take_lock(place))


def open_state(options: StateOptions, account: Path, *, claim: StateClaim | None = None) -> Database:
    """Open the state of a server, or make it.

    Args:
        options: where it is.
        account: the directory of the account.
        claim: what the server's supervisor has claimed, where it has several processes.

    Raises:
        StateInUse: another server uses it, and it is not made for several.
        StateUnavailable: it cannot be used; the text says what to do.
    """
    place = options.place(account)
    if isinstance(place, Secret):
        return _postgresql().open(place)
    lock = None if claim is None else claim.lock
    return SqliteDatabase.open(place, lock=lock, is_shared=claim is not None)


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


def migrate_state(options: StateOptions, account: Path) -> tuple[str, int, int]:
    """Make the state if there is none, and bring its tables up to date.

    Args:
        options: where it is.
        account: the directory of the account.

    Returns:
        where it is, for a person; and the revisions that it had and has.

    Raises:
        StateInUse: a server uses it.
        StateUnavailable: it cannot be used; the text says what to do.
    """
    place = options.place(account)
    if isinstance(place, Secret):
        before = _postgresql().revision_of(place)
    else:
        before = SqliteDatabase.revision_of(place)
    database = open_state(options, account)
    database.close()
    return database.place, before, len(MIGRATIONS)


def view_state(options: StateOptions, account: Path) -> Database:
    """Open the state for a command that changes nothing: a server may start, and go on, beside it.

    A SQLite file that cannot be read without a change, as one that a server of an older version has left, is
    opened as by `look_at_state`.

    Args:
        options: where it is.
        account: the directory of the account.

    Raises:
        StateUnavailable: it cannot be used; the text says what to do.
    """
    place = options.place(account)
    if isinstance(place, Path):
        with contextlib.suppress(StateUnavailable):
            return SqliteDatabase.look(place)
    return look_at_state(options, account)


def _postgresql() -> type[PostgresDatabase]:
    """Return the engine, which is loaded only where it is needed: without it the server is smaller.

    Raises:
        StateUnavailable: what it needs is not installed.
    """
    if (missing := missing_driver()) is not None:
        raise StateUnavailable(missing)
    engine: type[PostgresDatabase] = importlib.import_module(_POSTGRESQL).PostgresDatabase
    return engine
