"""What a summary is made from: how certificates are, and what has happened in some days."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from acmems.state.engines.contract import Database, Transaction, Value

_CURRENT = "superseded IS NULL AND reason IS NULL"
_COUNTS = f"""
    SELECT count(*),
        coalesce(sum(CASE WHEN not_after < ? THEN 1 ELSE 0 END), 0)
    FROM chains WHERE {_CURRENT} AND not_after >= ?
"""  # noqa: S608 - constants
_DUE = """
    SELECT count(*), coalesce(sum(CASE WHEN renewals.failures > 0 THEN 1 ELSE 0 END), 0)
    FROM renewals JOIN chains ON chains.fingerprint = renewals.fingerprint
    WHERE renewals.due <= ? AND renewals.ends_at >= ?
        AND chains.superseded IS NULL AND chains.reason IS NULL
"""
_ISSUED = """
    SELECT count(*), coalesce(sum(CASE WHEN EXISTS (
        SELECT 1 FROM chains AS former
        WHERE former.identity = chains.identity AND former.fingerprint <> chains.fingerprint
            AND former.issued <= chains.issued
    ) THEN 1 ELSE 0 END), 0)
    FROM chains WHERE issued >= ?
"""
_FAILED = "SELECT coalesce(sum(count), 0) FROM events WHERE word = 'not issued' AND at >= ?"
_ENDS = f"""
    SELECT names, not_after FROM chains WHERE {_CURRENT} AND not_after >= ? ORDER BY not_after LIMIT ?
"""  # noqa: S608 - constants
_REFUSED = """
    SELECT client, sum(count) AS refusals FROM events WHERE word = 'refused' AND at >= ?
    GROUP BY client ORDER BY refusals DESC, client LIMIT ?
"""
FORGOTTEN = datetime.timedelta(days=30)
"""For so long after its end, a certificate counts as expired and not as given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekRecord:
    """What has happened in some days, and how things are at their end.

    Args:
        fresh: certificates that need nothing.
        due: those that are to be renewed.
        failing: those of them of which that fails.
        expired: those that have expired lately, and nobody has renewed.
        issued: how many were issued in these days.
        renewed: how many of these took the place of others.
        failed: how many orders have failed.
        ends: the next ends, each with the names.
        refused: who was refused most, each with how often.
    """

    fresh: int
    due: int
    failing: int
    expired: int
    issued: int
    renewed: int
    failed: int
    ends: Sequence[tuple[tuple[str, ...], datetime.datetime]]
    refused: Sequence[tuple[str, int]]


class WeekRecords:
    """Looks at the state for summaries, and keeps when they were made; for any thread.

    Args:
        database: the state.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, since: datetime.datetime, now: datetime.datetime, most: int) -> WeekRecord:
        """Return what there is to say.

        Args:
            since: when the days begin (aware).
            now: the time (aware).
            most: how many ends and clients are named.

        Raises:
            StateUnavailable: it cannot be read.
        """
        start, at = int(since.timestamp()), int(now.timestamp())

        def query(transaction: Transaction) -> WeekRecord:
            def row(statement: str, *values: Value) -> Any:
                return transaction.execute(statement, values).fetchone()

            counted, expired = row(_COUNTS, at, int((now - FORGOTTEN).timestamp()))
            due, failing = row(_DUE, at, at)
            issued, renewed = row(_ISSUED, start)
            return WeekRecord(
                fresh=max(0, int(counted) - int(expired) - int(due)),
                due=int(due),
                failing=int(failing),
                expired=int(expired),
                issued=int(issued),
                renewed=int(renewed),
                failed=int(row(_FAILED, start)[0]),
                ends=[
                    (tuple(names.split("\n")), datetime.datetime.fromtimestamp(end, datetime.UTC))
                    for names, end in transaction.execute(_ENDS, (at, most)).fetchall()
                ],
                refused=[
                    (client, int(count))
                    for client, count in transaction.execute(_REFUSED, (start, most)).fetchall()
                ],
            )

        return self._database.read(query)

    def made(self) -> dict[str, datetime.datetime]:
        """Return when each target got its last summary (aware).

        Raises:
            StateUnavailable: it cannot be read.
        """

        def query(transaction: Transaction) -> dict[str, datetime.datetime]:
            rows = transaction.execute("SELECT target, made FROM summaries").fetchall()
            return {target: datetime.datetime.fromtimestamp(made, datetime.UTC) for target, made in rows}

        return self._database.read(query)

    @staticmethod
    def note(transaction: Transaction, targets: Sequence[str], at: datetime.datetime) -> None:
        """Take note that targets get a summary, in a transaction of `Database.write`."""
        transaction.executemany(
            "INSERT INTO summaries (target, made) VALUES (?, ?) "
            "ON CONFLICT (target) DO UPDATE SET made = excluded.made",
            [(each, int(at.timestamp())) for each in targets],
        )
