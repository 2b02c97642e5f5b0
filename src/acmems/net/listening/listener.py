"""A listener: its sockets, its connections, and the one thread that serves them."""

from __future__ import annotations

import functools
import logging
import select
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Self

from acmems.net.address import Address, IPNetwork
from acmems.net.listening.acceptor import Acceptor
from acmems.net.listening.balance import AcceptBalance
from acmems.net.listening.binder import bind
from acmems.net.listening.channel import ClientSocket, Hangup, Readiness
from acmems.net.listening.connection import Connection, Occupancy, StreamService
from acmems.net.listening.limits import ListenerLimits
from acmems.net.listening.loop import EventLoop
from acmems.net.listening.plan import ListenerPlan
from acmems.net.listening.shares import PROXIES
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
        trusted_proxies: whose connections count for their clients, and not for themselves.
        datagrams: takes the datagrams that come to a socket on one of the same addresses; None for no such
            sockets.
        balance: tells whether another process that listens on the same sockets is to accept; None where there
            is none.
        tls: makes what encrypts a connection; None where connections are not encrypted.
        clock: for deadlines.

    Attributes:
        is_draining: whether each connection is to end after what it does now.
    """

    def __init__(
        self,
        name: str,
        addresses: Sequence[Address],
        service: StreamService,
        *,
        limits: ListenerLimits | None = None,
        defaults: Sequence[Address] = (),
        trusted_proxies: Sequence[IPNetwork] = (),
        datagrams: Callable[[socket.socket], None] | None = None,
        balance: AcceptBalance | None = None,
        tls: Callable[[socket.socket], ClientSocket] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.is_draining = False
        self.clock = clock
        self._wanted = tuple(addresses)
        self._defaults = tuple(defaults)
        self._service = service
        self._channel = tls or ClientSocket
        self._datagrams = datagrams
        self._limits = limits or ListenerLimits()
        self._refusals_a_tick = self._limits.refusals_a_tick
        self._sockets = BoundSockets()
        self._addresses: tuple[Address, ...] = ()  # known after the sockets are closed as well
        self._connections: dict[int, Connection] = {}
        self._loop = EventLoop(f"acmems-{name}", clock, self._limits.tick_seconds, self._tick, self._may_take)
        self._refusals: Counter[str] = Counter()  # by share, since the last tick
        self._acceptor = Acceptor(
            name,
            self._loop,
            clock,
            self._limits,
            connections=self._connections,
            admit=self.admit,
            end=self._end,
            park=self._park,
            trusted_proxies=trusted_proxies,
            balance=balance,
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
            trusted_proxies=plan.trusted_proxies,
            datagrams=plan.datagrams,
            balance=plan.balance,
            tls=plan.tls,
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
        """Whether someone waits for a place."""
        return self._acceptor.is_crowded

    @property
    def waiting(self) -> int:
        """How many clients wait for a place."""
        return self._acceptor.waiting

    @property
    def shed(self) -> int:
        """How many connections were closed for others so far, those aside on which all was done."""
        return self._acceptor.shed

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
        self._loop.soon(self._acceptor.begin)
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
        while self.is_crowded or any(one.occupancy is not Occupancy.LEAVING for one in self.connections):
            if deadline.passed:
                return False
            self.clock.sleep(min(_DRAIN_SECONDS, deadline.remaining))
        return True

    def close(self) -> None:
        """Stop serving and close every connection; more calls change nothing."""
        if not self._loop.stop():
            return  # its descriptors must not become another's under its hands
        self._close_sockets()
        self._acceptor.close()
        for connection in self.connections:
            connection.close()
        self._loop.close()

    def wake(self, connection: Connection) -> None:
        """Have a connection proceed when it is its address's turn; from any thread."""
        self._loop.submit(functools.partial(self.again, connection))

    def hand_over(self, connection: Connection, step: Callable[[], None]) -> None:
        """Have a step taken when it is the turn of a connection's address, open or not; from any thread."""
        self._loop.submit(functools.partial(self._loop.queue, connection.share, step))

    # What follows is for the thread that serves, or for a test in its place.

    def turn(self) -> bool:
        """Do what can be done at once; tell whether there was something."""
        return self._loop.turn(0)

    def admit(self, sock: socket.socket, peer: tuple[str, int], share: str | None = None) -> Connection:
        """Take on a connected socket, and let its connection go on at once.

        Args:
            sock: the socket.
            peer: address and port of its client.
            share: whose share it counts for, where that is known already.
        """
        connection = self._service.connection(self, self._channel(sock), peer)
        connection.share = self._acceptor.share(peer[0]) if share is None else share
        self._acceptor.places.enter(connection.share)
        self._connections[connection.channel.number] = connection
        connection.step = functools.partial(self._take_turn, connection)
        self._loop.arm()
        self._go_on(connection)
        return connection

    def _go_on(self, connection: Connection) -> None:
        """Have a connection proceed: at once where nobody has to queue for that."""
        if self._loop.is_calm and not connection.is_queued and self._may_take(connection.share):
            self._take_turn(connection)
        else:
            self.again(connection)

    def again(self, connection: Connection) -> None:
        """Have a connection proceed when it is its address's turn."""
        if not connection.is_queued:
            connection.is_queued = True
            self._loop.queue(connection.share, connection.step)

    def note_refusal(self, connection: Connection) -> None:
        """Count what a connection has asked for and does not get; who is refused a lot has to wait."""
        if connection.share != PROXIES:
            self._refusals[connection.share] += 1

    def _may_take(self, share: str) -> bool:
        return not self._refusals or self._refusals[share] < self._refusals_a_tick

    def is_awaited(self, connection: Connection) -> bool:
        """Tell whether others wait for the place of a connection, so that it is better not kept."""
        return self._acceptor.is_awaited(connection.share)

    def share(self, connection: Connection, host: str | None) -> bool:
        """Count what a connection of a proxy does as done by one of the proxy's clients.

        Args:
            connection: the proxy's.
            host: the client's address; None: by the proxy again.

        Returns:
            Whether that client may have one more place; if not, nothing changes.
        """
        places = self._acceptor.places
        share = self._acceptor.share(host or connection.peer[0])
        if share == connection.share:
            return True
        if host is not None and not places.may_enter(share, connection.share):
            return False
        places.leave(connection.share)
        places.enter(share)
        connection.share = share
        return True

    def release(self, connection: Connection) -> None:
        """Forget a connection that closes, before its descriptor becomes another's."""
        number = connection.channel.number
        self._loop.forget(number)
        if self._connections.pop(number, None) is not None:
            self._acceptor.places.leave(connection.share)
        self._acceptor.note_free_place()

    def _note_event(self, connection: Connection) -> None:
        """Have a connection proceed on which something has happened."""
        if not connection.is_queued:
            self._go_on(connection)
        elif connection.watched is not Readiness.NOTHING:
            # It waits for its turn: until then nothing of it needs to be told again and again.
            self._loop.change(connection.channel.number, Readiness.NOTHING.value)
            connection.watched = Readiness.NOTHING
        elif connection.channel.hangup() is Hangup.WHOLE:
            connection.close()

    def _take_turn(self, connection: Connection) -> None:
        connection.is_queued = False
        self._step(connection, connection.proceed)

    def _park(self, connection: Connection) -> socket.socket:
        """Take a connection's place, and return its socket, which nobody waits for any more."""
        if connection.watched is not None:
            self._loop.unwatch(connection.channel.number)
        return connection.step_back()

    def _end(self, connection: Connection) -> None:
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
        if connection.is_closed:
            return
        awaits = connection.awaits
        if awaits is Readiness.READABLE and connection.channel.pending:
            awaits = Readiness.READABLE_OR_WRITABLE  # what encrypts it has something to say first
        if awaits is connection.watched:
            return
        number, events = connection.channel.number, awaits.value
        if connection.watched is None:
            self._loop.watch(number, events, functools.partial(self._note_event, connection))
        else:
            self._loop.change(number, events)
        connection.watched = awaits

    def _tick(self) -> None:
        """Enforce deadlines and limits."""
        now = self.clock.monotonic()
        self._refusals.clear()
        for connection in [one for one in self._connections.values() if one.deadline <= now]:
            if not connection.is_overlooked():
                self._step(connection, connection.expire)
        if self.is_draining:
            for connection in self.connections:
                self._step(connection, _nothing)
        self._acceptor.look(now)
        if self._connections or self._acceptor.is_attentive:
            self._loop.arm()

    def _adopt(self, plan: ListenerPlan, sockets: BoundSockets) -> None:
        self._service, self._datagrams, self._limits = plan.service, plan.datagrams, plan.limits
        self._channel = plan.tls or ClientSocket
        self._refusals_a_tick = plan.limits.refusals_a_tick
        self._acceptor.adapt(plan.limits, plan.trusted_proxies)
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
