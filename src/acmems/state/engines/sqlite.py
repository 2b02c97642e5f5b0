"""A state in a SQLite file: for one server, for its processes, and beside them for commands that look."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from acmems.exceptions import StateUnavailable
from acmems.state.engines import migrations
from acmems.state.engines.contract import Change
from acmems.state.engines.group_commit import GroupCommit, probe
from acmems.state.engines.places import unsafe_place
from acmems.state.engines.soundness import concerns_file, exposure, refuse_damaged, told
from acmems.state.engines.turns import WritingTurns

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DIALECT = migrations.Dialect(octets="BLOB")
_READERS = 4  # connections that are kept for reading
_BUSY_SECONDS = 10.0  # for which another process may hold the file
_CACHE_KIB = 512  # of pages, for each connection that reads
_RETRY_SECONDS = 30.0


class StateInUse(Exception):
    """Another server uses the file."""


class SqliteDatabase:
    """A SQLite file that is open: `acmems.state.engines.contract.Database`; make it with `open` or `look`.

    There is a write-ahead log. Versions of SQLite before 3.51.3 may corrupt such a file when two connections
    write or checkpoint at the same time, so processes that share it take turns; a checkpoint is part of the
    commit that finds it due.

    Args:
        connection: what writes, or only reads.
        path: the file.
        lock: a descriptor that holds the lock, None for none.
        turns: when this process may write, None where no other writes to the file.
        is_shared: whether others write to it.
        is_read_only: whether nothing may be written here.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        lock: int | None = None,
        *,
        turns: WritingTurns | None = None,
        is_shared: bool = False,
        is_read_only: bool = False,
    ) -> None:
        self.place = str(path)
        self.is_shared = is_shared
        self._connection = connection
        self._is_read_only = is_read_only
        self._path = path
        self._file_lock = lock
        self._turns = turns
        self._commits = GroupCommit(self._transact)
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(_READERS)

    @classmethod
    def open(cls, path: Path, *, lock: int | None = None, is_shared: bool = False) -> Self:
        """Open a file, or make it, and bring its tables up to date; only its owner may read it.

        Args:
            path: the file.
            lock: a descriptor that holds its lock already, which the caller closes; None takes the lock.
            is_shared: whether other processes write to it as well.

        Raises:
            StateInUse: another server uses it.
            StateUnavailable: it cannot be used; the text says what to do.
        """
        _refuse_unsafe(path)
        with contextlib.ExitStack() as stack:
            mine = lock
            if lock is None:
                mine = take_lock(path)
                stack.callback(os.close, mine)
            with _describing(path):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                if (reason := exposure(path)) is not None:
                    raise StateUnavailable(reason)
                turns = None
                if is_shared:
                    turns = WritingTurns(path)
                    stack.callback(turns.close)
                connection = _connected(str(path))
                stack.callback(connection.close)
                with _turn(turns):
                    found = _revision(connection, path)
                    refuse_damaged(connection, path)
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.execute("PRAGMA synchronous = FULL")
                    _migrate(connection, path, found)
            stack.pop_all()
        return cls(connection, path, mine if lock is None else None, turns=turns, is_shared=is_shared)

    @classmethod
    def look(cls, path: Path) -> Self:
        """Open a file that a server uses, or may use, to read it only.

        Raises:
            StateUnavailable: it cannot be read, or was not written by this version; the text says what to do.
        """
        _refuse_unsafe(path)
        if not path.exists():
            raise StateUnavailable(f"there is no state at {path}: start the server once, which makes it")
        with contextlib.ExitStack() as stack:
            with _describing(path):
                reader = _reading(path)
                stack.callback(reader.close)
                found = _revision(reader, path)
            if found == len(migrations.MIGRATIONS):
                stack.pop_all()
                return cls(reader, path, is_shared=True, is_read_only=True)
            raise StateUnavailable(
                f"{path} was written by an older version of acmems (revision {found}): restart the "
                f"server, or run 'acmems state migrate', which brings it up to date"
            )

    @property
    def failure(self) -> StateUnavailable | None:
        """Why the last change could not be made, None where it could."""
        return self._commits.failure

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        """Make a change, durably."""
        return self._commits.write(change, soon=soon)

    def read(self, query: Change[T]) -> T:
        """Return what a query finds, by a connection that can only read."""
        try:
            reader = self._reader()
            try:
                reader.execute("BEGIN")
                try:
                    return query(reader)
                finally:
                    reader.execute("ROLLBACK")
            finally:
                self._give_back(reader)
        except sqlite3.Error as error:
            raise self._unavailable("read", told(self._path, error)) from error

    def check(self) -> Future[None]:
        """Write a row to see whether that works."""
        return self.write(probe)

    def expect(self, writers: int) -> None:
        """Take note of how many issuances go on."""
        self._commits.writers = writers

    def flush(self) -> None:
        """Begin a transaction for the changes that wait for one."""
        self._commits.flush()

    def close(self) -> None:
        """Commit what is queued, and close."""
        self._commits.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._readers.get_nowait().close()
        try:
            with _turn(self._turns):  # the last one to close makes a checkpoint
                self._connection.close()
        except TimeoutError as error:
            logger.warning("%s stays open until this process ends: %s", self._path, error.strerror)
        if self._turns is not None:
            self._turns.close()
        lock, self._file_lock = self._file_lock, None
        if lock is not None:
            os.close(lock)

    @staticmethod
    def revision_of(path: Path) -> int:
        """Return how many migrations a file has seen; zero where there is none.

        Raises:
            StateUnavailable: it cannot be read, or was written by a newer version; the text says what to do.
        """
        if not path.exists():
            return 0
        with _describing(path), contextlib.closing(_reading(path)) as reader:
            return _revision(reader, path)

    def _transact(self, changes: Sequence[Change[Any]]) -> list[Any]:
        connection = self._connection
        if self._is_read_only:
            raise StateUnavailable(f"{self._path} is only read here: a server that runs uses it")
        try:
            with _turn(self._turns):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    outcomes = [change(connection) for change in changes]
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            if len(changes) > 1 and not concerns_file(error):
                raise
            raise self._unavailable("written", told(self._path, error)) from error
        except TimeoutError as error:
            raise self._unavailable("written", f"{error.filename}: {error.strerror}") from error
        return outcomes

    def _unavailable(self, done: str, why: str) -> StateUnavailable:
        words = f"the state cannot be {done}: {why}"
        return StateUnavailable(words, retry_after=_RETRY_SECONDS)

    def _reader(self) -> sqlite3.Connection:
        with contextlib.suppress(queue.Empty):
            return self._readers.get_nowait()
        return _reading(self._path)

    def _give_back(self, reader: sqlite3.Connection) -> None:
        try:
            self._readers.put_nowait(reader)
        except queue.Full:
            reader.close()


def take_lock(path: Path) -> int:
    """Return a descriptor that says of a file that a server uses it, until it is closed.

    Processes that inherit the descriptor hold the lock with whoever took it.

    Raises:
        StateInUse: another server uses the file.
        StateUnavailable: the lock cannot be taken.
    """
    with _describing(path):
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StateInUse(str(path)) from None
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def is_damage(error: BaseException) -> bool:
    """Tell whether an error says that a file is damaged, and not only that it cannot be used now."""
    return type(error.__cause__) is sqlite3.DatabaseError  # whose subclasses are about other things


def _turn(turns: WritingTurns | None) -> contextlib.AbstractContextManager[None]:
    """Return the turn to write; it raises `TimeoutError` where another process has that all the time."""
    return contextlib.nullcontext() if turns is None else turns.turn(_BUSY_SECONDS)


def _refuse_unsafe(path: Path) -> None:
    if (reason := unsafe_place(path)) is not None:
        raise StateUnavailable(reason)


def _connected(database: str, *, is_uri: bool = False) -> sqlite3.Connection:
    connection = sqlite3.connect(
        database, _BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=is_uri
    )
    connection.create_function("acmems_now", 0, lambda: int(time.time()))
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _reading(path: Path) -> sqlite3.Connection:
    return _connected(f"file:{quote(str(path))}?mode=ro", is_uri=True)


@contextlib.contextmanager
def _describing(path: Path) -> Iterator[None]:
    """Raise what goes wrong with a file as a `StateUnavailable` that says what to do."""
    try:
        yield
    except OSError as error:
        words = f"the state cannot be opened: {error.filename or path}: {error.strerror}"
        raise StateUnavailable(words) from error
    except sqlite3.Error as error:
        raise StateUnavailable(f"the state cannot be used: {told(path, error)}") from error


def _revision(connection: sqlite3.Connection, path: Path) -> int:
    """Return how many migrations a file has seen, which the file itself counts.

    Raises:
        StateUnavailable: a newer version of acmems has written it.
    """
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(migrations.MIGRATIONS):
        raise StateUnavailable(migrations.newer(str(path), found))
    return found


def _migrate(connection: sqlite3.Connection, path: Path, found: int) -> None:
    """Bring the tables to the last revision; another process may be doing the same."""
    if found == len(migrations.MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _revision(connection, path)
        for revision, statements in migrations.steps(found, _DIALECT):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {revision}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if found < len(migrations.MIGRATIONS):
        logger.info("%s", migrations.migrated(str(path), found))
