"""The generic cell rate algorithm: a bucket that drains steadily, kept as one instant.

Let's Encrypt's limiter works by it, so that a ledger that does the same comes to the same answers. All times
are milliseconds since 1970, whole numbers: the same on every node, whatever its floats do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a bucket lets through.

    Args:
        count: how many at once, and how many in each period in the long run.
        period: in milliseconds.

    Raises:
        ValueError: one of them is not above zero, or there are more of them than milliseconds.
    """

    count: int
    period: int

    def __post_init__(self) -> None:
        if not 0 < self.count <= self.period:
            raise ValueError("a rate is a number above 0, in a time that is longer")

    @property
    def interval(self) -> int:
        """Milliseconds after which one more is free."""
        return self.period // self.count


@dataclass(frozen=True, slots=True)
class Fill:
    """How full a bucket is at a moment.

    Args:
        used: how many places are taken; one that is free in part counts as taken.
        left: how many are free.
        next_in: milliseconds until one more is free; 0 if all are.
    """

    used: int
    left: int
    next_in: int


def taken(rate: Rate, instant: int | None, now: int, cost: int = 1) -> int:
    """Return the instant of a bucket after something was put into it, whether it had room or not.

    Args:
        rate: of the bucket.
        instant: when what is in the bucket will have drained; None for an empty one.
        now: the time.
        cost: how many places it takes.
    """
    return max(instant or 0, now) + cost * rate.interval


def wait(rate: Rate, instant: int | None, now: int, cost: int = 1, *, reserve: int = 0) -> int | None:
    """Return in how many milliseconds there will be room: 0 for now, None for never.

    Args:
        rate: of the bucket.
        instant: as for `taken`.
        now: the time.
        cost: how many places are wanted.
        reserve: how many places must stay free.
    """
    usable = (rate.count - reserve) * rate.interval
    if cost * rate.interval > usable:
        return None
    return max(0, taken(rate, instant, now, cost) - usable - now)


def given_back(rate: Rate, instant: int | None, now: int, cost: int = 1) -> int:
    """Return the instant of a bucket after something was taken out again that did not happen.

    Args:
        rate: of the bucket.
        instant: as for `taken`.
        now: the time; what has drained already cannot be given back.
        cost: how many places it took.
    """
    return max(now, (instant or 0) - cost * rate.interval)


def full(rate: Rate, now: int, wait: int) -> int:
    """Return the instant of a bucket in which one place is free after some time, and none before.

    Args:
        rate: of the bucket.
        now: the time.
        wait: milliseconds until that place is free.
    """
    return now + wait + (rate.count - 1) * rate.interval


def bounded(rate: Rate, instant: int, now: int) -> int:
    """Return the instant of a bucket, as far as this rate and this clock can have led to it.

    Nobody has to wait for longer than a period. A bucket of which that does not hold was filled by another
    rate, which was corrected since, or by a clock that was ahead.

    Args:
        rate: of the bucket.
        instant: when what is in the bucket will have drained.
        now: the time.
    """
    return min(instant, full(rate, now, rate.period))


def room(rate: Rate, moments: Iterable[int], now: int, most: int | None = None) -> int:
    """Return how many places have to be free now, so that each of some takings finds one when it comes.

    Places come back meanwhile: what comes later than one interval after the other needs none to be kept.

    Args:
        rate: of the bucket.
        moments: when they come, each for one place; what is over comes now.
        now: the time.
        most: how many are kept free at most, None for as many as it takes.
    """
    needed = 0
    for number, moment in enumerate(sorted(moments), 1):
        needed = max(needed, number - max(0, moment - now) // rate.interval)
        if most is not None and needed >= most:
            return most
    return needed


def fill(rate: Rate, instant: int | None, now: int) -> Fill:
    """Return how full a bucket is.

    Args:
        rate: of the bucket.
        instant: as for `taken`.
        now: the time.
    """
    waiting = max(0, (instant or 0) - now)
    used = -(-waiting // rate.interval)
    next_in = waiting - (min(used, rate.count) - 1) * rate.interval if used else 0
    return Fill(min(used, rate.count), max(0, rate.count - used), next_in)
