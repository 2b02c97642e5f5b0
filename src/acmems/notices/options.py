"""The keys that every `[notice "NAME"]` has: which notices go there."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Self, cast

from acmems.notices.notice import CAUSE_KINDS, SEVERITIES, CauseKind, Severity, is_at_least
from acmems.settings import values
from acmems.settings.options import Options

LONGEST_DELIVERY = 600.0
"""Seconds that one try to deliver may take at most: nothing else goes to the same target meanwhile."""
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MOMENT = re.compile(r"([A-Za-z]+)\s+([0-9]{1,2}):([0-9]{2})")
_WEEK = datetime.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class WeeklyMoment:
    """A moment of each week, in UTC.

    Args:
        day: 0 for Monday.
        hour: from 0 to 23.
        minute: from 0 to 59.
    """

    day: int
    hour: int
    minute: int

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read a day and a time, such as `monday 08:00`.

        Raises:
            ValueError: it is something else.
        """
        found = _MOMENT.fullmatch(value)
        days = [] if found is None else [each for each in DAYS if each.startswith(found[1].lower())]
        # "t" and "s" could be two days.
        if found is None or len(days) != 1 or len(found[1]) < 2 or int(found[2]) > 23 or int(found[3]) > 59:  # noqa: PLR2004 - hours and minutes
            raise ValueError(f"{value!r} is no moment of the week, such as monday 08:00")
        return cls(DAYS.index(days[0]), int(found[2]), int(found[3]))

    def last(self, now: datetime.datetime) -> datetime.datetime:
        """Return when that was last, which may be now.

        Args:
            now: the time (aware).
        """
        at = now.astimezone(datetime.UTC)
        today = at.replace(hour=self.hour, minute=self.minute, second=0, microsecond=0)
        moment = today - datetime.timedelta(days=(at.weekday() - self.day) % 7)
        return moment if moment <= at else moment - _WEEK

    def __str__(self) -> str:
        return f"{DAYS[self.day]} {self.hour:02}:{self.minute:02}"


def delivery_seconds(value: str) -> float:
    """Parse how long one try to deliver may take."""
    length = values.seconds(value)
    if length > LONGEST_DELIVERY:
        raise ValueError(f"must be at most {LONGEST_DELIVERY:g} seconds")
    return length


@dataclass(frozen=True, slots=True)
class NoticeRoute:
    """Which notices go to a target.

    Args:
        kinds: of these kinds; none: of all.
        least: none that is less severe.
        weekly: when it gets a summary; None: never.
    """

    kinds: frozenset[CauseKind] = frozenset()
    least: Severity = "warning"
    weekly: WeeklyMoment | None = None

    def takes(self, kind: str, severity: str) -> bool:
        """Tell whether notices of a cause go there.

        Args:
            kind: of the cause.
            severity: the worst that was told of it.
        """
        return (not self.kinds or kind in self.kinds) and is_at_least(severity, self.least)

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read these keys of a section; what is wrong becomes findings."""
        kinds = options.many(
            "for",
            values.choice(*CAUSE_KINDS),
            meaning="what is told: `renewal`: certificates that were to be renewed and are not; `limit`: a "
            "limit of the CA that stops renewals; `account`: the account is refused; `ca`: the CA does not "
            "answer; `state`: the state cannot be written; without this key: all of them",
        )
        least = options.one(
            "least-severity",
            values.choice(*SEVERITIES[1:]),
            "warning",
            meaning="`critical`: only what needs somebody soon; `warning`: all",
        )
        weekly = options.one(
            "weekly",
            WeeklyMoment.parse,
            None,
            meaning="when a summary of the week is sent, in UTC, such as `monday 08:00`; without it: never",
        )
        return cls(frozenset(cast("tuple[CauseKind, ...]", kinds)), cast("Severity", least), weekly)
