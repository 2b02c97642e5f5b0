"""The state of a simulation: the tables and statements of acmems in a SQLite file, without its threads.

What is kept there is as in a server, but changes are made at once and in the thread that wants them, and are
committed when the simulation is kept: what it costs to have each of them durable on its own, and to hand it
to another thread, is left out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change
from acmems.state.engines.sqlite import SqliteDatabase

T = TypeVar("T")

_CACHE_SHARE = 2  # one part in so many of the machine's memory at most, for pages
USUAL_CACHE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _CACHE_SHARE
"""Bytes of pages that are kept in memory."""
_PRAGMAS = (
    "journal_mode = OFF",  # nobody needs the file after a crash
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "secure_delete = OFF",
)

_SINGLETHREAD, _MEMSTATUS = 1, 9  # SQLITE_CONFIG_*


def give_up_locks() -> None:
    """Let SQLite work without its locks, as one thread may; nothing must be open yet.

    With locks, and with its statistics of memory, statements take a third more CPU time. A build whose
    functions cannot be reached keeps them.
    """
    module = find_spec("_sqlite3")
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None if module is None else module.origin)
        library.sqlite3_shutdown()
        library.sqlite3_config(_SINGLETHREAD)
        library.sqlite3_config(_MEMSTATUS, 0)
        library.sqlite3_initialize()


class SteppedDatabase:
    """A SQLite file whose changes are committed when it is kept: `acmems.state.engines.contract.Database`.

    Args:
        path: the file, which is made.
        now: returns the simulated time, in seconds since 1970.
        cache: bytes of pages to keep in memory.
    """

    is_shared = False
    failure: StateUnavailable | None = None

    def __init__(self, path: Path, now: Callable[[], int], cache: int = USUAL_CACHE) -> None:
        self.place = str(path)
        SqliteDatabase.open(path).close()
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.create_function("acmems_now", 0, now)
        for each in (*_PRAGMAS, f"cache_size = -{cache // 1024}"):
            self._connection.execute(f"PRAGMA {each}")
        self._connection.execute("BEGIN")
        self._made: Future[Any] = Future()  # of every change that returns nothing
        self._made.set_result(None)

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        """Make a change at once, whether it is urgent or not."""
        del soon
        outcome = change(self._connection)
        if outcome is None:
            return self._made
        done: Future[T] = Future()
        done.set_result(outcome)
        return done

    def read(self, query: Change[T]) -> T:
        """Return what a query finds."""
        return query(self._connection)

    def check(self) -> Future[None]:
        """Do nothing: it can be written."""
        return self.write(lambda _: None)

    def expect(self, writers: int) -> None:
        """Do nothing: changes are made at once, however many come."""

    def flush(self) -> None:
        """Do nothing: no change waits."""

    def commit(self) -> None:
        """Commit what has been changed, so that the file can be copied."""
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
