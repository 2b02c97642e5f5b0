"""Which of several processes that listen on the same sockets accepts, so that all of them have work."""

from __future__ import annotations

import mmap
import threading
from typing import Final

SLACK: Final = 1
"""Connections that a process may have more than another one and still accept."""
ABSENT: Final = 2**32 - 1
"""What stands in the place of a count where nobody accepts."""


class ConnectionCounts:
    """How many connections each process has, in memory that is shared with the processes forked later.

    Each process writes its own count only, in one piece.

    Args:
        seats: how many processes there may be.
    """

    def __init__(self, seats: int) -> None:
        self.seats = seats
        self._counts = memoryview(mmap.mmap(-1, 4 * seats)).cast("I")
        for seat in range(seats):
            self._counts[seat] = ABSENT

    def note(self, seat: int, count: int) -> None:
        """Note how many connections a process has.

        Args:
            seat: its place here.
            count: connections, or `ABSENT`.
        """
        self._counts[seat] = count

    @property
    def least(self) -> int:
        """The least that any process has; `ABSENT` where nobody accepts."""
        return min(self._counts)


class AcceptBalance:
    """What a listener knows of those of the other processes.

    Args:
        counts: the counts of all of them.
        seat: the place of this process there.
    """

    def __init__(self, counts: ConnectionCounts, seat: int) -> None:
        self._counts = counts
        self._seat = seat
        self._lock = threading.Lock()  # guards what follows, which siblings share
        self._own: dict[AcceptBalance, int] = {}

    def sibling(self) -> AcceptBalance:
        """Return that of a further listener of this process: together, they have one count."""
        other = AcceptBalance(self._counts, self._seat)
        other._lock, other._own = self._lock, self._own
        return other

    def note(self, count: int | None) -> None:
        """Let the others know how many connections its listener has; None where that accepts nothing more."""
        with self._lock:
            if count is None:
                self._own.pop(self, None)
            else:
                self._own[self] = count
            self._counts.note(self._seat, sum(self._own.values()) if self._own else ABSENT)

    def is_ahead(self, count: int) -> bool:
        """Tell whether somebody else has so much less to do that it is to accept.

        Args:
            count: connections of its listener.
        """
        with self._lock:
            others = sum(self._own.values()) - self._own.get(self, 0)
        return count + others > self._counts.least + SLACK
