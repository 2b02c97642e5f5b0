"""The ledger of one account: places are reserved before an order, and given back where they were not used."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeVar

from acmems.exceptions import LimitReached
from acmems.issuing.limits import gcra
from acmems.issuing.limits.charges import Charge, Renewal, charges, failures
from acmems.issuing.limits.limit import Counted, Limit
from acmems.state.limits.buckets import BucketRecord, BucketRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

T = TypeVar("T")

Instants = Mapping[str, int]
"""When buckets will be empty, in milliseconds since 1970, by their names."""


CERTIFICATES = (Counted.DOMAIN, Counted.NAMES)
"""What is counted when a certificate is issued."""

AHEAD_SHARE: Final = 2
"""One order in so many may be placed before there is a CSR for it."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Places that an order has, whether it comes to a certificate or not.

    Args:
        charged: what they were taken for.
    """

    charged: tuple[Charge, ...]

    def only(self, *counted: Counted) -> Reservation:
        """Return the part of it that some limits count."""
        return Reservation(tuple(each for each in self.charged if each.limit.counts in counted))


class Ledger:
    """What an account has had from its CA, counted as the CA counts it.

    Args:
        limits: those of the CA.
        account: names the account among all.
        buckets: where the counts are kept.
        clock: the wall clock decides, as it does at the CA.
        kept_free: how many places of a limit are kept free for renewals of what there is; given a charge.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        account: str,
        buckets: BucketRecords,
        clock: Clock,
        kept_free: Callable[[Charge], int] = lambda _: 0,
    ) -> None:
        self._limits = tuple(limits)
        self._account = account
        self._buckets = buckets
        self._clock = clock
        self._kept_free = kept_free

    def reserve(
        self,
        identifiers: Sequence[Identifier],
        renewal: Renewal,
        block: str | None,
        client: str | None = None,
        *,
        has_order: bool = False,
        is_ahead: bool = False,
    ) -> Future[Reservation | LimitReached]:
        """Take the places that an order and its certificate need; all of them or none.

        Args:
            identifiers: what is to be ordered.
            renewal: how far it renews what there is.
            block: the auth block that asks.
            client: the client that asks.
            has_order: whether the order is there already, so that its certificate alone needs places.
            is_ahead: whether nobody has sent a CSR for it yet, and perhaps nobody will: then half of the
                orders are left to those who have.

        Returns:
            a future; it has the places, or which limit lets nothing through, and until when.
        """
        wanted = charges(self._limits, self._account, identifiers, renewal)
        if has_order:
            wanted = Reservation(tuple(wanted)).only(*CERTIFICATES).charged
        watched = failures(self._limits, self._account, identifiers)
        kept = {each.bucket: self._kept_free(each) for each in wanted} if renewal.is_new else {}
        if is_ahead:
            orders = (each for each in wanted if each.limit.counts is Counted.ORDERS)
            halves = {each.bucket: each.limit.rate.count // AHEAD_SHARE for each in orders}
            kept |= {bucket: max(half, kept.get(bucket, 0)) for bucket, half in halves.items()}
        keeps_for = "those who have sent a CSR" if is_ahead else "renewals"
        now = self._now

        def decide(before: Instants) -> tuple[Instants, Reservation | LimitReached]:
            full = [
                (wait, each)
                for each in (*wanted, *watched)
                if (wait := wait_of(each, before[each.bucket], now, kept.get(each.bucket, 0))) > 0
            ]
            if full:
                longest, charge = max(full, key=lambda pair: pair[0])
                spared, instant = kept.get(charge.bucket, 0), before[charge.bucket]
                return {}, reached(charge, instant, now, longest, spared, keeps_for=keeps_for)
            after = {each.bucket: gcra.taken(each.limit.rate, before[each.bucket], now) for each in wanted}
            return after, Reservation(wanted)

        if not wanted and not watched:
            done: Future[Reservation | LimitReached] = Future()
            done.set_result(Reservation(()))
            return done
        return self._update(wanted, decide, block, watched=watched, client=client)

    def give_back(self, reservation: Reservation, block: str | None) -> None:
        """Give places back that were not used, such as those of a certificate that was not issued."""
        now = self._now

        def decide(before: Instants) -> tuple[Instants, None]:
            return {
                each.bucket: gcra.given_back(each.limit.rate, before[each.bucket], now)
                for each in reservation.charged
            }, None

        if reservation.charged:
            self._update(reservation.charged, decide, block)

    def failed(self, identifiers: Sequence[Identifier], block: str | None) -> None:
        """Take note that the CA could not validate some names."""
        charged, now = failures(self._limits, self._account, identifiers), self._now

        def decide(before: Instants) -> tuple[Instants, None]:
            return {
                each.bucket: gcra.taken(each.limit.rate, before[each.bucket], now) for each in charged
            }, None

        if charged:
            self._update(charged, decide, block)

    def used_up(
        self, charged: Sequence[Charge], until: datetime.datetime | None, block: str | None
    ) -> Future[Sequence[tuple[Charge, int]]]:
        """Take buckets as full, because the CA says so.

        Args:
            charged: the buckets.
            until: when the CA takes one more (aware), None where it does not say.
            block: the auth block that has met it.

        Returns:
            a future; it has those that had room by what was counted here, and how many places.
        """
        now = self._now
        end = None if until is None else int(until.timestamp() * 1000)

        def decide(before: Instants) -> tuple[Instants, Sequence[tuple[Charge, int]]]:
            after = {
                each.bucket: max(before[each.bucket], gcra.full(each.limit.rate, now, wait(each.limit.rate)))
                for each in charged
            }
            fills = [(each, gcra.fill(each.limit.rate, before[each.bucket], now)) for each in charged]
            return after, [(each, filled.left) for each, filled in fills if filled.left]

        def wait(rate: gcra.Rate) -> int:
            return rate.interval if end is None else min(max(end - now, 0), rate.period)

        return self._update(charged, decide, block)

    def _update(
        self,
        charged: Sequence[Charge],
        decide: Callable[[Instants], tuple[Instants, T]],
        block: str | None,
        *,
        watched: Sequence[Charge] = (),
        client: str | None = None,
    ) -> Future[T]:
        buckets = [
            BucketRecord(each.bucket, self._account, each.limit.name, each.subject) for each in charged
        ]
        rates, now = {each.bucket: each.limit.rate for each in (*charged, *watched)}, self._now

        def correct(before: Instants) -> tuple[Instants, T]:
            bounded = {
                bucket: gcra.bounded(rates[bucket], instant, now) for bucket, instant in before.items()
            }
            after, outcome = decide(bounded)
            # Written down whatever is decided: else nobody would get nearer to the end of such a wait.
            corrected = {bucket: instant for bucket, instant in bounded.items() if instant < before[bucket]}
            return {**corrected, **after}, outcome

        names = [each.bucket for each in watched]
        return self._buckets.update(buckets, correct, watched=names, used_by=block, client=client)

    @property
    def _now(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def reached(
    charge: Charge, instant: int, now: int, wait: int, kept: int = 0, *, keeps_for: str = "renewals"
) -> LimitReached:
    """Return what whoever meets a full bucket is told.

    Args:
        charge: what was to be counted.
        instant: when the bucket will be empty, in milliseconds since 1970, as all times here.
        now: the time.
        wait: until there is room.
        kept: how many places are kept free.
        keeps_for: for whom.
    """
    limit = charge.limit
    fill = gcra.fill(limit.rate, instant, now)
    until = datetime.datetime.fromtimestamp((now + wait) / 1000, datetime.UTC)
    about = f" for {charge.subject}" if charge.subject else ""
    if fill.left and kept:
        words = f"what is left of a limit of the CA is kept for {keeps_for}, so that it was not asked"
        how_full = f"{fill.left} of {limit.rate.count} left"
    else:
        words = "a limit of the CA is used up, so that it was not asked"
        how_full = f"{fill.used} of {limit.rate.count} used"
    return LimitReached(
        f"{words}: {limit.name}{about}, {how_full}; ask again after {until:%Y-%m-%d %H:%M:%S} UTC",
        limit=limit.name,
        subject=charge.subject,
        used=fill.used,
        most=limit.rate.count,
        retry_after=max(1.0, wait / 1000),
    )


def wait_of(charge: Charge, instant: int, now: int, kept: int = 0) -> int:
    """Return how long a charge has to wait, in milliseconds.

    Args:
        charge: what is to be counted.
        instant: when its bucket will be empty, in milliseconds since 1970.
        now: the time, in the same way.
        kept: how many places are kept free for others.
    """
    rate = charge.limit.rate
    wait = gcra.wait(rate, instant, now, reserve=min(kept, rate.count - 1))
    return rate.period if wait is None else wait
