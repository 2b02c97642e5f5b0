"""When a chain is to be renewed, as pure rules: by its CA's word if there is one, else by its lifetime."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TypeVar

Time = TypeVar("Time", datetime.datetime, int)

LEAST_ASKING = 60.0
"""Seconds. No CA is asked about a certificate again earlier, whatever it says (RFC 9773 section 4.3.2)."""
MOST_ASKING = 86_400.0
"""Seconds. A CA is asked about each certificate at least as often: it may have to revoke that."""
USUAL_ASKING = 21_600.0
"""Seconds, where a CA does not say when to ask again."""

OVERDUE = 0.5
"""A chain is overdue when this share of the time from its renewal's being due to its end is over."""

_SHORT_LIVED = datetime.timedelta(days=10)
_JITTER = 20
"""Part of the time that is left to renew, over which renewals without a CA's word are spread."""

_EARLY = 0.8
"""The part of a window in which renewals begin."""
_LAST_ALARM = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Window:
    """When a CA wants a certificate to be renewed (RFC 9773 section 4.2).

    Args:
        start: the first moment (aware).
        end: the last (aware), later than the first.
    """

    start: datetime.datetime
    end: datetime.datetime

    @property
    def rounded(self) -> Window:
        """The window in whole seconds, as the state keeps it: a CA that names it again means the same."""
        return Window(self.start.replace(microsecond=0), self.end.replace(microsecond=0))

    def moment(self, share: float) -> datetime.datetime:
        """Return a moment in it (section 4.2), which leaves time for another try before its end.

        Args:
            share: a number from 0 to 1, uniformly distributed.
        """
        return self.start + (self.end - self.start) * share * _EARLY

    def has(self, moment: datetime.datetime) -> bool:
        """Tell whether a renewal at this moment is one that the CA wants, so that it may not count it."""
        return self.start <= moment <= self.end


def by_lifetime(
    not_before: datetime.datetime,
    not_after: datetime.datetime,
    share: float,
    within: datetime.timedelta | None = None,
) -> datetime.datetime:
    """Return when to renew a certificate whose CA does not say.

    That is when a third of its lifetime is left, or half where that is under ten days; a little earlier for
    some, so that what was issued at once is not renewed at once.

    Args:
        not_before: when the certificate becomes valid (aware).
        not_after: when it expires (aware).
        share: how much of what is spread is used, from 0 to 1.
        within: what is to be left at most, where somebody has chosen that.
    """
    lifetime = not_after - not_before
    left = lifetime / (2 if lifetime < _SHORT_LIVED else 3)
    left = left if within is None else min(left, within)
    return not_after - left - left / _JITTER * share


def moved(
    before: Window | None, due: datetime.datetime, now: Window, share: float, expires: datetime.datetime
) -> datetime.datetime:
    """Return when to renew after the CA was asked again, in time before the certificate expires.

    A CA that has to revoke may name one window for all, which ends after some of them have expired. Of a
    window that opens only then, nothing is made.

    Args:
        before: the window that the CA has told before, None if it told none.
        due: the moment that was chosen in that.
        now: the window that it tells now.
        share: as for `Window.moment`, for a window that is another.
        expires: when the certificate does (aware).
    """
    if now.start >= expires or (before == now and now.has(due) and due < expires):
        return due
    return Window(now.start, min(now.end, expires)).moment(share)


def effective(by_lifetime: Time, planned: Time | None, *, is_told: bool, is_ahead: bool) -> Time:
    """Return when a chain is renewed, as a time of whatever type is given.

    Args:
        by_lifetime: when its lifetime, or its storage, says so: then whoever asks gets another one.
        planned: when that is planned, None where there is no plan.
        is_told: whether its CA has told when it wants that, so that the plan counts for whoever asks.
        is_ahead: whether it is renewed before somebody asks, as planned.
    """
    return by_lifetime if planned is None or not (is_told or is_ahead) else planned


def overdue_share(due: float, end: float, now: float) -> float:
    """Return which share is over of the time from a renewal's being due to the end of the chain.

    It is below 0 before, and 1 at the end.

    Args:
        due: when it is due, in seconds since 1970.
        end: when the chain expires.
        now: the time.
    """
    return (now - due) / max(1.0, end - due)


def next_question(now: datetime.datetime, retry_after: float | None, share: float) -> datetime.datetime:
    """Return when to ask the CA about a certificate again (section 4.3.2).

    Args:
        now: the time (aware).
        retry_after: as for `asking_pause`.
        share: as for `asking_pause`.
    """
    return now + datetime.timedelta(seconds=asking_pause(retry_after, share))


def asking_pause(retry_after: float | None, share: float) -> float:
    """Return after how many seconds to ask the CA about a certificate again.

    Questions about many certificates are spread over a tenth of the time, as far as a day allows, so that
    they do not come at once.

    Args:
        retry_after: the seconds that the CA wants, None where it does not say.
        share: how much of what is spread is used, from 0 to 1.
    """
    wanted = USUAL_ASKING if retry_after is None else retry_after
    return min(MOST_ASKING, max(LEAST_ASKING, wanted) * (1 + share / 10))


def alarms(due: datetime.datetime, end: datetime.datetime) -> list[datetime.datetime]:
    """Return when to tell that a chain is overdue.

    That is after a third of the time that is left, and at each halving of the rest.

    Args:
        due: when it was to be renewed (aware).
        end: when it expires (aware).
    """
    left = (end - due) * 2 / 3
    moments = []
    while left >= _LAST_ALARM:
        moments.append(end - left)
        left /= 2
    return moments


def is_to_be_told(
    due: datetime.datetime, end: datetime.datetime, told: datetime.datetime | None, now: datetime.datetime
) -> bool:
    """Tell whether it is time to tell, perhaps again, that a chain is overdue.

    Args:
        due: as for `alarms`.
        end: as for `alarms`.
        told: when it was told last, None while it was not.
        now: the time (aware).
    """
    return any(moment <= now and (told is None or told < moment) for moment in alarms(due, end))
