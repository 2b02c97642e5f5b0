"""A listener: its sockets, its connections, and the one thread that serves them."""

from __future__ import annotations

import functools
import logging
import select
import socket
from collections.abc import Callable, Sequence
from typing import Self

from acmems.net.address import Address
from acmems.net.listening.acceptor import Acceptor
from acmems.net.listening.channel import ClientSocket
from acmems.net.listening.connection import Connection, Occupancy, StreamService
from acmems.net.listening.limits import ListenerLimits, beyond_share
from acmems.net.listening.loop import EventLoop
from acmems.net.listening.sockets import BoundSockets, bind
from acmems.system.clock import SYSTEM, Clock, Deadline

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 0.02  # between two looks at what is still going on
_RESTING = frozenset({Occupancy.NEW, Occupancy.SERVED})


class Listener:
    """Listens on some addresses, and lets a protocol serve what connects there.

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

    Attributes:
        addresses: where it listens once it is bound, real ports included.
        is_draining: whether each connection is to end after what it does now.
        shed: how many connections were ended so far to make room for others.
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
        self.addresses: tuple[Address, ...] = ()
        self.is_draining = False
        self.shed = 0
        self.clock = clock
        self._wanted = tuple(addresses)
        self._defaults = tuple(defaults)
        self._service = service
        self._datagrams = datagrams
        self._limits = limits or ListenerLimits()
        self._sockets = BoundSockets()
        self._connections: dict[int, Connection] = {}
        self._loop = EventLoop(f"acmems-{name}", clock, self._limits.tick_seconds, self._tick)
        self._acceptor = Acceptor(
            name,
            self._loop,
            clock,
            self._limits,
            connections=self._connections,
            admit=self.admit,
            end=self._end,
        )

    @property
    def connections(self) -> tuple[Connection, ...]:
        """The open connections."""
        return tuple(self._connections.values())

    @property
    def occupied(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def places(self) -> int:
        """How many connections may be open at once."""
        return self._limits.connections

    @property
    def is_crowded(self) -> bool:
        """Whether there are more clients than places, so that connections are better not kept."""
        return self._acceptor.is_crowded

    def is_healthy(self) -> bool:
        """Tell whether its thread lives and no call hangs."""
        return self._loop.is_healthy()

    def bind(self) -> None:
        """Take all addresses, or none; who connects waits for `start`.

        Raises:
            OSError: one cannot be taken; its `filename` names it.
        """
        self._sockets = bind(self._wanted, defaults=self._defaults, datagrams=self._datagrams is not None)
        self.addresses = self._sockets.addresses
        self._acceptor.listen(self._sockets.streams)
        if self._datagrams is not None:
            for sock in self._sockets.datagrams:
                self._loop.watch(sock.fileno(), select.EPOLLIN, functools.partial(self._datagrams, sock))

    def start(self) -> None:
        """Serve, from now until `close`."""
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

    def wake(self, connection: Connection) -> None:
        """Have a connection proceed soon; from any thread."""
        self._loop.submit(functools.partial(self._proceed, connection))

    # What follows is for the thread that serves, or for a test in its place.

    def turn(self) -> bool:
        """Do what can be done at once; tell whether there was something."""
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

    def release(self, connection: Connection) -> None:
        """Forget a connection that closes, before its descriptor becomes another's."""
        number = connection.channel.number
        self._loop.forget(number)
        self._connections.pop(number, None)
        self._acceptor.note_free_place()

    def _proceed(self, connection: Connection) -> None:
        self._step(connection, connection.proceed)

    def _end(self, connection: Connection) -> None:
        self.shed += 1
        self._step(connection, connection.give_way)

    def _step(self, connection: Connection, step: Callable[[], None]) -> None:
        """Take a step with a connection, and wait for what it awaits then; a bug there hurts no other."""
        if connection.is_closed:
            return
        try:
            step()
            if self.is_draining:
                _retire(connection)
            self._watch(connection)
        except Exception:
            logger.exception("%s: a bug: a connection is closed because of it", self.name)
            connection.close()

    def _watch(self, connection: Connection) -> None:
        """Wait for what a connection awaits, unless it has closed."""
        if connection.is_closed or connection.awaits is connection.watched:
            return
        number, events = connection.channel.number, connection.awaits.value
        if connection.watched is None:
            self._loop.watch(number, events, functools.partial(self._proceed, connection))
        else:
            self._loop.change(number, events)
        connection.watched = connection.awaits

    def _tick(self) -> None:
        """Enforce deadlines and limits."""
        now = self.clock.monotonic()
        for connection in [one for one in self._connections.values() if one.deadline <= now]:
            if not connection.is_overlooked():
                self._step(connection, connection.expire)
        if len(self._connections) > self._limits.share:
            for connection in beyond_share(self._connections.values(), self._limits, now):
                if not connection.is_overlooked():
                    self._end(connection)
        self._acceptor.look(now)
        if self._connections or self.is_crowded:
            self._loop.arm()

    def _stop_accepting(self) -> None:
        self.is_draining = True
        self._close_sockets()
        for connection in self.connections:
            self._step(connection, _nothing)

    def _close_sockets(self) -> None:
        self._acceptor.stop()
        for sock in self._sockets.datagrams:
            self._loop.forget(sock.fileno())
        self._sockets.close()

    def __repr__(self) -> str:
        return f"Listener({self.name!r}, {', '.join(map(str, self.addresses))})"


def _retire(connection: Connection) -> None:
    """Close a connection on which nothing is going on."""
    if not connection.is_closed and connection.occupancy in _RESTING and not connection.is_overlooked():
        connection.close()


def _nothing() -> None:
    """Take the step that changes nothing."""
