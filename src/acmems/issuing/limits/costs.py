"""What a request would take out of which buckets, for whoever asks before it is made."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from acmems.issuing.limits import gcra
from acmems.issuing.limits.charges import Charge, Renewal, charges, failures
from acmems.issuing.limits.ledger import wait_of
from acmems.issuing.limits.limit import Counted, Limit
from acmems.x509.identifiers import Identifier

Exemption = Literal["window", "renewal"]
"""Why a CA does not count it: it has told when it wants that renewal, or the limit exempts renewals."""


@dataclass(frozen=True, slots=True)
class LimitCost:
    """What a request would take out of one bucket.

    Args:
        charge: the bucket.
        fill: how full it is now.
        takes: how many places the request takes at once. A failed validation may take one later.
        kept: how many places it must leave for renewals.
        exemption: why nothing is counted, None where something is, or would be if there were room.
        until: when there is room for it (aware), None if there is now.
    """

    charge: Charge
    fill: gcra.Fill
    takes: int
    kept: int
    exemption: Exemption | None
    until: datetime.datetime | None

    def document(self) -> dict[str, Any]:
        """Return the members of a JSON document; docs/operations.md describes each."""
        limit = self.charge.limit
        return {
            "limit": limit.name,
            "counts": limit.counts,
            "source": limit.source,
            "subject": self.charge.subject or None,
            "count": limit.rate.count,
            "used": self.fill.used,
            "takes": self.takes,
            "left": max(0, self.fill.left - self.takes),
            "kept": self.kept,
            "exempt": self.exemption,
            "until": None if self.until is None else self.until.isoformat().replace("+00:00", "Z"),
        }


def costs(
    limits: Iterable[Limit],
    account: str,
    identifiers: Sequence[Identifier],
    renewal: Renewal,
    *,
    instants: Callable[[Sequence[str]], Mapping[str, int]],
    kept: Callable[[Charge], int],
    now: datetime.datetime,
) -> tuple[LimitCost, ...]:
    """Return what a request would take out of each bucket that it is counted in.

    Args:
        limits: those that hold, in whose order the answer is.
        account: names the account among all.
        identifiers: what would be asked for.
        renewal: how far it would renew what there is.
        instants: returns when buckets will be empty, in milliseconds since 1970, by their names.
        kept: returns how many places of a bucket are kept free for renewals.
        now: the time (aware).
    """
    concerned = [
        charge
        for limit in limits
        for charge in (
            *charges([limit], account, identifiers, Renewal()),
            *failures([limit], account, identifiers),
        )
    ]
    found, moment = instants([each.bucket for each in concerned]), int(now.timestamp() * 1000)

    def cost(charge: Charge) -> LimitCost:
        limit = charge.limit
        instant = gcra.bounded(limit.rate, found[charge.bucket], moment)
        fill = gcra.fill(limit.rate, instant, moment)
        exemption: Exemption | None = None
        if limit.counts is not Counted.FAILURES and renewal.is_exempt(limit):
            exemption = "window" if renewal.is_announced else "renewal"
        is_taken = exemption is None and limit.counts is not Counted.FAILURES
        free = kept(charge) if is_taken and renewal.is_new else 0
        wait = 0 if exemption is not None else wait_of(charge, instant, moment, free)
        until = now + datetime.timedelta(milliseconds=wait) if wait else None
        takes = int(is_taken and not wait)
        return LimitCost(charge, fill, takes, free, exemption, until)

    return tuple(map(cost, concerned))
