"""The state's SQLite file: opened by one server at a time, written to in transactions that changes share."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from acmems.exceptions import StateUnavailable
from acmems.state.migrations import MIGRATIONS

logger = logging.getLogger(__name__)

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]

HEADER = b"SQLite format 3\0"
"""What every file begins with that is not empty."""
_NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3"}
)


class StateInUse(Exception):
    """Another server uses the file."""


@dataclass(frozen=True, slots=True, eq=False)
class _QueuedChange:
    """A change that waits for its transaction, and for whoever wants to know that it is durable."""

    apply: Change[Any]
    future: Future[Any]


class Database:
    """A SQLite file that is open; make it with `open`.

    Changes that come while a transaction is being committed share the next one, so that a burst of them waits
    for the disk a few times and not once each. One connection reads, writes and checkpoints, and a lock keeps
    other servers out: with more of them, versions of SQLite before 3.51.3 may corrupt a file in WAL mode.

    Args:
        connection: the connection, which only the writer's thread uses.
        lock: a descriptor that holds the lock.
        path: the file.
    """

    def __init__(self, connection: sqlite3.Connection, lock: int, path: Path) -> None:
        self._connection = connection
        self._file_lock = lock
        self._path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="acmems-state")
        self._lock = threading.Lock()  # guards what follows
        self._queued: list[_QueuedChange] = []
        self._is_due = False  # whether the writer will look at what is queued

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file, or make it, and bring its tables up to date; only its owner may read it.

        Raises:
            StateInUse: another server uses it.
            StateUnavailable: it cannot be used; the text says what to do.
        """
        if (reason := unsafe_place(path)) is not None:
            raise StateUnavailable(reason)
        with contextlib.ExitStack() as stack:
            try:
                lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            except BlockingIOError:
                raise StateInUse(str(path)) from None
            except OSError as error:
                raise StateUnavailable(
                    f"the state cannot be opened: {error.filename}: {error.strerror}"
                ) from error
            try:
                connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
                stack.callback(connection.close)
                found = _revision(connection, path)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                _migrate(connection, path, found)
            except sqlite3.Error as error:
                raise StateUnavailable(
                    f"{path} cannot be used as the state: {error}. Restore it from a backup, or move it "
                    f"away: a new one is made then, which does not know the orders that are open"
                ) from error
            stack.pop_all()
        return cls(connection, lock, path)

    def close(self) -> None:
        """Commit what is queued, and close."""
        self.flush()
        self._writer.shutdown()
        self._connection.close()
        os.close(self._file_lock)

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        """Make a change, durably; changes are made in the order in which they come.

        Args:
            change: called with a connection in a transaction, perhaps twice; it MUST NOT commit.
            soon: whether a transaction is begun for it; otherwise it waits for that of another change, or
                for `flush`.

        Returns:
            a future; it has what the change returns once that is durable, or a `StateUnavailable`.
        """
        future: Future[T] = Future()
        with self._lock:
            self._queued.append(_QueuedChange(change, future))
            begins = soon and not self._is_due
            self._is_due = self._is_due or soon
        if begins:
            try:
                self._writer.submit(self._commit_queued)
            except RuntimeError:
                future.set_exception(StateUnavailable("the state is closed: this server is stopping"))
        return future

    def flush(self) -> None:
        """Begin a transaction for the changes that wait for one, if there are any."""
        if self._queued:
            self.write(lambda _: None)

    def _commit_queued(self) -> None:
        with self._lock:
            batch, self._queued, self._is_due = self._queued, [], False
        try:
            self._commit(batch)
        except Exception:  # noqa: BLE001 - one of them may be at fault, which is seen one by one
            for change in batch:
                try:
                    self._commit([change])
                except sqlite3.Error as error:
                    words = f"the state cannot be written: {self._path}: {error}"
                    change.future.set_exception(StateUnavailable(words, retry_after=30.0))
                except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                    change.future.set_exception(error)

    def _commit(self, changes: Sequence[_QueuedChange]) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [change.apply(connection) for change in changes]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        for change, outcome in zip(changes, outcomes, strict=True):
            change.future.set_result(outcome)


def unsafe_place(path: Path) -> str | None:
    """Return why a state must not lie somewhere, and what to do; None if it may."""
    kind = file_system(path)
    if kind not in _NETWORK:
        return None
    return (
        f"{path} lies on a network file system ({kind}), where SQLite is not safe: set 'url' in [state] to a "
        f"file on a local disk"
    )


def file_system(path: Path) -> str:
    """Return the type of the file system that a file lies on; empty where the system does not say."""
    resolved = path.resolve()
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    found, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split(" ")[4].replace("\\040", " ")
        if resolved.is_relative_to(point) and len(point) >= found:  # the later of two covers the earlier
            found, kind = len(point), right.split(" ")[0]
    return kind


def _revision(connection: sqlite3.Connection, path: Path) -> int:
    """Return how many migrations a file has seen, which the file itself counts.

    Raises:
        StateUnavailable: a newer version of acmems has written it.
    """
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > len(MIGRATIONS):
        raise StateUnavailable(
            f"{path} was written by a newer version of acmems (revision {found}): install that version, or "
            f"set 'url' in [state] to another file"
        )
    return found


def _migrate(connection: sqlite3.Connection, path: Path, found: int) -> None:
    """Bring the tables to the last revision."""
    for number, migration in enumerate(MIGRATIONS[found:], found + 1):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(migration)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")
        logger.info("the state %s is at revision %d now", path, number)
