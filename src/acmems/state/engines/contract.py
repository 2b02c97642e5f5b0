"""What keeps the state speaks to: transactions in SQL that every engine understands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from acmems.exceptions import StateUnavailable

T = TypeVar("T")
Value = int | str | bytes | None
"""What a column holds: times are whole seconds since 1970, and yes and no are 1 and 0."""


class Rows(Protocol):
    """What a statement has found."""

    @property
    def rowcount(self) -> int:
        """How many rows it has changed."""

    def fetchone(self) -> Any:
        """Return the next row, None after the last one."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the rows that are left."""


class Transaction(Protocol):
    """A transaction that is open.

    Statements are the same for every engine: `?` stands for a value, and nothing is used that SQLite 3.35 or
    PostgreSQL 13 does not know. The function `acmems_now()` returns the time by the clock of the database.

    Each statement sees what other processes have committed until then, perhaps more than the one before it.
    What a decision hangs on must be written to first, or decided in one statement: a row that is written to
    is changed by nobody else until the transaction ends.
    """

    def execute(self, statement: str, row: Sequence[Value] = (), /) -> Rows:
        """Run a statement."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Value]], /) -> object:
        """Run a statement once for each row of values."""


Change = Callable[[Transaction], T]
"""What is done in a transaction. It MUST NOT commit, and MUST do no harm when it is done again: nobody knows
whether a transaction was committed when the connection ends meanwhile, and one that others who write get in
the way of is begun anew."""


class Database(Protocol):
    """A database that is open; for any thread."""

    @property
    def place(self) -> str:
        """Where it is, for a person; without a password."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may change what it holds."""

    @property
    def failure(self) -> StateUnavailable | None:
        """Why the last change could not be made, None where it could."""

    def write(self, change: Change[T], *, soon: bool = True) -> Future[T]:
        """Make a change, durably; changes are made in the order in which they come.

        Changes that come while a transaction is being committed share the next one, so that a burst of them
        waits for the disk a few times and not once each.

        Args:
            change: called in a transaction, perhaps more than once.
            soon: whether a transaction is begun for it; otherwise it waits for that of another change, or
                for `flush`.

        Returns:
            a future; it has what the change returns once that is durable, or a `StateUnavailable`.
        """

    def read(self, query: Change[T]) -> T:
        """Return what a query finds in a snapshot; it MUST change nothing. It may wait for a network.

        Raises:
            StateUnavailable: it cannot be read.
        """

    def check(self) -> Future[None]:
        """Write a little to see whether that works.

        Returns:
            a future; it has a `StateUnavailable` where it does not.
        """

    def expect(self, writers: int) -> None:
        """Take note of how many issuances go on, each of which is going to make changes.

        The more there are, the longer a transaction that follows another one waits for further changes: at
        most for some hundredths of a second.
        """

    def flush(self) -> None:
        """Begin a transaction for the changes that wait for one, if there are any."""

    def close(self) -> None:
        """Commit what is queued, and close."""


def marks(values: Collection[object]) -> str:
    """Return as many question marks as there are values, for a list of them in a statement."""
    return ", ".join("?" * len(values))
