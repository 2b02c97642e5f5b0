"""Connecting to a host with several addresses, some of which may not answer (RFC 8305, Happy Eyeballs)."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest

from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, StepLoop, Steps, Watched

STAGGER = 0.25
"""Seconds after which the next address is tried beside one that has not answered (section 5)."""
HANDSHAKE = 2.0
"""The same where one has answered, and only TLS is not done: some networks lose large packets alone."""
LONGEST = 10.0
"""Seconds that connecting to one address may take, TLS included."""
MEMORY = 600.0
"""Seconds for which the address that won is tried first."""

Place = tuple[int, tuple[str, int]]
"""An address family, and an address with its port."""


class Addresses:
    """In which order the addresses of a host are tried.

    Args:
        clock: for how long what worked is remembered.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._winner: Place | None = None
        self._until = 0.0

    def sort(self, found: Sequence[Place]) -> list[Place]:
        """Return addresses in the order in which they are tried (section 4).

        What worked comes first, and its family; else what the system prefers (RFC 6724), which is IPv6
        wherever the machine has it. From then on the families alternate.

        Args:
            found: as the system sorts them.
        """
        winner = self._winner if self._clock.monotonic() < self._until else None
        first = [winner] if winner in found else []
        rest = [place for place in dict.fromkeys(found) if place not in first]
        family = winner[0] if winner is not None else next((place[0] for place in rest), 0)
        preferred = [place for place in rest if place[0] == family]
        others = [place for place in rest if place[0] != family]
        pairs = zip_longest(others, preferred) if first else zip_longest(preferred, others)
        return [place for place in chain(first, *pairs) if place is not None]

    def note(self, winner: Place) -> None:
        """Remember what worked; for `MEMORY` only, since networks are mended, too."""
        now = self._clock.monotonic()
        if winner != self._winner or now >= self._until:
            self._winner, self._until = winner, now + MEMORY


class Lane:
    """One address that is connected to.

    Args:
        loop: sees the edges of the socket.
        began: when it began, in seconds of the monotonic clock.

    Attributes:
        is_reached: whether the address has answered.
    """

    def __init__(self, loop: StepLoop, began: float) -> None:
        self._loop = loop
        self.began = began
        self.is_reached = False
        self.socket: socket.socket | None = None
        self.watched: Watched | None = None

    def connect(self, place: Place, limit: Deadline) -> Steps[tuple[socket.socket, Watched]]:
        """Make the TCP connection.

        Raises:
            OSError: it failed, or the time is over.
        """
        family, address = place
        sock = self.socket = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
        # Only now: a socket that does not even connect counts as one whose end has come.
        watched = self.watched = self._loop.watch(sock.fileno())
        if not (yield watched.until_writable(limit)):
            raise TimeoutError("timed out")
        if failed := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(failed, os.strerror(failed))
        self.is_reached = True
        return sock, watched

    def abort(self) -> None:
        """End the steps that wait for it, which then let go of it."""
        if self.socket is not None:
            # Not the method of a TLS socket: that would forget its TLS, which steps may be in the middle of.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it; not while steps wait for it."""
        if self.watched is not None:
            self._loop.unwatch(self.watched)
            self.watched = None
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class Race:
    """Connects to the first of some addresses that answers.

    Args:
        loop: runs the steps.
        connect: connects a lane to an address by a deadline, TLS included.
        limit: when to give up.
    """

    def __init__(
        self, loop: StepLoop, connect: Callable[[Lane, Place, Deadline], Steps[None]], limit: Deadline
    ) -> None:
        self._loop = loop
        self._connect = connect
        self._limit = limit
        self._lanes: list[Lane] = []  # those under way
        self._newest: Lane | None = None  # None: there is nothing to wait for before the next one begins
        self._changed = Signal()
        self._won: tuple[Lane, Place] | None = None
        self._failed: BaseException = OSError("its name has no address")  # the last one that did
        self._is_over = False

    def run(self, places: Sequence[Place]) -> Steps[tuple[Lane, Place]]:
        """Return the lane that was first, and its address; all others are given up.

        Args:
            places: in the order in which they are tried.

        Raises:
            OSError: none can be connected to, or not in time, or one has a certificate that is not trusted.
        """
        waiting = deque(places)
        try:
            while self._won is None:
                if self._is_over:
                    raise self._failed
                if self._limit.passed:
                    raise TimeoutError("timed out")
                pause = self._pause()
                if waiting and pause <= 0:
                    self._begin(waiting.popleft())
                elif not self._lanes:
                    raise self._failed
                else:
                    left = self._limit.remaining
                    yield self._changed.wait(min(pause, left) if waiting else left)
                    self._changed.clear()
        finally:
            self._is_over = True
            self._abort_lanes()
        return self._won

    def abort(self) -> None:
        """End it with an OSError."""
        self._is_over = True
        self._failed = ConnectionAbortedError("the connection was ended")
        self._abort_lanes()
        self._changed.set()

    def _abort_lanes(self) -> None:
        for lane in self._lanes:
            lane.abort()

    def _pause(self) -> float:
        """Return the seconds until the next address is tried beside those that are."""
        if self._newest is None:
            return 0.0
        seconds = HANDSHAKE if any(lane.is_reached for lane in self._lanes) else STAGGER
        return self._newest.began + seconds - self._loop.clock.monotonic()

    def _begin(self, place: Place) -> None:
        lane = self._newest = Lane(self._loop, self._loop.clock.monotonic())
        self._lanes.append(lane)
        steps = self._connect(lane, place, self._limit.within(LONGEST))
        self._loop.start(steps, functools.partial(self._ended, lane, place))

    def _ended(self, lane: Lane, place: Place, _: None, error: BaseException | None) -> None:
        self._lanes.remove(lane)
        if lane is self._newest:
            self._newest = None
        if error is None and not self._is_over:
            self._won, self._is_over = (lane, place), True
        else:
            lane.close()
        if error is not None and not self._is_over:
            self._failed = error
            # No other address makes up for a CA that cannot be trusted, nor for a bug.
            self._is_over = isinstance(error, ssl.SSLCertVerificationError) or not isinstance(error, OSError)
        self._changed.set()
