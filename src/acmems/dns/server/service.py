"""The name server at its sockets: datagrams and connections, answered by one thread."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Sequence
from typing import Any

from acmems.dns.server.answer import Inquiry, read_query, truncated
from acmems.dns.server.rates import Rates, Verdict
from acmems.dns.server.zone import Zone
from acmems.net.address import Address
from acmems.net.listening import (
    ClientSocket,
    Connection,
    Host,
    ListenerLimits,
    ListenerPlan,
    Occupancy,
    Readiness,
)
from acmems.system.clock import SYSTEM, Clock

_LIMITS = ListenerLimits(connections=100, waiting=1000, crowd_grace_seconds=1.0)
_IDLE = 5.0  # seconds that a connection may be silent, or take for a message
_MOST_DATAGRAM = 4096
_AT_ONCE = 64  # datagrams taken from one socket before others have their turn
_MESSAGES_AT_ONCE = 4  # of one connection; there may be a hundred, and datagrams wait for all of them
_PREFIX = 2  # octets of length in front of each message (RFC 1035 section 4.2.2)


def name_server_plan(
    name: str,
    zone: Zone,
    addresses: Sequence[Address],
    rate_limit: int,
    *,
    defaults: Sequence[Address] = (),
    descriptors: int | None = None,
    clock: Clock = SYSTEM,
) -> ListenerPlan:
    """Return what a listener is to be that answers for one zone over UDP and TCP.

    Args:
        name: what it is called in the log.
        zone: what it answers for.
        addresses: where it listens.
        rate_limit: queries a second of one network that are answered in full over UDP.
        defaults: where it listens when nobody says anything else.
        descriptors: how many connections may be open; None: as many as the limits say.
        clock: for limits and idle connections.
    """
    service = NameService(zone, rate_limit, clock)
    return ListenerPlan(
        name,
        tuple(addresses),
        service,
        limits=_LIMITS if descriptors is None else _LIMITS.within(descriptors),
        defaults=tuple(defaults),
        datagrams=service.take_datagrams,
    )


class NameService:
    """Answers for one zone.

    Args:
        zone: what it answers for.
        rate_limit: queries a second of one network that are answered in full over UDP.
        clock: for that limit.
    """

    def __init__(self, zone: Zone, rate_limit: int, clock: Clock = SYSTEM) -> None:
        self.zone = zone
        self._rates = Rates(rate_limit, clock.monotonic)
        self._datagrams: set[socket.socket] = set()  # where some have come

    def connection(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> NameConnection:
        """Return the server's end of a connection that was accepted."""
        return NameConnection(host, channel, peer, self)

    def take_waiting_datagrams(self) -> None:
        """Answer queries that have come meanwhile, so that they do not wait for many connections."""
        for udp in tuple(self._datagrams):
            self.take_datagrams(udp)

    def take_datagrams(self, udp: socket.socket) -> None:
        """Answer the queries that have come to a socket, some of them if there are many."""
        self._datagrams.add(udp)
        for _ in range(_AT_ONCE):
            try:
                query, client = udp.recvfrom(_MOST_DATAGRAM)
            except OSError:  # nothing more; or a client of before is unreachable; or the socket was closed
                return
            verdict = self._rates.take(client[0])
            if client[1] == 0:
                continue
            if verdict is Verdict.TRUNCATE:
                _send(udp, client, truncated(query))
                continue
            inquiry = read_query(query, self.zone)
            if not isinstance(inquiry, Inquiry):
                _send(udp, client, inquiry)
            elif not self.look_elsewhere(inquiry, functools.partial(_send, udp, client)):
                _send(udp, client, inquiry.answer())

    def look_elsewhere(self, query: Inquiry, send: Callable[[bytes], None]) -> bool:
        """Answer a query with what other servers present as well; return False where they present nothing.

        Args:
            query: the query.
            send: called with the answer, by another thread or at once.
        """
        name, others = query.text_name, self.zone.others
        if name is None or others is None:
            return False
        return others.find(name, lambda values: send(query.answer(values)))


def _send(udp: socket.socket, client: Any, reply: bytes | None) -> None:
    """Send a datagram, from any thread; None sends none."""
    if reply is not None:
        with contextlib.suppress(OSError):
            udp.sendto(reply, client)


class NameConnection(Connection):
    """The server's end of one TCP connection (RFC 7766).

    Args:
        host: the listener.
        channel: the client's bytes.
        peer: address and port of the client.
        service: answers for the zone.
    """

    __slots__ = ("_is_waiting", "_received", "_reply", "_service")

    def __init__(
        self, host: Host, channel: ClientSocket, peer: tuple[str, int], service: NameService
    ) -> None:
        super().__init__(host, channel, peer)
        self.deadline = self.since + _IDLE
        self._service = service
        self._received = bytearray()
        self._is_waiting = False  # for an answer that other servers know
        self._reply: bytes | None = None  # that answer, once it is there

    def proceed(self) -> None:
        """Answer what has come, as far as the client takes the answers."""
        self._service.take_waiting_datagrams()
        left = _MESSAGES_AT_ONCE
        try:
            self.channel.flush()
            if self._reply is not None:
                self._send(self._reply)
                self._is_waiting, self._reply = False, None
            left -= self._answer(left)
            if left and not self.channel.pending and not self._is_waiting:
                self._receive()
                self._answer(left)
        except OSError:
            self.close()
        if self.channel.pending:
            self.awaits, self.occupancy = Readiness.WRITABLE, Occupancy.UNREAD
            return
        if self._is_waiting:
            self.awaits, self.occupancy = Readiness.NOTHING, Occupancy.ASKING
            return
        # It is writable: what is left has its turn after all others have had theirs.
        self.awaits = Readiness.WRITABLE if self._has_message() else Readiness.READABLE
        if self._received:
            self.occupancy = Occupancy.ASKING
        elif self.occupancy is not Occupancy.NEW:
            self.occupancy = Occupancy.SERVED

    def _receive(self) -> None:
        data = self.channel.receive()
        if data:
            self._received += data
        elif data is not None:
            self.close()

    def _answer(self, most: int) -> int:
        """Answer complete messages as long as the client takes the answers; return how many they were.

        Args:
            most: messages to answer.
        """
        done = 0
        while done < most and not (self.is_closed or self.channel.pending or self._is_waiting):
            query = self._message()
            if query is None:
                break
            done += 1
            # Only whole messages count: whoever sends octets one by one is silent.
            self.since = self.host.clock.monotonic()
            self.deadline = self.since + _IDLE
            self.occupancy = Occupancy.SERVED
            inquiry = read_query(query, self._service.zone, stream=True)
            if not isinstance(inquiry, Inquiry):
                self._send(inquiry)
            elif self._service.look_elsewhere(inquiry, self._take_reply):
                self._is_waiting = True
            else:
                self._send(inquiry.answer())
        return done

    def _take_reply(self, reply: bytes) -> None:
        """Send an answer when it is the turn of this connection; by any thread."""
        self._reply = reply
        self.host.wake(self)

    def _send(self, reply: bytes | None) -> None:
        if reply is not None:
            self.channel.send(len(reply).to_bytes(_PREFIX, "big") + reply)

    def _has_message(self) -> bool:
        return len(self._received) >= _PREFIX + int.from_bytes(self._received[:_PREFIX], "big")

    def _message(self) -> bytes | None:
        """Take the next complete message from what has come."""
        if not self._has_message():
            return None
        end = _PREFIX + int.from_bytes(self._received[:_PREFIX], "big")
        query = bytes(self._received[_PREFIX:end])
        del self._received[:end]
        return query
