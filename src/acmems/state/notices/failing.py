"""Renewals that fail, with what is to be said of their certificates."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from acmems.state.engines.contract import Database, Transaction

PAGE = 1000
"""Rows that are read at a time."""

_SELECT = f"""
    SELECT renewals.fingerprint, renewals.directory, chains.names, chains.block, renewals.due,
        renewals.ends_at, renewals.next_try, renewals.failures, renewals.reason, renewals.fault
    FROM renewals JOIN chains ON chains.fingerprint = renewals.fingerprint
    WHERE renewals.failures > 0 AND renewals.fingerprint > ?
        AND chains.superseded IS NULL AND chains.reason IS NULL
    ORDER BY renewals.fingerprint LIMIT {PAGE}
"""  # noqa: S608 - a number


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingRenewal:
    """A certificate whose renewal has failed when it was last tried; all times are aware.

    Args:
        fingerprint: SHA-256 of the leaf, in hex.
        directory: the URL of its CA's directory.
        names: the names in the leaf.
        block: the auth block that granted it, None where that is not known.
        due: when it was to be renewed.
        ends: when it expires.
        next_try: when that is tried again.
        failures: how often in a row it has failed.
        reason: why.
        fault: the class of the error, None where that is not known.
    """

    fingerprint: str
    directory: str
    names: tuple[str, ...]
    block: str | None
    due: datetime.datetime
    ends: datetime.datetime
    next_try: datetime.datetime
    failures: int
    reason: str
    fault: str | None


def failing_renewals(database: Database) -> Iterator[FailingRenewal]:
    """Yield the renewals that fail, without holding all of them in memory.

    Args:
        database: the state.

    Raises:
        StateUnavailable: they cannot be read.
    """
    last = ""
    while True:
        after = last

        def query(transaction: Transaction, after: str = after) -> list[Any]:
            return transaction.execute(_SELECT, (after,)).fetchall()

        page = database.read(query)
        for fingerprint, directory, names, block, due, ends, next_try, failures, reason, fault in page:
            yield FailingRenewal(
                fingerprint=fingerprint,
                directory=directory,
                names=tuple(names.split("\n")),
                block=block,
                due=_time(due),
                ends=_time(ends),
                next_try=_time(next_try),
                failures=failures,
                reason=reason or "",
                fault=fault,
            )
        if len(page) < PAGE:
            return
        last = page[-1][0]


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
