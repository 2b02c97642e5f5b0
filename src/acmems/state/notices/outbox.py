"""Notices that are not delivered yet: a restart loses none of them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from acmems.state.engines.contract import Database, Transaction

_PUT = """
    INSERT INTO notices (target, cause, id, notice, made, next_try) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (target, cause) DO UPDATE SET id = excluded.id, notice = excluded.notice,
        made = excluded.made
"""
_SELECT = "SELECT target, cause, id, notice, made, tries, next_try, reason FROM notices"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRecord:
    """A notice for one target; all times are aware.

    Args:
        target: the section of the configuration that says where to.
        cause: what it is about; of several for one cause only the last is kept.
        id: the same for all targets, and at each try.
        notice: a JSON document.
        made: when it was made.
        tries: how often it could not be delivered.
        next_try: when to try again.
        reason: why the last try has failed, None while none has.
    """

    target: str
    cause: str
    id: str
    notice: str = field(repr=False)
    made: datetime.datetime
    tries: int = 0
    next_try: datetime.datetime
    reason: str | None = None


class NoticeRecords:
    """Keeps notices until they are delivered; for any thread.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @staticmethod
    def put(transaction: Transaction, records: Iterable[NoticeRecord]) -> None:
        """Keep notices, in a transaction of `Database.write`.

        One takes the place of what waits for the same cause and target, and is tried when that was to be.
        """
        rows = [
            (each.target, each.cause, each.id, each.notice, _seconds(each.made), _seconds(each.next_try))
            for each in records
        ]
        transaction.executemany(_PUT, rows)

    def due(self, now: datetime.datetime, most: int, longest: datetime.timedelta) -> list[NoticeRecord]:
        """Return what is to be delivered now, the oldest first.

        Args:
            now: the time (aware).
            most: how many of them.
            longest: for so long a try is put off at most; what is put off for longer was by a clock that was
                ahead, and is to be delivered now.

        Raises:
            StateUnavailable: they cannot be read.
        """
        statement = f"{_SELECT} WHERE next_try <= ? OR next_try > ? ORDER BY made, id, target LIMIT ?"
        return self._select(statement, _seconds(now), _seconds(now + longest), most)

    def all(self) -> list[NoticeRecord]:
        """Return all that waits, the oldest first.

        Raises:
            StateUnavailable: they cannot be read.
        """
        return self._select(f"{_SELECT} ORDER BY made, id, target")

    def waiting(self) -> Mapping[str, int]:
        """Return how many wait for each target, without those for which none does.

        Raises:
            StateUnavailable: they cannot be read.
        """

        def query(transaction: Transaction) -> dict[str, int]:
            rows = transaction.execute("SELECT target, count(*) FROM notices GROUP BY target")
            return {target: count for target, count in rows.fetchall()}  # noqa: C416 - rows are no pairs for mypy

        return self._database.read(query)

    def remove(self, record: NoticeRecord) -> Future[None]:
        """Forget a notice that was delivered, unless another one has taken its place meanwhile."""
        row = (record.target, record.cause, record.id)

        def change(transaction: Transaction) -> None:
            transaction.execute("DELETE FROM notices WHERE target = ? AND cause = ? AND id = ?", row)

        return self._database.write(change)

    def postpone(self, record: NoticeRecord, reason: str, next_try: datetime.datetime) -> Future[None]:
        """Note that a notice could not be delivered; what waits for the same target is not tried earlier.

        Args:
            record: the notice.
            reason: why, in words for a person.
            next_try: when to try again (aware).
        """
        later = _seconds(next_try)

        def change(transaction: Transaction) -> None:
            transaction.execute(
                "UPDATE notices SET tries = ?, reason = ? WHERE target = ? AND cause = ?",
                (record.tries + 1, reason, record.target, record.cause),
            )
            transaction.execute(
                "UPDATE notices SET next_try = ? WHERE target = ? AND next_try < ?",
                (later, record.target, later),
            )

        return self._database.write(change)

    def hasten(self, targets: Sequence[str], now: datetime.datetime) -> Future[None]:
        """Have what waits for some targets tried now (aware): they may be others than before."""
        at = _seconds(now)

        def change(transaction: Transaction) -> None:
            transaction.executemany(
                "UPDATE notices SET next_try = ? WHERE target = ? AND next_try > ?",
                [(at, each, at) for each in targets],
            )

        return self._database.write(change)

    def _select(self, statement: str, *values: int) -> list[NoticeRecord]:
        return self._database.read(
            lambda transaction: [_notice(row) for row in transaction.execute(statement, values).fetchall()]
        )


def _notice(row: Sequence[Any]) -> NoticeRecord:
    target, cause, identity, notice, made, tries, next_try, reason = row
    return NoticeRecord(
        target=target,
        cause=cause,
        id=identity,
        notice=notice,
        made=_time(made),
        tries=tries,
        next_try=_time(next_try),
        reason=reason,
    )


def _seconds(at: datetime.datetime) -> int:
    return int(at.timestamp())


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
