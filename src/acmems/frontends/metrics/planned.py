"""When chains are planned to be renewed, for those who look at very many of them."""

from __future__ import annotations

import bisect
import datetime
from array import array
from typing import NamedTuple

_DIGITS = 16  # of a fingerprint, which tell chains apart: there would have to be billions for two of the same


class PlannedTime(NamedTuple):
    """When a chain is planned to be renewed.

    Args:
        due: when, in seconds since 1970.
        is_told: whether its CA has told that.
    """

    due: int
    is_told: bool


class PlannedTimes:
    """The times of chains, in 16 bytes each."""

    def __init__(self) -> None:
        self._chains = array("Q")
        self._times = array("q")  # twice the seconds, and one more where the CA has told

    def add(self, fingerprint: str, due: datetime.datetime, is_told: bool) -> None:
        """Add a chain, in the order of the fingerprints.

        Args:
            fingerprint: SHA-256 of the leaf, in hex.
            due: when it is to be renewed (aware).
            is_told: whether its CA has told that.
        """
        self._chains.append(number_of(fingerprint))
        self._times.append(2 * int(due.timestamp()) + is_told)

    def of(self, number: int) -> PlannedTime | None:
        """Return the time of a chain by its `number_of`, None where none is planned."""
        place = bisect.bisect_left(self._chains, number)
        if place == len(self._chains) or self._chains[place] != number:
            return None
        return PlannedTime(self._times[place] // 2, bool(self._times[place] % 2))


def number_of(fingerprint: str) -> int:
    """Return a number of 64 bits for a chain."""
    return int(fingerprint[:_DIGITS], 16)
