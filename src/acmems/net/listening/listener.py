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
from acmems.net.listening.binder import bind
from acmems.net.listening.channel import ClientSocket
from acmems.net.listening.connection import Connection, Occupancy, StreamService
from acmems.net.listening.limits import ListenerLimits, beyond_share
from acmems.net.listening.loop import EventLoop
from acmems.net.listening.plan import ListenerPlan
from acmems.net.listening.sockets import BoundSocket, BoundSockets
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
        self.is_draining = False
        self.shed = 0
        self.clock = clock
        self._wanted = tuple(addresses)
        self._defaults = tuple(defaults)
        self._service = service
        self._datagrams = datagrams
        self._limits = limits or ListenerLimits()
        self._sockets = BoundSockets()
        self._addresses: tuple[Address, ...] = ()  # known after the sockets are closed as well
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

    @classmethod
    def of(cls, plan: ListenerPlan, clock: Clock = SYSTEM) -> Self:
        """Return a listener that is to be what a plan says, not yet bound.

        Args:
            plan: the plan.
            clock: for deadlines.
        """
        return cls(
            plan.name,
            plan.addresses,
            plan.service,
            limits=plan.limits,
            defaults=plan.defaults,
            datagrams=plan.datagrams,
            clock=clock,
        )

    @property
    def bound(self) -> tuple[BoundSocket, ...]:
        """Its sockets, with the addresses that they were bound for."""
        return tuple(self._sockets.bound)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it listens once it is bound, real ports included."""
        return self._addresses

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
        has_datagrams = self._datagrams is not None
        self._use(bind(self._wanted, defaults=self._defaults, datagrams=has_datagrams))

    def adopt(self, plan: ListenerPlan, sockets: BoundSockets) -> None:
        """Be what a plan says from now on, at these sockets; open connections stay open.

        Sockets that are not among them any more are left as they are, for the caller to close or to give to
        another listener.

        Args:
            plan: the plan.
            sockets: where to listen.
        """
        self._loop.perform(functools.partial(self._adopt, plan, sockets))

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
        """Take no further connections, and close those on which nothing goes on, each after its grace."""
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
                self._retire(connection)
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
        if self.is_draining:
            for connection in self.connections:
                self._step(connection, _nothing)
        self._acceptor.look(now)
        if self._connections or self.is_crowded:
            self._loop.arm()

    def _adopt(self, plan: ListenerPlan, sockets: BoundSockets) -> None:
        self._service, self._datagrams, self._limits = plan.service, plan.datagrams, plan.limits
        self._acceptor.adapt(plan.limits)
        self._use(sockets)

    def _use(self, sockets: BoundSockets) -> None:
        """Listen at these sockets, and no more at those that are not among them."""
        before, now = self._sockets, sockets
        self._acceptor.leave([sock for sock in before.streams if sock not in now.streams])
        for sock in before.datagrams:
            if sock not in now.datagrams:
                self._loop.unwatch(sock.fileno())
        self._acceptor.listen([sock for sock in now.streams if sock not in before.streams])
        for sock in now.datagrams:
            if sock not in before.datagrams:
                step = functools.partial(self._take_datagrams, sock)
                self._loop.watch(sock.fileno(), select.EPOLLIN, step)
        self._sockets, self._addresses = now, now.addresses

    def _take_datagrams(self, sock: socket.socket) -> None:
        if self._datagrams is not None:
            self._datagrams(sock)

    def _retire(self, connection: Connection) -> None:
        """Close a connection on which nothing is going on for the grace, at a stop.

        Whoever has just connected, or has just been answered, may be about to ask.
        """
        if connection.is_closed or connection.occupancy not in _RESTING or connection.is_overlooked():
            return
        if self.clock.monotonic() - connection.since >= self._limits.grace_seconds:
            connection.close()

    def _stop_accepting(self) -> None:
        self.is_draining = True
        self._close_sockets()
        for connection in self.connections:
            self._step(connection, _nothing)

    def _close_sockets(self) -> None:
        self._acceptor.stop()
        for sock in self._sockets.datagrams:
            self._loop.unwatch(sock.fileno())
        self._sockets.close()

    def __repr__(self) -> str:
        return f"Listener({self.name!r}, {', '.join(map(str, self.addresses))})"


def _nothing() -> None:
    """Take the step that changes nothing."""
