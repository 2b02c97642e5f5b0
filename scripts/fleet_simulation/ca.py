"""A CA that counts as Let's Encrypt says it does, by its own means, and knows when it has to revoke.

Nothing here is taken from the code that is tried: an order that the ledger should not have let pass is seen.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from scripts.fleet_simulation.plan import DAY, HOUR, ORDERS_PERIOD, START, WEEK, Plan

_EPSILON = 1e-6  # of a place, for what floats lose
_MOST_WINDOWS = 50_000
_SHORT = 10 * DAY
EXPLANATION = "https://ca.example/incident"


@dataclass
class Time:
    """The simulated time."""

    now: datetime.datetime = START


@dataclass(frozen=True, slots=True)
class SuggestedWindow:
    """What the CA says about a certificate (RFC 9773 section 4.2)."""

    start: datetime.datetime
    end: datetime.datetime
    explanation: str
    retry_after: float | None
    said: tuple[int, int, str | None]

    @classmethod
    def of(
        cls, start: datetime.datetime, end: datetime.datetime, explanation: str, retry_after: float
    ) -> SuggestedWindow:
        """Return the answer for a window."""
        said = (int(start.timestamp()), int(end.timestamp()), explanation or None)
        return cls(start, end, explanation, retry_after, said)


class IssuedLeaf(NamedTuple):
    """A certificate, as far as the CA needs to know it.

    Args:
        fingerprint: the first half of it decides whether it is one of those that are to be revoked.
        lifetime: how long it is valid.
        ends_at: until when, in seconds since 1970.
    """

    fingerprint: str
    lifetime: datetime.timedelta
    ends_at: int


class CountingCA:
    """The CA.

    Args:
        time: what time it is.
        plan: when it is away and when it has to revoke, and which limits it has.

    Attributes:
        broken: orders that a limit did not allow, by that limit.
        orders: orders, by the day.
        counted: those of them that are no exempt renewals, by the day.
        outside: renewals that name a predecessor but are outside its window, so that they count.
        questions: how often it was asked about renewal.
    """

    def __init__(self, time: Time, plan: Plan) -> None:
        self._time = time
        self._overrides = plan.overrides
        self._outage = None if plan.outage is None else START + plan.outage * DAY
        self._revocation = None if plan.revoke is None else START + plan.revoke * DAY + 9 * HOUR
        self._retry_after = plan.retry_after * 3600
        self._levels: dict[tuple[str, str], tuple[float, datetime.datetime]] = {}
        self._replaced: dict[str, datetime.datetime] = {}  # until when it matters, by fingerprint
        self._make_windows()
        self.broken: Counter[str] = Counter()
        self.orders: Counter[int] = Counter()
        self.counted: Counter[int] = Counter()
        self.outside = 0
        self.questions = 0

    def __getstate__(self) -> dict[str, object]:
        """Return all but the windows, which can be made again."""
        return {name: each for name, each in vars(self).items() if name not in {"_windows", "_incident"}}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._make_windows()

    def _make_windows(self) -> None:
        self._windows: dict[tuple[datetime.timedelta, int], SuggestedWindow] = {}
        self._incident: SuggestedWindow | None = None
        if self._revocation is not None:
            # One window for all, which is over when they have to be revoked (Baseline Requirements 4.9.1.1).
            start, end = self._revocation - HOUR, self._revocation + 5 * DAY
            self._incident = SuggestedWindow.of(start, end, EXPLANATION, self._retry_after)

    @property
    def is_away(self) -> bool:
        """Whether it does not answer."""
        return self._outage is not None and self._outage <= self._time.now < self._outage + DAY

    def window(self, leaf: IssuedLeaf) -> SuggestedWindow:
        """Return when to renew: about two thirds of the lifetime, or half of a short one."""
        return self.window_of(*leaf)

    def window_of(self, fingerprint: str, lifetime: datetime.timedelta, ends_at: int) -> SuggestedWindow:
        """Return the same as `window`, for what an `IssuedLeaf` has."""
        if self._incident is not None and self._is_to_be_revoked(fingerprint, lifetime, ends_at):
            return self._incident
        key = lifetime, ends_at
        known = self._windows.get(key)
        if known is None:
            if len(self._windows) > _MOST_WINDOWS:
                self._windows.clear()
            left = lifetime / (2 if lifetime < _SHORT else 3)
            ideal = datetime.datetime.fromtimestamp(ends_at, datetime.UTC) - left
            part = lifetime / 100
            known = self._windows[key] = SuggestedWindow.of(ideal - part, ideal + part, "", self._retry_after)
        return known

    def _is_to_be_revoked(self, fingerprint: str, lifetime: datetime.timedelta, ends_at: int) -> bool:
        """Tell whether it is of the tenth that the CA has to revoke, and the CA knows that by now."""
        at = self._revocation
        if at is None or self._time.now < at or int(fingerprint[:6], 16) % 10:
            return False
        return datetime.datetime.fromtimestamp(ends_at, datetime.UTC) - lifetime < at

    def order(self, name: str, old: IssuedLeaf | None, *, replaces: bool) -> bool:
        """Take an order, and tell whether the limits allow it.

        Args:
            name: the only name.
            old: the certificate for the same name that is valid still, None for a new machine.
            replaces: whether the order names that.
        """
        now, day = self._time.now, (self._time.now - START) // DAY
        self.orders[day] += 1
        if old is not None and replaces and old.fingerprint not in self._replaced:
            window = self.window(old)
            if window.start <= now <= window.end:
                self._replaced[old.fingerprint] = window.end
                return True
            self.outside += 1
        self.counted[day] += 1
        wanted = [("certificates per names", name, self._overrides.per_names, WEEK)]
        if old is None:
            domain = name.partition(".")[2]
            wanted.append(("orders", "", self._overrides.orders, ORDERS_PERIOD))
            wanted.append(("certificates per domain", domain, self._overrides.per_domain, WEEK))
        full = [
            kind
            for kind, subject, count, period in wanted
            if self._level(kind, subject, count, period) > count - 1 + _EPSILON
        ]
        self.broken.update(full)
        if full:
            return False
        for kind, subject, count, period in wanted:
            self._levels[kind, subject] = (self._level(kind, subject, count, period) + 1, now)
        return True

    def forget(self) -> None:
        """Forget what does not matter any more; called once a day."""
        now = self._time.now
        self._replaced = {each: until for each, until in self._replaced.items() if until >= now}
        self._levels = {each: level for each, level in self._levels.items() if level[1] > now - WEEK}

    def _level(self, kind: str, subject: str, count: int, period: datetime.timedelta) -> float:
        """Return how full a bucket is that leaks steadily."""
        level, at = self._levels.get((kind, subject), (0.0, self._time.now))
        return max(0.0, level - (self._time.now - at) / period * count)
