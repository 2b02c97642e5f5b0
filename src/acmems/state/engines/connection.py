"""A connection to PostgreSQL on which nobody waits for longer than a transaction may take."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Change, Transaction, Value
from acmems.system.clock import NEVER, Deadline
from acmems.text import Secret, one_line

T = TypeVar("T")

TRANSACTION_SECONDS = 10.0
"""After which a transaction is given up that has not ended."""

_DEFAULTS: dict[str, str | int] = {
    "application_name": "acmems",
    "connect_timeout": 5,
    # A server that has vanished without a word is noticed by the system too, while nobody waits for it.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# For the transaction alone: what holds for a session would hold for others behind a pooler of connections. A
# server that is stopped in the middle of a transaction must not hold its locks for ever: the database ends it
# before whoever waits for them gives up.
_LIMITS = (
    "SELECT set_config('statement_timeout', '8s', true), set_config('lock_timeout', '6s', true), "
    "set_config('idle_in_transaction_session_timeout', '4s', true)"
)
_PLACEHOLDER = re.compile(r"'[^']*'|[?%]")

# What it warns of is raised as well.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is ended when a deadline passes while an answer is waited for.

    Attributes:
        deadline: that deadline.
    """

    deadline = NEVER
    _entered: AbstractContextManager[psycopg.Pipeline] | None = None
    _pipelined: psycopg.Pipeline | None = None

    def pipelined(self) -> psycopg.Pipeline:
        """Return the pipeline that all statements are in from now on, until `abandon` or `close`.

        It is kept from one transaction to the next: psycopg sends a Flush behind the last Sync when it
        leaves a pipeline. A pooler may have the answer to that Sync already. It then takes the Flush for
        the begin of another transaction, and waits in vain for the end of that.
        """
        if self._pipelined is None:
            self._entered = self.pipeline()
            self._pipelined = self._entered.__enter__()
        return self._pipelined

    def abandon(self) -> None:
        """Give up the transaction that goes on, and leave the pipeline; the connection may be lost."""
        with contextlib.suppress(psycopg.Error):
            self._leave()
        with contextlib.suppress(psycopg.Error):
            self.execute(b"ROLLBACK")  # in any case: its answer ends what a pooler takes for begun

    def close(self) -> None:
        """End the connection."""
        super().close()
        with contextlib.suppress(psycopg.Error):
            self._leave()

    def _leave(self) -> None:
        entered, self._entered, self._pipelined = self._entered, None, None
        if entered is not None:
            entered.__exit__(None, None, None)

    def wait(self, gen: PQGen[T], *arguments: Any, **options: Any) -> T:
        """Wait for what psycopg waits for, but not for ever."""
        return super().wait(self._within(gen), *arguments, **options)

    def _within(self, waiting: PQGen[T]) -> PQGen[T]:
        try:
            wanted = next(waiting)
            while True:
                ready = yield wanted
                if self.deadline.passed:
                    self.pgconn.finish()
                    with contextlib.suppress(psycopg.Error):
                        waiting.close()  # which may want to say something at its end
                    raise psycopg.OperationalError("it does not answer")
                wanted = waiting.send(ready)
        except StopIteration as end:
            found: T = end.value
            return found

    @property
    def is_usable(self) -> bool:
        """Whether another transaction can be begun."""
        return not self.closed and self.info.transaction_status == TransactionStatus.IDLE


class Target:
    """The database that a URL names.

    Args:
        url: the URL, as libpq takes it.

    Raises:
        StateUnavailable: it is none.

    Attributes:
        place: where it is, for a person; without a password.
    """

    def __init__(self, url: Secret) -> None:
        given = _parsed(url)
        if given is None:
            # What libpq says quotes parts of the URL, and any of them may be of a password.
            raise StateUnavailable(
                "the URL of the state is none that PostgreSQL knows: write "
                "postgresql://USER:PASSWORD@HOST/DATABASE, with each of / @ : ? # % in the password as %XX"
            )
        parameters = {**_DEFAULTS, **given, "client_encoding": "UTF8"}
        self._url = make_conninfo("", **parameters)
        self.place = _place(given)

    def connect(self) -> BoundedConnection:
        """Connect.

        Raises:
            StateUnavailable: that is not possible.
        """
        connection = self._connection()
        if isinstance(connection, StateUnavailable):
            raise connection  # with no cause: what psycopg has raised knows the password
        connection.adapters.register_loader("numeric", _WholeLoader)
        return connection

    def _connection(self) -> BoundedConnection | StateUnavailable:
        try:
            # Behind a pooler the next transaction may be in another session, without prepared statements.
            return BoundedConnection.connect(self._url, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            return self.unavailable("be reached", error)

    def unavailable(self, done: str, error: Exception) -> StateUnavailable:
        """Return what cannot be done, for which reason."""
        # Further parts of what the server says quote values, and any of them may be secret.
        words = (isinstance(error, psycopg.Error) and error.diag.message_primary) or str(error)
        return StateUnavailable(f"the state {self.place} cannot {done}: {one_line(words)}")

    def __repr__(self) -> str:
        return f"Target({self.place})"


class _WholeLoader(Loader):
    """Reads sums of integers, which PostgreSQL has another type for, as integers."""

    def load(self, data: Buffer) -> int:
        return int(bytes(data))


class _PipelinedRows:
    """What a statement has found, which is asked for when it is first needed.

    It is asked for by a sync, not by a flush as psycopg does: only after that is the database idle in the
    transaction, so that it ends the transaction of a server that is stopped at this moment.
    """

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]], sync: Callable[[], None]) -> None:
        self._cursor = cursor
        self._sync = sync

    @property
    def rowcount(self) -> int:
        return self._answered.rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._answered.fetchone()

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._answered.fetchall()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._answered)

    @property
    def _answered(self) -> psycopg.Cursor[tuple[Any, ...]]:
        if self._cursor.pgresult is None:
            self._sync()
        return self._cursor


class _PipelinedTransaction:
    """A transaction whose statements are sent without waiting for the answers to those before."""

    def __init__(self, connection: BoundedConnection, pipeline: psycopg.Pipeline) -> None:
        self._connection = connection
        self._pipeline = pipeline

    def execute(self, statement: str, row: Sequence[Value] = (), /) -> _PipelinedRows:
        cursor = self._connection.execute(translated(statement), tuple(row))
        return _PipelinedRows(cursor, self._pipeline.sync)

    def executemany(self, statement: str, rows: Iterable[Sequence[Value]], /) -> None:
        self._connection.cursor().executemany(translated(statement), rows)


def transact(
    connection: BoundedConnection, begin: str, changes: Sequence[Change[Any]], deadline: Deadline
) -> list[Any]:
    """Make changes in one transaction, and return what each returns.

    Args:
        connection: for the transaction alone.
        begin: the statement that begins it.
        changes: what to do in it.
        deadline: when to give it up, and the connection with it.

    Raises:
        psycopg.Error: it was not committed, or nobody knows whether it was where the connection has ended.
    """
    connection.deadline = deadline
    try:
        pipeline = connection.pipelined()
        connection.execute(begin.encode())
        connection.execute(_LIMITS)
        transaction: Transaction = _PipelinedTransaction(connection, pipeline)
        outcomes = [change(transaction) for change in changes]
        commit = connection.execute("COMMIT")
        pipeline.sync()
        _require_committed(commit.statusmessage)
        return outcomes
    except BaseException:
        connection.abandon()
        raise


def _require_committed(answer: str | None) -> None:
    if answer != "COMMIT":  # a transaction that has failed is rolled back without an error
        raise psycopg.OperationalError("the transaction was rolled back")


@functools.lru_cache(maxsize=512)
def translated(statement: str) -> bytes:
    """Return a statement of the contract as psycopg takes it."""
    return _PLACEHOLDER.sub(_translated_part, statement).encode()


def _translated_part(found: re.Match[str]) -> str:
    return "%s" if found[0] == "?" else found[0].replace("%", "%%")


def _parsed(url: Secret) -> dict[str, Any] | None:
    try:
        return dict(conninfo_to_dict(url.reveal()))
    except psycopg.Error:
        return None


def _place(parameters: dict[str, Any]) -> str:
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "").split(",")
    ports = str(parameters.get("port") or "").split(",")
    if len(ports) != len(hosts):
        ports *= len(hosts)
    places = (f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
    return f"postgresql://{','.join(places)}/{parameters.get('dbname') or ''}"
