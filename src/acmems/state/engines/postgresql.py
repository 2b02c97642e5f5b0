"""A state in PostgreSQL, for any number of servers."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors

from acmems.exceptions import StateUnavailable
from acmems.state.engines import migrations
from acmems.state.engines.connection import TRANSACTION_SECONDS, BoundedConnection, Target, transact
from acmems.state.engines.contract import Change
from acmems.state.engines.group_commit import GroupCommit, probe
from acmems.state.engines.pool import ConnectionPool
from acmems.system.clock import SYSTEM, Clock
from acmems.text import Secret

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DIALECT = migrations.Dialect(octets="BYTEA")
_OLDEST = 130000
_READERS = 4  # that may read at the same time
_ATTEMPTS = 10  # at a transaction that others get in the way of
_MIGRATING = int.from_bytes(b"acmems")  # the advisory lock of who brings the tables up to date
_MIGRATION_SECONDS = 120.0
# A server that is stopped in the middle must not keep all others from starting.
_MIGRATION_LIMITS = "SELECT set_config('idle_in_transaction_session_timeout', '30s', true)"

_TOO_LONG = (errors.LockNotAvailable, errors.QueryCanceled)
_IN_THE_WAY = (errors.SerializationFailure, errors.DeadlockDetected, *_TOO_LONG)
_END_STOPPED = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    AND state = 'active' AND wait_event = 'ClientRead'
    AND query_start < clock_timestamp() - interval '4s'
    AND query NOT ILIKE 'COPY%' -- an administrator who restores something waits like that, too
"""

# SERIALIZABLE would take small tables for whole, so that servers which work at different things make each
# other begin again: with three of them, some transactions never came to an end.
_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED"
_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_NOW = """
    CREATE OR REPLACE FUNCTION acmems_now() RETURNS BIGINT LANGUAGE sql VOLATILE
    AS 'SELECT floor(extract(epoch FROM clock_timestamp()))::bigint'
"""


class PostgresDatabase:
    """A database of PostgreSQL: `acmems.state.engines.contract.Database`; make it with `open` or `look`.

    Args:
        connections: connections to it.
    """

    is_shared = True

    def __init__(self, connections: ConnectionPool) -> None:
        self.place = connections.target.place
        self._connections = connections
        self._commits = GroupCommit(self._write)
        self._reading = threading.BoundedSemaphore(_READERS)

    @classmethod
    def open(cls, url: Secret, clock: Clock = SYSTEM) -> Self:
        """Connect to a database, and bring its tables up to date.

        Raises:
            StateUnavailable: it cannot be used; the text says what to do.
        """
        return cls._opened(url, clock, _migrate)

    @classmethod
    def look(cls, url: Secret, clock: Clock = SYSTEM) -> Self:
        """Connect to a database as it is.

        Raises:
            StateUnavailable: it cannot be used, or was not written by this version; the text says what to do.
        """
        return cls._opened(url, clock, _require_this_version)

    @classmethod
    def _opened(cls, url: Secret, clock: Clock, prepare: Callable[[BoundedConnection, Target], None]) -> Self:
        connections = ConnectionPool(Target(url), clock)
        connection = connections.take()
        try:
            connection.deadline = clock.deadline(_MIGRATION_SECONDS)
            _require_usable(connection, connections.target)
            prepare(connection, connections.target)
        except psycopg.Error as error:
            raise connections.target.unavailable("be used", error) from error
        finally:
            connections.give_back(connection)
        return cls(connections)

    @classmethod
    def revision_of(cls, url: Secret, clock: Clock = SYSTEM) -> int:
        """Return how many migrations a database has seen.

        Raises:
            StateUnavailable: it cannot be used; the text says what to do.
        """
        found: list[int] = []
        opened = cls._opened(
            url, clock, lambda connection, target: found.append(_revision(connection, target))
        )
        opened.close()
        return found[0]

    @property
    def failure(self) -> StateUnavailable | None:
        """Why the last change could not be made, None where it could."""
        return self._commits.failure

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        """Make a change, durably."""
        return self._commits.write(change, soon=soon)

    def read(self, query: Change[T]) -> T:
        """Return what a query finds, by one of few connections."""
        with self._reading:
            try:
                [found] = self._transact(_READING, [query])
            except psycopg.Error as error:
                raise self._connections.target.unavailable("be read", error) from error
        outcome: T = found
        return outcome

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
        self._connections.close()

    def _write(self, changes: Sequence[Change[Any]]) -> list[Any]:
        try:
            return self._transact(_WRITING, changes)
        except psycopg.Error as error:
            if len(changes) > 1:
                raise
            raise self._connections.target.unavailable("be written", error) from error

    def _transact(self, begin: str, changes: Sequence[Change[Any]]) -> list[Any]:
        """Make changes in one transaction, once more where others or the network got in the way.

        Raises:
            psycopg.Error: one of the changes cannot be made.
            StateUnavailable: the database cannot be reached.
        """
        attempts, lost = 0, 0
        while True:
            connection = self._connections.take()
            attempts += 1
            seconds = TRANSACTION_SECONDS / (1 + lost)  # who waits has waited for long already
            try:
                outcomes = transact(connection, begin, changes, self._connections.clock.deadline(seconds))
            except _IN_THE_WAY as error:
                if attempts >= _ATTEMPTS or (isinstance(error, _TOO_LONG) and not _end_stopped(connection)):
                    raise
            except errors.ReadOnlySqlTransaction as error:
                if begin == _READING:
                    raise
                # The server stands by for another now, so that the next attempt may find that one.
                connection.close()
                raise self._connections.failed(error) from error
            except psycopg.Error as error:
                if not connection.closed:
                    raise
                # One that has been idle may have ended long ago, and so have others.
                lost += 1
                if lost > 1:
                    raise self._connections.failed(error) from error
                self._connections.close()
            else:
                self._connections.reached()
                return outcomes
            finally:
                self._connections.give_back(connection)


def _end_stopped(connection: BoundedConnection) -> int:
    """End the sessions of servers that have stopped in the middle of a transaction; return how many.

    The database itself ends those that are idle in a transaction. A session whose statements have come
    without the Sync behind them is not idle: it waits for that, and keeps its locks meanwhile.

    Raises:
        psycopg.Error: the database cannot be asked.
    """
    found: int = _row(connection, _END_STOPPED)[0]
    if found:
        logger.warning("ended sessions of servers that had stopped in the middle of a transaction: %d", found)
    return found


def _require_usable(connection: BoundedConnection, target: Target) -> None:
    """Make sure that a database can be a state.

    Raises:
        StateUnavailable: it cannot.
    """
    version = connection.info.server_version
    if version < _OLDEST:
        raise StateUnavailable(
            f"{target.place} is of PostgreSQL {version // 10000}: the state needs version 13 or a later one"
        )
    encoding, is_read_only = _row(
        connection, "SELECT current_setting('server_encoding'), current_setting('transaction_read_only')"
    )
    if encoding != "UTF8":
        raise StateUnavailable(
            f"{target.place} has the encoding {encoding}: make a database for the state with "
            f"CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
    if is_read_only == "on":
        raise StateUnavailable(
            f"{target.place} can only be read, as a server that stands by for another: set 'url' in [state] "
            f"to the one that can be written, or to both with target_session_attrs=read-write"
        )


def _revision(connection: BoundedConnection, target: Target) -> int:
    """Return how many migrations a database has seen.

    Raises:
        StateUnavailable: a newer version of acmems has written it.
    """
    if _row(connection, "SELECT to_regclass('revisions')") == (None,):
        return 0
    found: int = _row(connection, "SELECT coalesce(max(revision), 0) FROM revisions")[0]
    if found > len(migrations.MIGRATIONS):
        raise StateUnavailable(migrations.newer(target.place, found))
    return found


def _require_this_version(connection: BoundedConnection, target: Target) -> None:
    found = _revision(connection, target)
    if found < len(migrations.MIGRATIONS):
        raise StateUnavailable(
            f"{target.place} was not written by this version of acmems (revision {found}): start the server, "
            f"or run 'acmems state migrate', which brings it up to date"
        )


def _migrate(connection: BoundedConnection, target: Target) -> None:
    """Bring the tables to the last revision; another server may be doing the same."""
    if _revision(connection, target) == len(migrations.MIGRATIONS):
        return
    with _transaction(connection):
        # Two that make one table at the same time get into each other's way in spite of IF NOT EXISTS: what
        # keeps them apart has to be a lock that needs no table.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
        connection.execute("CREATE TABLE IF NOT EXISTS revisions (revision BIGINT PRIMARY KEY)")
        connection.execute("LOCK TABLE revisions IN ACCESS EXCLUSIVE MODE")
        connection.execute(_NOW)
        found = _revision(connection, target)
        for revision, statements in migrations.steps(found, _DIALECT):
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("INSERT INTO revisions VALUES (%s)", (revision,))
    if found < len(migrations.MIGRATIONS):
        logger.info("%s", migrations.migrated(target.place, found))


@contextlib.contextmanager
def _transaction(connection: BoundedConnection) -> Iterator[None]:
    connection.execute(_WRITING)  # which sees what another one has done while this one waited
    connection.execute(_MIGRATION_LIMITS)
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.execute("COMMIT")


def _row(connection: BoundedConnection, query: str) -> tuple[Any, ...]:
    found = connection.execute(query.encode()).fetchone()
    return found or ()
