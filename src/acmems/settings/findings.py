"""Problems of configuration files, each at the line that it is about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Location:
    """A line of a file, counted from 1; line 0 stands for what is no file."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


NOWHERE = Location("", 0)


@dataclass(frozen=True, order=True, slots=True)
class Finding:
    """A problem at one line; a warning does not make the configuration unusable."""

    location: Location
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.location}: {'warning: ' if self.warning else ''}{self.message}"


def hint(word: str, known: Iterable[str]) -> str:
    """Return what to add to a message about an unknown word: the nearest known one, or all of them."""
    candidates = sorted(known)
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    near = difflib.get_close_matches(word.lower(), by_lower_case, n=1)
    if near:
        return f", did you mean '{by_lower_case[near[0]]}'?"
    return f" (known: {', '.join(candidates)})" if candidates else ""
