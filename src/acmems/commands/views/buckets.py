"""How far the limits of CAs are used, in words: what is left, when more is free, and who used it."""

from __future__ import annotations

import datetime
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from acmems.commands.tables import Column, Row, cell
from acmems.commands.views.documents import for_person, rfc3339
from acmems.issuing.limits.charges import Charge
from acmems.issuing.limits.gcra import Fill, bounded, fill
from acmems.issuing.limits.limit import Counted, Limit
from acmems.state.limits.buckets import BucketRecord
from acmems.state.limits.learnt import LearntRecord
from acmems.text import one_line

MOST_BUCKETS = 200
"""Of which the fullest are shown."""

COLUMNS = (
    Column("limit", is_flexible=True),
    Column("counted for", is_flexible=True),
    Column("used", is_number=True),
    Column("left", is_number=True),
    Column("kept", is_number=True),
    Column("next free (UTC)"),
    Column("used last by", is_flexible=True),
    Column("client", is_flexible=True, is_cut_first=True),
    Column("is"),
)
"""What a table of them has."""


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """The limits that hold for an account.

    Args:
        account: names the account among all; empty where that is not known.
        limits: the limits.
        learnt: of those that the CA has told of, what is known of that.
        section: what the account is called in the configuration, None where it is the only one.
    """

    account: str
    limits: Sequence[Limit]
    learnt: Sequence[LearntRecord] = ()
    section: str | None = None


@dataclass(frozen=True, slots=True)
class BucketView:
    """How far a limit is used.

    Args:
        limit: the limit.
        subject: what is counted; empty for the account.
        account: the URL of the account, None where it has not used the limit.
        fill: how full it is.
        kept: how many places are kept free for renewals.
        next_free: when one more is free (aware), None where all are.
        used_by: the auth block that used it last, None where that is not known.
        client: whose request that was for, None where that is not known.
        learnt: when and by which words the CA has told of the limit, None where it has not.
        section: what the account is called in the configuration, None where it is the only one.
    """

    limit: Limit
    subject: str
    account: str | None
    fill: Fill
    kept: int = 0
    next_free: datetime.datetime | None = None
    used_by: str | None = None
    client: str | None = None
    learnt: LearntRecord | None = None
    section: str | None = None

    def row(self) -> Row:
        """Return what a table shows of it."""
        cells = (
            cell(self.limit.name if self.section is None else f"{self.limit.name} of {self.section}"),
            cell(self.subject or "the account"),
            cell(self.fill.used),
            cell(self.fill.left),
            cell(self.kept),
            cell(None if self.next_free is None else for_person(self.next_free)),
            cell(self.used_by),
            cell(self.client),
            cell(self.limit.source),
        )
        if self.learnt is None:
            return Row(cells)
        words = one_line(self.learnt.words, 2000)
        return Row(cells, f"learnt at {for_person(self.learnt.learnt)} UTC: {words}")

    def document(self) -> dict[str, Any]:
        """Return what a JSON document has of it."""
        return {
            "limit": self.limit.name,
            "counts": self.limit.counts,
            "source": self.limit.source,
            "subject": self.subject or None,
            "account": self.account,
            "count": self.limit.rate.count,
            "used": self.fill.used,
            "left": self.fill.left,
            "kept": self.kept,
            "next_free": rfc3339(self.next_free),
            "block": self.used_by,
            "client": self.client,
            "learnt": None if self.learnt is None else _learnt(self.learnt),
        }


def views(
    known: Sequence[AccountLimits],
    buckets: Iterable[BucketRecord],
    now: datetime.datetime,
    kept: Callable[[Charge], int] = lambda _: 0,
) -> list[BucketView]:
    """Return how far limits are used, the fullest first, and those of the account in any case.

    Args:
        known: those that are counted, by account; the first are those of the account that is used today.
        buckets: what is known of their use.
        now: the time (aware).
        kept: returns how many places of a bucket are kept free for renewals.
    """
    used = list(_used(known, buckets, now, kept))
    fullest = heapq.nlargest(MOST_BUCKETS, used, key=lambda each: each.fill.used / each.limit.rate.count)
    seen = {each.limit for each in fullest}
    return fullest + [
        BucketView(
            *(each, "", None, Fill(0, each.rate.count, 0), kept(Charge("", "", each))),
            learnt=_record_of(each, known[0].learnt),
            section=known[0].section,
        )
        for each in known[0].limits
        if each.counts is Counted.ORDERS and each not in seen
    ]


def _used(
    known: Sequence[AccountLimits],
    buckets: Iterable[BucketRecord],
    now: datetime.datetime,
    kept: Callable[[Charge], int],
) -> Iterator[BucketView]:
    by_name = {(each.account, limit.name): (limit, each) for each in known for limit in each.limits}
    moment = int(now.timestamp() * 1000)
    for bucket in buckets:
        found = by_name.get((bucket.account, bucket.limited))
        if found is None or bucket.instant <= moment:
            continue
        limit, owner = found
        filled = fill(limit.rate, bounded(limit.rate, bucket.instant, moment), moment)
        yield BucketView(
            *(limit, bucket.subject, bucket.account.rpartition(" ")[2], filled),
            kept=kept(Charge(bucket.name, bucket.subject, limit)),
            next_free=now + datetime.timedelta(milliseconds=filled.next_in),
            used_by=bucket.used_by,
            client=bucket.client,
            learnt=_record_of(limit, owner.learnt),
            section=owner.section,
        )


def _record_of(limit: Limit, learnt: Iterable[LearntRecord]) -> LearntRecord | None:
    if limit.source != "learnt":
        return None
    return next((each for each in learnt if each.counts == limit.counts), None)


def _learnt(record: LearntRecord) -> dict[str, Any]:
    return {
        "since": rfc3339(record.learnt),
        "confirmed": rfc3339(record.confirmed),
        "ends": rfc3339(record.ends),
        "words": one_line(record.words, 2000),
    }
