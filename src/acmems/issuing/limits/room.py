"""Room for renewals: how many places of a limit new certificates must leave to those that there are."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from acmems.issuing.limits import gcra
from acmems.issuing.limits.charges import Charge, Renewal, subjects
from acmems.issuing.limits.limit import Counted, Limit
from acmems.state.chains.renewals import ComingRenewal, RenewalRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import named

MOST_SHARE: Final = 2
"""At most one place in so many is kept free."""
AGE: Final = 300.0
"""Seconds after which it is read anew which renewals are coming."""

_TICK = 10_000  # milliseconds for which an answer is remembered: there may be very many renewals

Moments = Mapping[tuple[str, str], Sequence[int]]
"""When renewals come (milliseconds since 1970), by the name of a limit and what it counts."""


class RenewalRoom:
    """Tells how many places are to be kept free for renewals; for any thread.

    A renewal needs a place unless the CA does not count it: because it has told when it wants that renewal
    (RFC 9773), or because the limit exempts renewals. Where none is counted, nothing is read.

    Args:
        plans: when chains are to be renewed.
        directory: the URL of the CA's directory.
        clock: for dates.
    """

    def __init__(self, plans: RenewalRecords, directory: str, clock: Clock) -> None:
        self._plans = plans
        self._directory = directory
        self._clock = clock
        self._moments: Moments = {}
        self._read_for: tuple[Limit, ...] | None = None  # the limits that it was read for
        self._read_at = 0.0  # of the monotonic clock
        self._tick = 0  # that the answers are of
        self._answers: dict[tuple[str, str], int] = {}

    def refresh(self, limits: Iterable[Limit]) -> None:
        """Read which renewals are coming, unless that was done a short time ago; called from time to time.

        Args:
            limits: those that hold.

        Raises:
            StateUnavailable: it cannot be read.
        """
        counted = tuple(each for each in limits if _keeps_room(each))
        monotonic = self._clock.monotonic()
        if counted == self._read_for and (not counted or monotonic - self._read_at < AGE):
            return
        self._moments = self._read(counted) if counted else {}
        self._answers = {}
        self._read_for, self._read_at = counted, monotonic

    def of(self, charge: Charge) -> int:
        """Return how many places of the bucket of a charge new certificates must leave."""
        key = charge.limit.name, charge.subject
        moments = self._moments.get(key)
        if moments is None:
            return 0
        now = int(self._clock.now().timestamp() * 1000)
        if self._tick != now // _TICK:
            self._tick, self._answers = now // _TICK, {}
        answers = self._answers
        if key not in answers:
            answers[key] = room(charge.limit, moments, now)
        return answers[key]

    def _read(self, limits: Sequence[Limit]) -> Moments:
        now = self._clock.now()
        longest = datetime.timedelta(milliseconds=max(each.rate.period for each in limits))
        return coming(limits, self._plans.coming(self._directory, now, now + longest))


def coming(limits: Iterable[Limit], renewals: Sequence[ComingRenewal]) -> Moments:
    """Return when renewals come that take places of limits.

    Args:
        limits: the limits.
        renewals: those of the longest of their periods, and what is overdue.
    """
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    counted = tuple(limits)
    needs_names = any(each.counts is Counted.DOMAIN for each in counted)
    for renewal in renewals:
        moment = int(renewal.at.timestamp() * 1000)
        identifiers = [named(each) for each in renewal.names] if needs_names else []
        for limit in counted:
            for subject in subjects(limit, identifiers):
                found[limit.name, subject].append(moment)
    return dict(found)


def room(limit: Limit, moments: Sequence[int], now: int) -> int:
    """Return how many places of a bucket are to be kept free for renewals.

    Those count that come within its period: later ones find what has come back by then.

    Args:
        limit: of the bucket.
        moments: when renewals come that take a place of it, in milliseconds since 1970.
        now: the time.
    """
    if not moments or not _keeps_room(limit):
        return 0
    soon = [each for each in moments if each - now <= limit.rate.period]
    return gcra.room(limit.rate, soon, now, limit.rate.count // MOST_SHARE)


def _keeps_room(limit: Limit) -> bool:
    """Tell whether new certificates can take the places that renewals need.

    A certificate for names that have one is no new one, so that the bucket of a set of names needs no room.
    """
    return limit.counts in {Counted.ORDERS, Counted.DOMAIN} and not Renewal(is_known=True).is_exempt(limit)
