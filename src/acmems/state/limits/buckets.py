"""How far the limits of CAs are used: one instant a bucket, shared by all nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from acmems.state.engines.contract import Database, Transaction

T = TypeVar("T")

_COLUMNS = "name, account, limited, subject, instant, used_by, client"
_TAKE = """
    INSERT INTO buckets (name, account, limited, subject, instant) VALUES (?, ?, ?, ?, 0)
    ON CONFLICT (name) DO UPDATE SET subject = excluded.subject
    RETURNING instant
"""
_PUT = "UPDATE buckets SET instant = ?, used_by = ?, client = ? WHERE name = ?"
_LOOK = "SELECT instant FROM buckets WHERE name = ?"


@dataclass(frozen=True, slots=True)
class BucketRecord:
    """A bucket that may be used.

    Args:
        name: what is unique to it.
        account: of which account.
        limited: the name of the limit.
        subject: what is counted, for a person; empty for the account.
        instant: when it will be empty, in milliseconds since 1970.
        used_by: the auth block that took the last place, None where that is not known.
        client: whose request that was for, None where that is not known.
    """

    name: str
    account: str
    limited: str
    subject: str
    instant: int = 0
    used_by: str | None = None
    client: str | None = None


class BucketRecords:
    """Keeps buckets, and changes several of them at once or none.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def update(
        self,
        buckets: Sequence[BucketRecord],
        decide: Callable[[Mapping[str, int]], tuple[Mapping[str, int], T]],
        *,
        watched: Sequence[str] = (),
        used_by: str | None = None,
        client: str | None = None,
    ) -> Future[T]:
        """Read instants and write others, while nobody else changes them.

        Args:
            buckets: those that may be changed.
            decide: returns the instants to write, given those that are there, by the names of buckets, and
                what comes of it. It MUST be a pure function, and SHOULD NOT raise: the changes that share its
                transaction would be made one by one then.
            watched: the names of further buckets, which are only read.
            used_by: the auth block that is the reason.
            client: whose request that is.

        Returns:
            a future; it has what comes of it once that is durable, or a `StateUnavailable`.
        """
        # Always in the same order, so that two nodes that want the same never wait for each other.
        wanted = sorted(buckets, key=lambda bucket: bucket.name)

        def change(transaction: Transaction) -> T:
            before = {
                each.name: transaction.execute(
                    _TAKE, (each.name, each.account, each.limited, each.subject)
                ).fetchone()[0]
                for each in wanted
            }
            for name in watched:
                found = transaction.execute(_LOOK, (name,)).fetchone()
                before[name] = 0 if found is None else found[0]
            after, outcome = decide(before)
            for name, instant in after.items():
                transaction.execute(_PUT, (instant, used_by, client, name))
            return outcome

        return self._database.write(change)

    def forget(self, before: int) -> Future[None]:
        """Forget the buckets that were empty at a time, in milliseconds since 1970."""

        def change(transaction: Transaction) -> None:
            transaction.execute("DELETE FROM buckets WHERE instant < ?", (before,))

        return self._database.write(change, soon=False)

    def instants(self, names: Sequence[str]) -> dict[str, int]:
        """Return when some buckets will be empty, by their names; of those that were never used, 0.

        Raises:
            StateUnavailable: they cannot be read.
        """

        def query(transaction: Transaction) -> dict[str, int]:
            found = {name: transaction.execute(_LOOK, (name,)).fetchone() for name in names}
            return {name: 0 if row is None else row[0] for name, row in found.items()}

        return self._database.read(query)

    def all(self) -> list[BucketRecord]:
        """Return all of them, the fullest first.

        Raises:
            StateUnavailable: they cannot be read.
        """

        def query(transaction: Transaction) -> list[BucketRecord]:
            rows = transaction.execute(f"SELECT {_COLUMNS} FROM buckets ORDER BY instant DESC")  # noqa: S608 - constants
            return [BucketRecord(*row) for row in rows]

        return self._database.read(query)
