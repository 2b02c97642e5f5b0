"""A listener: its sockets, its connections, and the one thread that serves them."""

from __future__ import annotations

import errno
import functools
import ipaddress
import logging
import math
import select
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Self

from acmems.net.address import Address
from acmems.net.listening.channel import ClientSocket
from acmems.net.listening.connection import Connection, Occupancy, StreamService
from acmems.net.listening.limits import ListenerLimits, beyond_share, is_spare, spare
from acmems.net.listening.loop import EventLoop
from acmems.net.listening.sockets import BoundSockets, bind
from acmems.system.clock import SYSTEM, Clock, Deadline

logger = logging.getLogger(__name__)

_BATCH = 16  # connections accepted before others have their turn
_COMPLAIN_SECONDS = 10.0  # between two lines that say that nothing can be accepted
_DRAIN_SECONDS = 0.02  # between two looks at what is still going on
_RESTING = frozenset({Occupancy.NEW, Occupancy.SERVED})
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Listens on some addresses, and lets a protocol serve what connects there.

    Beyond the limit of connections, clients wait in the kernel's backlog. For each of them one connection is
    ended that can be spared, and no more; where there is none, they wait until a place is free.

    Args:
        name: what it is called in the log.
        addresses: where to listen; port 0 is any free one.
        service: makes something of each connection.
        limits: how much is taken on.
        defaults: where this kind of listener listens when nobody says anything else; what this machine lacks
            of those is missed without an error.
        datagrams: takes the datagrams that come to a socket on one of the same addresses; None for no such
            sockets.
        clock: for deadlines.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[Address],
        service: StreamService,
        *,
        limits: ListenerLimits | None = None,
        defaults: Sequence[Address] = (),
        datagrams: Callable[[socket.socket], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.clock = clock
        self.limits = limits or ListenerLimits()
        self.addresses: tuple[Address, ...] = ()
        self.is_draining = False
        self.is_crowded = False
        self._wanted = tuple(addresses)
        self._defaults = tuple(defaults)
        self._service = service
        self._datagrams = datagrams
        self._sockets = BoundSockets()
        self._connections: dict[int, Connection] = {}
        self._spare: deque[tuple[float, Connection]] = deque()
        self._is_exhausted = False  # what accepting needs is lacking: descriptors, most often
        self._is_resuming = False
        self._complained = -math.inf
        self._loop = EventLoop(f"acmems-{name}", clock, self.limits.tick_seconds, self._tick)

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The open connections."""
        return tuple(self._connections.values())

    def is_healthy(self) -> bool:
        """Tell whether its thread lives."""
        return self._loop.is_running

    def bind(self) -> None:
        """Take all addresses, or none.

        Raises:
            OSError: one cannot be taken; its `filename` names it.
        """
        self._sockets = bind(self._wanted, defaults=self._defaults, datagrams=self._datagrams is not None)
        self.addresses = self._sockets.addresses

    def start(self) -> None:
        """Serve, from now until `close`."""
        for sock in self._sockets.streams:
            self._loop.watch(sock.fileno(), select.EPOLLIN, functools.partial(self._accept, sock))
        if self._datagrams is not None:
            for sock in self._sockets.datagrams:
                self._loop.watch(sock.fileno(), select.EPOLLIN, functools.partial(self._datagrams, sock))
        self._loop.start()

    def open(self) -> Self:
        """Take all addresses and serve.

        Raises:
            OSError: an address cannot be taken; its `filename` names it.
        """
        try:
            self.bind()
        except OSError:
            self.close()
            raise
        self.start()
        return self

    def stop_accepting(self) -> None:
        """Take no further connections, and close those on which nothing is going on."""
        self._loop.perform(self._stop_accepting)

    def drain(self, deadline: Deadline) -> bool:
        """Wait until everything that was asked for is done; tell whether it all is.

        Args:
            deadline: when to give up.
        """
        while any(one.occupancy is not Occupancy.LEAVING for one in self.connections):
            if deadline.passed:
                return False
            self.clock.sleep(min(_DRAIN_SECONDS, deadline.remaining))
        return True

    def close(self) -> None:
        """Stop serving and close every connection; more calls change nothing."""
        if not self._loop.stop():
            return  # its descriptors must not become another's under its hands
        self._close_sockets()
        for connection in self.connections:
            connection.close()
        self._loop.close()

    # What follows is for the thread that serves.

    def release(self, connection: Connection) -> None:
        """Forget a connection that closes, before its descriptor becomes another's."""
        number = connection.channel.number
        self._loop.forget(number)
        if self._connections.pop(number, None) and self.is_crowded and not self._is_exhausted:
            self._resume_soon()

    def wake(self, connection: Connection) -> None:
        """Have a connection proceed soon; from any thread."""
        self._loop.submit(functools.partial(self._proceed, connection))

    def turn(self) -> bool:
        """Do what can be done at once, where no thread was started; tell whether there was something."""
        return self._loop.turn(0)

    def admit(self, sock: socket.socket, peer: tuple[str, int]) -> Connection:
        """Take on a connected socket, and let its connection go on at once.

        Args:
            sock: the socket.
            peer: address and port of its client.
        """
        connection = self._service.connection(self, ClientSocket(sock), peer)
        self._connections[connection.channel.number] = connection
        self._loop.arm()
        self._proceed(connection)
        return connection

    def _proceed(self, connection: Connection) -> None:
        self._step(connection, connection.proceed)

    def _step(self, connection: Connection, step: Callable[[], None]) -> None:
        """Take a step with a connection, and wait for what it awaits then; a bug there hurts no other."""
        if connection.is_closed:
            return
        try:
            step()
            if self.is_draining:
                _retire(connection)
            if not connection.is_closed:
                self._watch(connection)
        except Exception:
            logger.exception("%s: a bug: a connection is closed because of it", self.name)
            connection.close()

    def _watch(self, connection: Connection) -> None:
        wanted = connection.awaits
        if wanted is connection.watched:
            return
        if connection.watched is None:
            step = functools.partial(self._proceed, connection)
            self._loop.watch(connection.channel.number, wanted.value, step)
        else:
            self._loop.change(connection.channel.number, wanted.value)
        connection.watched = wanted

    def _accept(self, sock: socket.socket) -> None:
        """Accept what waits, within the limits."""
        for _ in range(_BATCH):
            if self._is_full and not self._make_room(sock):
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
            self.admit(connected, (_unmapped(peer[0]), peer[1]))

    @property
    def _is_full(self) -> bool:
        return len(self._connections) >= self.limits.connections

    def _make_room(self, sock: socket.socket) -> bool:
        """End the connection that can best be spared if someone waits; tell whether there is a place now."""
        if not _is_awaited(sock):
            return False
        if self._end_spare():
            return True
        self._pause()
        return False

    def _end_spare(self) -> bool:
        now = self.clock.monotonic()
        while self._spare:
            since, connection = self._spare.popleft()
            is_same = not connection.is_closed and connection.since == since
            if is_same and is_spare(connection, self.limits, now) and not connection.is_overlooked():
                self._step(connection, connection.give_way)
                if connection.is_closed:
                    return True
        return False

    def _pause(self) -> None:
        """Let clients wait in the backlog until there is room."""
        if not self.is_crowded:
            self.is_crowded = True
            for sock in self._sockets.streams:
                self._loop.change(sock.fileno(), 0)
        self._loop.arm()

    def _resume_soon(self) -> None:
        if not self._is_resuming:
            self._is_resuming = True
            self._loop.soon(self._resume)

    def _resume(self) -> None:
        """Take those who wait, and wait for further ones if there is room for them then."""
        self._is_resuming = False
        if not self.is_crowded:
            return
        for sock in self._sockets.streams:
            self._accept(sock)
        self._sockets.streams.append(self._sockets.streams.pop(0))  # the next place is for the next address
        if not self._is_full and not self._is_exhausted:
            self.is_crowded = False
            for sock in self._sockets.streams:
                self._loop.change(sock.fileno(), select.EPOLLIN)

    def _tick(self) -> None:
        """Enforce deadlines and limits."""
        now = self.clock.monotonic()
        late = [one for one in self._connections.values() if one.deadline <= now]
        for connection in late:
            if not connection.is_overlooked():
                self._step(connection, connection.expire)
        if len(self._connections) > self.limits.share:
            for connection in beyond_share(self._connections.values(), self.limits, now):
                if not connection.is_overlooked():
                    self._step(connection, connection.give_way)
        self._spare.clear()
        if self._is_full or self.is_crowded:
            found = spare(self._connections.values(), self.limits, now)
            self._spare.extend((connection.since, connection) for connection in found)
        if self.is_crowded:
            if self._is_exhausted and any(map(_is_awaited, self._sockets.streams)):
                self._end_spare()
            self._is_exhausted = False
            self._resume()
        if self._connections or self.is_crowded:
            self._loop.arm()

    def _stop_accepting(self) -> None:
        self.is_draining = True
        self.is_crowded = False
        self._close_sockets()
        for connection in self.connections:
            self._step(connection, _nothing)

    def _close_sockets(self) -> None:
        for sock in (*self._sockets.streams, *self._sockets.datagrams):
            self._loop.forget(sock.fileno())
        self._sockets.close()

    def _complain(self, error: OSError) -> None:
        now = self.clock.monotonic()
        if now >= self._complained + _COMPLAIN_SECONDS:
            self._complained = now
            logger.warning("%s: no further connection can be accepted: %s", self.name, error.strerror)

    def __repr__(self) -> str:
        return f"Listener({self.name!r}, {', '.join(map(str, self.addresses))})"


def _retire(connection: Connection) -> None:
    """Close a connection on which nothing is going on."""
    if connection.occupancy in _RESTING and not connection.is_closed and not connection.is_overlooked():
        connection.close()


def _nothing() -> None:
    """Take the step that changes nothing."""


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
