"""What makes a SQLite file unusable, and what to do about it: damage, rights, and the disk beneath."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

from acmems.exceptions import StateUnavailable

HEADER = b"SQLite format 3\0"
"""What every file begins with that is not empty."""

_LARGE = frozenset({"chains", "events"})  # they take too long to be looked through at each start
_LEAST_ROOM = 64 * 1024  # octets; '-shm' begins with half of that
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# No change of a batch is at fault for these. (Damage may be in one table.)
_OF_THE_FILE = {
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL),
}
_MEND = (
    "stop the server and run 'acmems state check', which says what can be read; then restore the file from "
    "a backup, or move it away with '-wal' and '-shm': a new one is made, which does not know the open orders"
)
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on its disk",
    sqlite3.SQLITE_IOERR: "its disk fails, and the log of the kernel says more",
    sqlite3.SQLITE_READONLY: "see that its disk can be written to, and that the file and its folder belong "
    "to the user that acmems runs as",
    sqlite3.SQLITE_CANTOPEN: "see that the folder and all files that begin with this name belong to the user "
    "that acmems runs as",
    **dict.fromkeys(_DAMAGED, _MEND),
}


def _code(error: sqlite3.Error) -> int:
    """Return the primary result code; 0 for errors that are Python's own."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def told(path: Path, error: sqlite3.Error) -> str:
    """Return what went wrong with a file, and what to do where that is known."""
    code = _code(error)
    # Where there is no room for '-shm', SQLite speaks of an error of the disk.
    advice = _ADVICE.get(sqlite3.SQLITE_FULL if code == sqlite3.SQLITE_IOERR and is_full(path) else code)
    return f"{path}: {error}: {advice}" if advice else f"{path}: {error}"


def is_full(path: Path) -> bool:
    """Tell whether there is hardly room for anything where a file lies, or is to be made."""
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LEAST_ROOM


def concerns_file(error: sqlite3.Error) -> bool:
    """Tell whether an error is the file's or the disk's, so that no other change would do better."""
    return _code(error) in _OF_THE_FILE


def exposure(path: Path) -> str | None:
    """Return that others than its owner may read a file, and what to do; None if they may not.

    It may hold account keys.
    """
    mode = path.stat().st_mode
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return None
    return f"the state {path} is open to others than its owner (mode {stat.S_IMODE(mode):04o}): chmod 600 it"


def refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file of which a small table is damaged; damage in the large ones shows when they are read.

    Raises:
        StateUnavailable: a table is damaged.
    """
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in tables:
        if name not in _LARGE and (found := _faults(connection, name)) is not None:
            raise StateUnavailable(f"the state cannot be used: {path}: {found}: {_MEND}")


def _faults(connection: sqlite3.Connection, table: str) -> str | None:
    """Return the first thing that is wrong with a table, None if nothing is."""
    (found,) = connection.execute(f'PRAGMA quick_check("{table}")').fetchone()
    return None if found == "ok" else " ".join(found.split())
