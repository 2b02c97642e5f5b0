"""Which database a configuration means, and how it is opened: to serve, or to look beside a server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase, StateInUse, take_lock
from acmems.state.options import StateOptions


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
    return StateClaim(take_lock(options.file_for(account)))


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
    lock = None if claim is None else claim.lock
    return SqliteDatabase.open(options.file_for(account), lock=lock, is_shared=claim is not None)


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
