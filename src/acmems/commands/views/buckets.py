"""How far the limits of CAs are used, in words: what is left, when more is free, and who used it."""

from __future__ import annotations

import datetime
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from acmems.commands.tables import Column, Row, cell
from acmems.commands.views.documents import for_person, rfc3339
from acmems.issuing.limits.gcra import Fill, fill
from acmems.issuing.limits.limit import Counted, Limit
from acmems.state.limits.buckets import BucketRecord

MOST_BUCKETS = 200
"""Of which the fullest are shown."""

COLUMNS = (
    Column("limit", is_flexible=True),
    Column("counted for", is_flexible=True),
    Column("used", is_number=True),
    Column("left", is_number=True),
    Column("next free (UTC)"),
    Column("used last by", is_flexible=True),
)
"""What a table of them has."""


@dataclass(frozen=True, slots=True)
class BucketView:
    """How far a limit is used.

    Args:
        limit: the limit.
        subject: what is counted; empty for the account.
        account: the URL of the account, None where it has not used the limit.
        fill: how full it is.
        next_free: when one more is free (aware), None where all are.
        used_by: the auth block that used it last, None where that is not known.
    """

    limit: Limit
    subject: str
    account: str | None
    fill: Fill
    next_free: datetime.datetime | None
    used_by: str | None

    def row(self) -> Row:
        """Return what a table shows of it."""
        cells = (
            cell(self.limit.name),
            cell(self.subject or "the account"),
            cell(self.fill.used),
            cell(self.fill.left),
            cell(None if self.next_free is None else for_person(self.next_free)),
            cell(self.used_by),
        )
        return Row(cells)

    def document(self) -> dict[str, Any]:
        """Return what a JSON document has of it."""
        return {
            "limit": self.limit.name,
            "counts": self.limit.counts,
            "subject": self.subject or None,
            "account": self.account,
            "used": self.fill.used,
            "left": self.fill.left,
            "next_free": rfc3339(self.next_free),
            "block": self.used_by,
        }


def views(
    limits: Sequence[Limit], buckets: Iterable[BucketRecord], now: datetime.datetime
) -> list[BucketView]:
    """Return how far limits are used, the fullest first, and those of the account in any case.

    Args:
        limits: those that are counted.
        buckets: what is known of their use.
        now: the time (aware).
    """
    used = list(_used(limits, buckets, now))
    fullest = heapq.nlargest(MOST_BUCKETS, used, key=lambda each: each.fill.used / each.limit.rate.count)
    seen = {each.limit for each in fullest}
    return fullest + [
        BucketView(each, "", None, Fill(0, each.rate.count, 0), None, None)
        for each in limits
        if each.counts is Counted.ORDERS and each not in seen
    ]


def _used(
    limits: Sequence[Limit], buckets: Iterable[BucketRecord], now: datetime.datetime
) -> Iterator[BucketView]:
    by_name = {each.name: each for each in limits}
    moment = int(now.timestamp() * 1000)
    for bucket in buckets:
        limit = by_name.get(bucket.limited)
        if limit is None or bucket.instant <= moment:
            continue
        filled = fill(limit.rate, bucket.instant, moment)
        next_free = now + datetime.timedelta(milliseconds=filled.next_in)
        account = bucket.account.rpartition(" ")[2]
        yield BucketView(limit, bucket.subject, account, filled, next_free, bucket.used_by)
