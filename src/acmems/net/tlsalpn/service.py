"""The listener for tls-alpn-01: one thread that serves all its connections."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from acmems.net.address import Address
from acmems.net.tlsalpn.connection import HandshakeConnection
from acmems.net.tlsalpn.shown import ChallengeCertificates
from acmems.system.clock import SYSTEM, Clock

logger = logging.getLogger(__name__)

_BACKLOG = 1024  # the kernel cuts it to net.core.somaxconn
_COMPLAIN_SECONDS = 10.0  # between two lines that say that nothing can be accepted
_LACKING = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_JOIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HandshakeLimits:
    """How much is taken on, and for how long.

    Args:
        seconds: after which a connection is closed, whatever it does.
        connections: open ones, in all.
        per_client: connections of one address that have asked for no name on show.
        grace_seconds: for which whoever has just come is not counted there: what forwards to this listener
            has one address, and CAs come in crowds.
        tick_seconds: between two looks at the clock.
    """

    seconds: float = 5.0
    connections: int = 200
    per_client: int = 16
    grace_seconds: float = 1.0
    tick_seconds: float = 0.1


class TlsAlpnService:
    """Makes handshakes for names that are on show; everybody else gets an alert.

    Args:
        addresses: where to listen; port 0 is any free one.
        shown: the proofs on show.
        name: what it is called in the log.
        limits: how much is taken on.
        clock: for deadlines.

    Raises:
        OSError: an address cannot be listened on; `filename` names it.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        shown: ChallengeCertificates,
        *,
        name: str = "tls-alpn-01",
        limits: HandshakeLimits | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self._shown = shown
        self._limits = limits or HandshakeLimits()
        self._clock = clock
        self._stopping = threading.Event()
        self._complained = self._paused_until = -math.inf
        self._connections: set[HandshakeConnection] = set()
        self._is_accepting = False
        self._sockets: list[socket.socket] = []
        try:
            for address in addresses:
                self._sockets += _listen(address)
        except OSError:
            self._close_sockets()
            raise
        self.addresses = tuple(_address(sock) for sock in self._sockets)
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._accept_again()
        self._thread = threading.Thread(target=self._run, name=f"acmems-{name}", daemon=True)
        self._thread.start()

    def is_healthy(self) -> bool:
        """Tell whether its thread still runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop listening, and close every connection; more calls change nothing."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():  # its descriptors must not be given to others under its hands
            return
        os.close(self._wake)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                busy = bool(self._connections) or not self._is_accepting
                for key, _ in self._selector.select(self._limits.tick_seconds if busy else None):
                    self._serve(key.data)
                self._tidy()
        finally:
            for connection in self._connections:
                connection.close()
            self._close_sockets()
            self._selector.close()

    def _serve(self, ready: object) -> None:
        if isinstance(ready, socket.socket):
            self._accept(ready)
        elif isinstance(ready, HandshakeConnection) and not ready.is_closed:
            self._go_on(ready)

    def _accept(self, sock: socket.socket) -> None:
        """Accept what is waiting, within the limits, and read from each connection at once."""
        while self._is_accepting:
            if len(self._connections) >= self._limits.connections:
                self._accept_no_more()
                return
            try:
                connected, peer = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors, most often
                self._complain(error)
                self._accept_no_more()
                self._paused_until = self._clock.monotonic() + self._limits.tick_seconds
                return
            connected.setblocking(False)
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = HandshakeConnection(
                connected,
                peer[0],
                self._shown.find,
                self._clock.deadline(self._limits.seconds),
                self._clock.monotonic(),
            )
            self._connections.add(connection)
            self._selector.register(connected, selectors.EVENT_READ, connection)
            self._go_on(connection)

    def _go_on(self, connection: HandshakeConnection) -> None:
        number = connection.socket.fileno()
        try:
            connection.wake()
        except Exception:  # a bug there hurts no other connection
            logger.exception("a bug: a connection is closed because of it")
            connection.close()
        if connection.is_closed:
            self._forget(connection, number)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.wants_to_write else 0)
        if self._selector.get_key(number).events != wanted:
            self._selector.modify(number, wanted, connection)

    def _close(self, connection: HandshakeConnection) -> None:
        number = connection.socket.fileno()
        connection.close()
        self._forget(connection, number)

    def _forget(self, connection: HandshakeConnection, number: int) -> None:
        self._selector.unregister(number)
        self._connections.discard(connection)

    def _tidy(self) -> None:
        """Close what is over its time or its client's share, and accept again where there is room."""
        now = self._clock.monotonic()
        for connection in [one for one in self._connections if one.deadline.passed]:
            self._close(connection)
        idle = [one for one in self._connections if not one.is_wanted]
        held = Counter(one.client for one in idle)
        for connection in sorted(idle, key=lambda one: one.since):
            is_settled = now - connection.since >= self._limits.grace_seconds
            if is_settled and held[connection.client] > self._limits.per_client:
                held[connection.client] -= 1
                self._close(connection)
        has_room = len(self._connections) < self._limits.connections
        if has_room and not self._is_accepting and now >= self._paused_until:
            self._accept_again()

    def _accept_again(self) -> None:
        for sock in self._sockets:
            self._selector.register(sock, selectors.EVENT_READ, sock)
        self._is_accepting = True

    def _accept_no_more(self) -> None:
        self._is_accepting = False
        for sock in self._sockets:
            self._selector.unregister(sock)

    def _complain(self, error: OSError) -> None:
        now = self._clock.monotonic()
        if now >= self._complained + _COMPLAIN_SECONDS:
            self._complained = now
            logger.warning("%s: no further connection can be accepted: %s", self.name, error.strerror)

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def __repr__(self) -> str:
        return f"TlsAlpnService({self.name!r}, {', '.join(map(str, self.addresses))})"


def _listen(address: Address) -> list[socket.socket]:
    """Listen on every address of a host; those that this machine lacks are missed only if all are."""
    sockets: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, place in found:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(place)
                sock.listen(_BACKLOG)
                sock.setblocking(False)
            except OSError as error:
                if error.errno not in _LACKING:
                    raise
                lacking = error
                sockets.remove(sock)
                sock.close()
        if lacking is not None and not sockets:
            raise lacking
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise OSError(error.errno, f"cannot listen: {error.strerror or error}", str(address)) from error
    return sockets


def _address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port)
