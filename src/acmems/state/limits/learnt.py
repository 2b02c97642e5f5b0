"""What CAs have told of their limits where they refused an order."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from acmems.state.engines.contract import Database, Transaction

_COLUMNS = "account, counts, count, period, exempts, learnt, confirmed, words"
_PUT = f"""
    INSERT INTO learnt_limits ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (account, counts) DO UPDATE SET count = excluded.count, period = excluded.period,
        exempts = excluded.exempts, learnt = excluded.learnt, confirmed = excluded.confirmed,
        words = excluded.words
"""  # noqa: S608 - names of columns
PERIODS = 2
"""After so many periods without a word of the CA a limit is not taken to hold any more."""


@dataclass(frozen=True, slots=True)
class LearntRecord:
    """A limit that a CA has told of.

    Args:
        account: names the account among all.
        counts: what it counts, by the words of `counts` in `[limit]`.
        count: how many there may be.
        period: in so many milliseconds.
        exempts_renewals: whether a certificate for names that had one lately does not count.
        learnt: when the CA said so first (aware).
        confirmed: when it said so last (aware).
        words: the CA's.
    """

    account: str
    counts: str
    count: int
    period: int
    exempts_renewals: bool
    learnt: datetime.datetime
    confirmed: datetime.datetime
    words: str

    @property
    def ends(self) -> datetime.datetime:
        """When it is not taken to hold any more, unless the CA confirms it (aware)."""
        return self.confirmed + PERIODS * datetime.timedelta(milliseconds=self.period)


class LearntRecords:
    """Keeps what CAs have told of their limits; for any thread.

    Args:
        database: where that is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> list[LearntRecord]:
        """Return all of them.

        Raises:
            StateUnavailable: they cannot be read.
        """

        def query(transaction: Transaction) -> list[LearntRecord]:
            rows = transaction.execute(f"SELECT {_COLUMNS} FROM learnt_limits ORDER BY account, counts")  # noqa: S608 - constants
            return [_record(row) for row in rows]

        return self._database.read(query)

    def put(self, record: LearntRecord) -> Future[None]:
        """Keep a limit, in place of what was known of the same."""
        row = (
            *(record.account, record.counts, record.count, record.period, int(record.exempts_renewals)),
            *(int(record.learnt.timestamp()), int(record.confirmed.timestamp()), record.words),
        )

        def change(transaction: Transaction) -> None:
            transaction.execute(_PUT, row)

        return self._database.write(change)

    def forget(self, now: datetime.datetime) -> Future[None]:
        """Forget those that are not taken to hold any more at a time (aware)."""

        def change(transaction: Transaction) -> None:
            transaction.execute(
                "DELETE FROM learnt_limits WHERE confirmed + ? * period / 1000 < ?",
                (PERIODS, int(now.timestamp())),
            )

        return self._database.write(change, soon=False)


def _record(row: Sequence[Any]) -> LearntRecord:
    account, counts, count, period, exempts, learnt, confirmed, words = row
    return LearntRecord(account, counts, count, period, bool(exempts), _time(learnt), _time(confirmed), words)


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
