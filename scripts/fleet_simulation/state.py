"""The state of a simulation: the tables and statements of acmems in a SQLite file, without its threads.

What is kept there is as in a server, but changes are made at once and in the thread that wants them, and are
committed when the simulation is kept: what it costs to have each of them durable on its own, and to hand it
to another thread, is left out.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change
from acmems.state.engines.sqlite import SqliteDatabase

T = TypeVar("T")

_CACHE_SHARE = 2  # one part in so many of the machine's memory at most, for pages
_CACHE_KIB = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024 // _CACHE_SHARE
_PRAGMAS = (
    "journal_mode = OFF",  # nobody needs the file after a crash
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "secure_delete = OFF",
    f"cache_size = -{_CACHE_KIB}",
)


class SteppedDatabase:
    """A SQLite file whose changes are committed when it is kept: `acmems.state.engines.contract.Database`.

    Args:
        path: the file, which is made.
        now: returns the simulated time, in seconds since 1970.
    """

    is_shared = False
    failure: StateUnavailable | None = None

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        self.place = str(path)
        SqliteDatabase.open(path).close()
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.create_function("acmems_now", 0, now)
        for each in _PRAGMAS:
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
