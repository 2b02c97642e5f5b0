"""JSON documents of commands: times as in RFC 3339, and long lists without having all of them at once."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

from acmems.commands.terminal import tell

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def rfc3339(time: datetime.datetime | None) -> str | None:
    """Return a time (aware) in UTC, to the second; None for none."""
    if time is None:
        return None
    return f"{_utc(time).isoformat(timespec='seconds')}Z"


def for_person(time: datetime.datetime) -> str:
    """Return a time (aware) in UTC as it is written in tables, whose titles say so."""
    return _utc(time).isoformat(" ", "seconds")


def _utc(time: datetime.datetime) -> datetime.datetime:
    return time.astimezone(datetime.UTC).replace(tzinfo=None)


def distance(time: datetime.datetime, now: datetime.datetime) -> str:
    """Return how far a time (aware) is from now, in words: `in 12 d`, `3 h ago`."""
    seconds = int((time - now).total_seconds())
    length, unit = next((each for each in _UNITS if abs(seconds) >= each[0]), _UNITS[-1])
    words = f"{abs(seconds) // length} {unit}"
    return f"in {words}" if seconds > 0 else f"{words} ago"


def print_list(name: str, members: Iterable[Mapping[str, Any]]) -> int:
    """Print an object with one member, a list, one element a line; return how many there are.

    Args:
        name: what the list is called.
        members: its elements; each is printed as it comes.
    """
    lines = map(json.dumps, members)
    line = next(lines, None)
    if line is None:
        tell(json.dumps({name: []}))
        return 0
    tell(f"{{{json.dumps(name)}: [")
    count = 1
    for following in lines:
        tell(f"{line},")
        line = following
        count += 1
    tell(f"{line}\n]}}")
    return count
