"""Copies of a SQLite file: of one that a server uses, and of what can still be read of a damaged one."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Transaction
from acmems.state.engines.migrations import TABLES
from acmems.state.engines.soundness import is_full
from acmems.state.engines.sqlite import SqliteDatabase, take_lock
from acmems.system import files

_BATCH = 500  # rows in a transaction
_MOST_LOST = 100_000  # rows that are looked for one by one behind a damage whose other end is not found

_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was saved from a damaged file.

    Args:
        rows: how many, by table.
        aside: where the damaged file is now.
    """

    rows: dict[str, int]
    aside: Path


def back_up(path: Path, target: Path) -> None:
    """Copy a file as it is at one moment; a server that uses it goes on meanwhile.

    The copy is its owner's alone, and is there as a whole or not at all.

    Args:
        path: the file.
        target: where the copy goes; nothing is there yet.

    Raises:
        StateUnavailable: the file cannot be read, is damaged, or the copy cannot be written.
        FileExistsError: something is there already; it is untouched.
        OSError: the directory of the copy cannot be written to.
    """
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "exists already, and is not overwritten", str(target))
    if not path.exists():
        raise StateUnavailable(f"there is no state at {path}: start the server once, which makes it")
    try:
        descriptor, temporary = tempfile.mkstemp(files.SUFFIX, files.PREFIX, target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target.parent)) from error
    try:
        try:
            with contextlib.closing(_read_only(path)) as source, _opened(temporary) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # all in one file
                [(verdict,)] = copy.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.Error as error:
            full = [f": make room on the disk of {each}" for each in (target, path) if is_full(each)]
            words = f"the state {path} cannot be copied to {target}: {error}{''.join(full[:1])}"
            raise StateUnavailable(words) from error
        if verdict != "ok":
            raise StateUnavailable(f"the state {path} is damaged: {verdict}; see 'acmems state check'")
        os.fsync(descriptor)
        target.hardlink_to(temporary)
    finally:
        os.close(descriptor)
        Path(temporary).unlink()
    files.sync_directory(target.parent)


def salvage(path: Path) -> Salvage:
    """Put what can be read of a damaged file into a new one, in its place; the damaged one is moved aside.

    Raises:
        StateInUse: a server uses it.
        StateUnavailable: nothing can be read of it, or the new one cannot be written.
        OSError: the files cannot be moved.
    """
    lock = take_lock(path)
    made = path.with_name(f"{path.name}.salvaged")
    try:
        for end in ("", "-wal", "-shm", "-journal"):
            Path(f"{made}{end}").unlink(missing_ok=True)
        rows = _salvage_rows(path, made)
        aside = _free_name(path)
        aside.hardlink_to(path)
        # A log that stayed would be taken for that of the new file.
        for end in ("-wal", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{path}{end}", f"{aside}{end}")  # noqa: PTH105 - names with an end
        Path(f"{path}-shm").unlink(missing_ok=True)
        made.replace(path)
        files.sync_directory(path.parent)
    finally:
        os.close(lock)
        Path(f"{made}.lock").unlink(missing_ok=True)
    return Salvage(rows, aside)


def _salvage_rows(path: Path, made: Path) -> dict[str, int]:
    saved: dict[str, int] = {}
    with (
        contextlib.closing(_read_only(path)) as damaged,
        contextlib.closing(SqliteDatabase.open(made)) as database,
    ):
        damaged.text_factory = lambda octets: octets.decode(errors="replace")
        try:
            known = {
                name for (name,) in damaged.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
        except sqlite3.Error as error:
            raise StateUnavailable(
                f"nothing can be read of {path}: {error}; restore it from a backup, or move it away: a new "
                f"one is made then, which does not know the orders that are open"
            ) from error
        for table in TABLES:
            saved[table] = 0
            if table in known:
                columns = _common_columns(damaged, database, table)
                for batch in _batches(_readable_rows(damaged, table, columns)):
                    saved[table] += database.write(_inserting(table, columns, batch)).result()
    return saved


def _inserting(table: str, columns: Sequence[str], batch: Sequence[_Row]) -> Any:
    statement = (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' for _ in columns)}) "  # noqa: S608 - names of our tables
        "ON CONFLICT DO NOTHING"
    )

    def change(transaction: Transaction) -> int:
        saved = 0
        for row in batch:
            with contextlib.suppress(sqlite3.IntegrityError):  # what may not be NULL is by the damage
                saved += transaction.execute(statement, row).rowcount
        return saved

    return change


def _common_columns(damaged: sqlite3.Connection, database: SqliteDatabase, table: str) -> list[str]:
    """Return the columns that a table has in both files: an older one has fewer."""
    statement = f"SELECT name FROM pragma_table_info('{table}')"  # noqa: S608 - a name of our tables
    there = {name for (name,) in damaged.execute(statement)}
    ours = database.read(lambda transaction: transaction.execute(statement).fetchall())
    return [name for (name,) in ours if name in there]


def _readable_rows(damaged: sqlite3.Connection, table: str, columns: Sequence[str]) -> Iterator[_Row]:
    """Yield the rows before the first damage and after the last one, then those between that can be read."""
    select = f"SELECT rowid, {', '.join(columns)} FROM {table} NOT INDEXED"  # noqa: S608 - names of our tables
    first, last = -1, None
    try:
        for number, *row in damaged.execute(f"{select} ORDER BY rowid"):
            first = number
            yield tuple(row)
    except sqlite3.DatabaseError:
        pass
    else:
        return
    with contextlib.suppress(sqlite3.DatabaseError):
        for number, *row in damaged.execute(f"{select} WHERE rowid > ? ORDER BY rowid DESC", (first,)):
            last = number
            yield tuple(row)
    for number in range(first + 1, first + _MOST_LOST if last is None else last):
        with contextlib.suppress(sqlite3.DatabaseError):
            for _, *row in damaged.execute(f"{select} WHERE rowid = ?", (number,)):
                yield tuple(row)


def _batches(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    while batch := list(itertools.islice(rows, _BATCH)):
        yield batch


def _free_name(path: Path) -> Path:
    ends = itertools.chain([""], (f"-{number}" for number in itertools.count(1)))
    names = (Path(f"{path}.damaged{end}") for end in ends)
    return next(name for name in names if not os.path.lexists(name))


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", 10.0, isolation_level=None, uri=True)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection
