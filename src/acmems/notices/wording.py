"""How times, numbers and names are told to a person."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

_SHOWN_NAMES = 3
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))
_FEW = 2  # of a unit; of fewer the next smaller unit says more


def moment(at: datetime.datetime) -> str:
    """Return a time (aware) for a person, in UTC."""
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"


def rfc3339(at: datetime.datetime) -> str:
    """Return a time (aware) for a program, in UTC."""
    return at.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def span(length: datetime.timedelta) -> str:
    """Return a length of time in one unit, rounded down: `4 days`, `36 hours`."""
    seconds = int(abs(length).total_seconds())
    for size, unit in _UNITS:
        if seconds >= _FEW * size:
            return f"{seconds // size} {unit}s"
    return "a minute" if seconds >= _UNITS[-1][0] else "less than a minute"


def from_now(at: datetime.datetime, now: datetime.datetime) -> str:
    """Return how far a time (aware) is away: `in 4 days`, `2 hours ago`."""
    return f"in {span(at - now)}" if at > now else f"{span(now - at)} ago"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number and what it is of: `1 certificate`, `1,000 certificates`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str]) -> str:
    """Return the first names of a certificate, and how many there are beside them."""
    more = len(names) - _SHOWN_NAMES
    words = ", ".join(names[:_SHOWN_NAMES])
    return f"{words} and {more} more" if more > 0 else words
