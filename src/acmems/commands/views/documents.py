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
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def for_person(time: datetime.datetime) -> str:
    """Return a time (aware) in UTC as it is written in tables, whose titles say so."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


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
    count = 0
    before = f"{{{json.dumps(name)}: ["
    for each in members:
        tell(f"{before}{json.dumps(each)}" if count == 0 else f",{json.dumps(each)}")
        count += 1
    tell("]}" if count else f"{before}]}}")
    return count
