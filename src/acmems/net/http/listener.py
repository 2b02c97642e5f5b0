"""Listening sockets and the thread, or the few, that serve every connection made to them.

They share one epoll object whose events are one-shot: the kernel hands a connection to one of
them, which goes on with it as far as it can and gives it back. A connection that is idle, slow, or
waiting for its answer therefore costs a socket and no thread.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import logging
import math
import os
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from acmems.net.address import Address
from acmems.net.http.connection import ConnectionState, HttpConnection, SharedState
from acmems.net.http.exchange import Application, HttpLimits
from acmems.system.clock import SYSTEM, Clock, Deadline

logger = logging.getLogger(__name__)

_BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
_BATCH = 16  # connections accepted before another thread may accept
_COMPLAIN_SECONDS = 10.0  # between two lines that say that nothing can be accepted
_LACKING = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Serves one application on some addresses.

    Args:
        addresses: where to listen; port 0 is any free one.
        application: answers the requests.
        limits: how much is taken on, and for how long.
        clock: for deadlines.
        name: what it is called in logs.
        threads: how many threads serve; while CPython has its lock, several only wait for each other.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        application: Application,
        *,
        limits: HttpLimits | None = None,
        clock: Clock = SYSTEM,
        name: str = "listener",
        threads: int = 1,
    ) -> None:
        self.name = name
        self._wanted = tuple(addresses)
        self._clock = clock
        self._threads = threads
        self._limits = limits or HttpLimits()
        self._epoll = select.epoll()
        self._service = SharedState(application, self._limits, clock, self._epoll, self._on_close)
        self._sockets: dict[int, socket.socket] = {}
        self._running: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._lock = threading.Lock()  # guards what follows
        self._paused: set[int] = set()
        self._accepting = True
        self._complained = -math.inf

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, real ports included."""
        return [_address(sock) for sock in self._sockets.values()]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._service.open)

    def is_healthy(self) -> bool:
        """Tell whether all its threads live."""
        return all(thread.is_alive() for thread in self._running)

    def bind(self) -> None:
        """Take all addresses, or none.

        Raises:
            OSError: one cannot be taken; its `filename` names it.
        """
        try:
            for address in self._wanted:
                self._sockets.update({sock.fileno(): sock for sock in _listen(address)})
        except OSError:
            self._close_sockets()
            raise

    def start(self) -> None:
        """Serve, from now until `close`."""
        self._epoll.register(self._wake, select.EPOLLIN)
        for number in self._sockets:
            self._epoll.register(number, select.EPOLLIN | select.EPOLLONESHOT)
        targets = [self._serve] * self._threads + [self._reap]
        for number, target in enumerate(targets):
            thread = threading.Thread(target=target, name=f"acmems-{self.name}-{number}", daemon=True)
            thread.start()
            self._running.append(thread)

    def stop_accepting(self) -> None:
        """Take no further connections, and close those on which nothing is going on."""
        with self._lock:
            self._accepting = False
        self._service.draining = True
        for number in self._sockets:
            with contextlib.suppress(OSError):
                self._epoll.unregister(number)
        self._close_sockets()
        for connection in list(self._service.open.values()):
            connection.retire()

    def drain(self, deadline: Deadline) -> bool:
        """Wait until every request is answered; tell whether they all were.

        Args:
            deadline: when to give up.
        """
        while any(
            connection.state is not ConnectionState.LINGERING
            for connection in list(self._service.open.values())
        ):
            if deadline.passed:
                return False
            self._clock.sleep(min(0.02, deadline.remaining))
            for connection in list(self._service.open.values()):
                connection.retire()
        return True

    def close(self) -> None:
        """Stop serving and close every connection."""
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        for thread in self._running:
            if thread is not threading.current_thread():
                thread.join(5.0)
        self._close_sockets()
        for connection in list(self._service.open.values()):
            connection.close()
        self._epoll.close()
        os.close(self._wake)

    def _close_sockets(self) -> None:
        while self._sockets:
            _, sock = self._sockets.popitem()
            sock.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            for number, _ in self._epoll.poll(-1, 1):
                if number in self._sockets:
                    self._accept(number)
                    continue
                connection = self._service.open.get(number)
                if connection is not None:
                    _go_on(connection, connection.wake)

    def _accept(self, number: int) -> None:
        """Accept what is waiting, within the limits, and read from each connection at once."""
        sock = self._sockets.get(number)
        accepted: list[HttpConnection] = []
        full = False
        while sock is not None and len(accepted) < _BATCH:
            full = self.connections >= self._limits.connections
            if full:
                break
            try:
                connected, peer = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError as error:
                full = error.errno in _FULL
                if full:
                    self._complain(error)
                break
            connected.setblocking(False)
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.append(HttpConnection(self._service, connected, (_peer(peer[0]), peer[1])))
        self._resume(number, full=full)
        for connection in accepted:
            _go_on(connection, connection.start)

    def _complain(self, error: OSError) -> None:
        now = self._clock.monotonic()
        with self._lock:
            if now < self._complained + _COMPLAIN_SECONDS:
                return
            self._complained = now
        logger.warning("no further connection can be accepted: %s", error.strerror)

    def _resume(self, number: int, *, full: bool) -> None:
        """Wait for the next connection, or for room for one."""
        with self._lock:
            if not self._accepting:
                return
            if full:
                self._paused.add(number)
                return
            self._paused.discard(number)
            with contextlib.suppress(OSError):
                self._epoll.modify(number, select.EPOLLIN | select.EPOLLONESHOT)

    def _on_close(self) -> None:
        if not self._paused:
            return
        with self._lock:
            paused, self._paused = self._paused, set()
        for number in paused:
            self._resume(number, full=False)

    def _reap(self) -> None:
        """Enforce deadlines, and the limits of what may be unproductive."""
        while not self._clock.wait(self._stopping, self._limits.tick_seconds):
            now = self._clock.monotonic()
            for connection in list(self._service.open.values()):
                _go_on(connection, functools.partial(connection.expire, now))
            self._make_room(now)

    def _make_room(self, now: float) -> None:
        """End connections that hold places without asking for anything, oldest first."""
        idle = [connection for connection in list(self._service.open.values()) if connection.unproductive]
        held = Counter(connection.address[0] for connection in idle)
        # Whoever has just come gets its moment: a burst of good clients looks like an attack at first.
        idle = [connection for connection in idle if now - connection.since >= self._limits.grace_seconds]
        idle.sort(key=lambda connection: connection.since)
        for connection in idle:
            address = connection.address[0]
            if held[address] > self._limits.unproductive_per_client:
                held[address] -= 1
                _go_on(connection, connection.sacrifice)
        if not self._paused:
            return
        greatest = max(held.values(), default=0)
        for connection in idle:
            if held[connection.address[0]] >= greatest // 2:
                _go_on(connection, connection.sacrifice)
        self._on_close()


def _go_on(connection: HttpConnection, step: Callable[[], None]) -> None:
    """Take a step with a connection; a bug there hurts no other."""
    try:
        step()
    except Exception:
        logger.exception("a bug: a connection is closed because of it")
        connection.close()


def _listen(address: Address) -> list[socket.socket]:
    """Listen on every address of a host; those that this machine lacks are missed only if all are."""
    sockets: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for family, place in _places(address):
            try:
                sockets.append(_listen_at(family, place))
            except OSError as error:
                if error.errno not in _LACKING:
                    raise
                lacking = error
        if lacking is not None and not sockets:
            raise lacking
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise OSError(error.errno, f"cannot listen: {error.strerror or error}", str(address)) from error
    return sockets


def _places(address: Address) -> list[tuple[int, tuple[Any, ...]]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, place) for family, _, _, _, place in found]


def _listen_at(family: int, place: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _address(sock: socket.socket) -> Address:
    host, port = sock.getsockname()[:2]
    return Address(host, port)


def _peer(host: str) -> str:
    if not host.startswith("::ffff:"):
        return host
    mapped = ipaddress.IPv6Address(host).ipv4_mapped
    return host if mapped is None else str(mapped)
