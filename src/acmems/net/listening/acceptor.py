"""Taking clients on: within the limits, and one for one where there are more clients than places."""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import math
import select
import socket
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from acmems.net.listening.connection import Connection
from acmems.net.listening.limits import ListenerLimits, is_spare, spare
from acmems.net.listening.loop import EventLoop
from acmems.system.clock import Clock

logger = logging.getLogger(__name__)

_BATCH = 16  # connections accepted before others have their turn
_MOST_BATCHES = 256  # of those who wait at a socket that is left
_COMPLAIN_SECONDS = 10.0  # between two lines that say that nothing can be accepted
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts what connects; for the thread of the loop.

    Beyond the limit of connections, clients wait in the kernel's backlog. For each of them one connection is
    ended that can be spared, and no more; where there is none, they wait until a place is free.

    Args:
        name: what the listener is called in the log.
        loop: tells when someone waits.
        clock: for limits.
        limits: how much is taken on.
        connections: the open ones.
        admit: takes on what was accepted, given the socket, and address and port of the client.
        end: ends a connection to make room for others.

    Attributes:
        is_crowded: whether someone waits for a place.
    """

    def __init__(
        self,
        name: str,
        loop: EventLoop,
        clock: Clock,
        limits: ListenerLimits,
        *,
        connections: Mapping[int, Connection],
        admit: Callable[[socket.socket, tuple[str, int]], object],
        end: Callable[[Connection], None],
    ) -> None:
        self.is_crowded = False
        self._name = name
        self._loop = loop
        self._clock = clock
        self._limits = limits
        self._connections = connections
        self._admit = admit
        self._end = end
        self._sockets: deque[socket.socket] = deque()
        self._spare: deque[tuple[float, Connection]] = deque()  # since when they were idle as they were found
        self._crowded_since = self._crowded_until = -math.inf
        self._is_exhausted = False  # what accepting needs is lacking: descriptors, most often
        self._is_resuming = False
        self._complained = -math.inf

    @property
    def is_full(self) -> bool:
        """Whether all places are taken."""
        return len(self._connections) >= self._limits.connections

    def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Accept what connects to these listening sockets from now on."""
        self._sockets.extend(sockets)
        for sock in sockets:
            # While clients wait for places, those of new addresses wait with them.
            events = 0 if self.is_crowded else select.EPOLLIN
            self._loop.watch(sock.fileno(), events, functools.partial(self._accept, sock))

    def leave(self, sockets: Collection[socket.socket]) -> None:
        """Accept nothing more from some of these sockets; before they are closed or become another's.

        Who is connected already and waits there is taken on, as far as there is room: closing the socket
        would reset its connection.
        """
        for sock in sockets:
            if sock in self._sockets:
                for _ in range(_MOST_BATCHES):
                    if self.is_full or self._is_exhausted or not _is_awaited(sock):
                        break
                    self._accept(sock)
                self._sockets.remove(sock)
                self._loop.unwatch(sock.fileno())

    def stop(self) -> None:
        """Accept nothing more; before the sockets are closed."""
        self.leave(tuple(self._sockets))
        self.is_crowded = False

    def note_free_place(self) -> None:
        """Let someone who waits have the place of a connection that has closed."""
        if self.is_crowded and not self._is_exhausted and not self._is_resuming:
            self._is_resuming = True
            self._loop.soon(self._resume)

    def adapt(self, limits: ListenerLimits) -> None:
        """Go by other limits from now on."""
        self._limits = limits

    def look(self, now: float) -> None:
        """Find out who can be spared, and go on accepting if that is possible.

        Args:
            now: the time on the monotonic clock.
        """
        self._spare.clear()
        if self.is_crowded:
            self._crowded_until = now
        if self.is_full or self.is_crowded:
            found = spare(self._connections.values(), self._limits, now, self._crowd(now))
            self._spare.extend((connection.since, connection) for connection in found)
        if self.is_crowded:
            if self._is_exhausted and any(map(_is_awaited, self._sockets)):
                self._end_spare()
            self._is_exhausted = False
            self._resume()

    def _crowd(self, now: float) -> float:
        """Return since when there is a crowd: now, if there was none for some time.

        A crowd whose members come and go one by one for a while is one crowd.
        """
        if now - self._crowded_until > self._limits.crowd_grace_seconds:
            return now
        return self._crowded_since

    def _accept(self, sock: socket.socket) -> None:
        """Accept what waits, within the limits."""
        for _ in range(_BATCH):
            if self.is_full and not self._make_room(sock):
                return
            try:
                connected, peer = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # but for these, it is the next client's own
                if error.errno in _EXHAUSTED:
                    self._complain(error)
                    self._is_exhausted = True
                    self._pause()
                return
            self._admit(connected, (_unmapped(peer[0]), peer[1]))

    def _make_room(self, sock: socket.socket) -> bool:
        """End the connection that can best be spared if someone waits; tell whether there is a place now."""
        if not _is_awaited(sock):
            return False
        if self._end_spare():
            return True
        self._pause()
        return False

    def _end_spare(self) -> bool:
        """End the connection that can best be spared; tell whether there was one."""
        now = self._clock.monotonic()
        crowded_since = self._crowd(now)
        while self._spare:
            since, connection = self._spare.popleft()
            is_same = not connection.is_closed and connection.since == since
            if is_same and is_spare(connection, self._limits, now, crowded_since):
                if not connection.is_overlooked():
                    self._end(connection)
                if connection.is_closed:
                    return True
        return False

    def _pause(self) -> None:
        """Let clients wait in the backlog until there is room."""
        now = self._clock.monotonic()
        self._crowded_since, self._crowded_until = self._crowd(now), now
        if not self.is_crowded:
            self.is_crowded = True
            for sock in self._sockets:
                self._loop.change(sock.fileno(), 0)
        self._loop.arm()

    def _resume(self) -> None:
        """Take those who wait, and wait for further ones if there is room for them then."""
        self._is_resuming = False
        if not self.is_crowded:
            return
        for sock in self._sockets:
            self._accept(sock)
        self._sockets.rotate(-1)  # the next place is for someone at the next address
        if not self.is_full and not self._is_exhausted:
            self.is_crowded = False
            for sock in self._sockets:
                self._loop.change(sock.fileno(), select.EPOLLIN)

    def _complain(self, error: OSError) -> None:
        now = self._clock.monotonic()
        if now >= self._complained + _COMPLAIN_SECONDS:
            self._complained = now
            logger.warning("%s: no further connection can be accepted: %s", self._name, error.strerror)


def _is_awaited(sock: socket.socket) -> bool:
    """Tell whether someone waits to be accepted."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(0))


def _unmapped(host: str) -> str:
    if not host.startswith("::ffff:"):
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)
