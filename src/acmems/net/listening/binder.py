"""Binding listening sockets: every address of a host or none, and what this machine may lack."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from acmems.net.address import Address
from acmems.net.listening.sockets import BoundSocket, BoundSockets, SocketPool, serves

logger = logging.getLogger(__name__)

# Octets of datagrams that wait while the thread is busy; where somebody sends thousands a second, the usual
# 200 KiB are full within some 50 ms, and whoever sends next is not heard. The system may allow fewer.
_DATAGRAM_QUEUE = 1024 * 1024
_BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
_ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound
_LACKING = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Binder:
    """Binds the sockets of all listeners of a server: at its start, or when its configuration changes.

    What is bound already keeps its socket, whichever listener has it now. A new socket may overlap others of
    this server: so a listener moves from one address to all addresses of its port, or back, without a moment
    at which nobody listens.

    Args:
        pool: sockets to take instead of new ones.
        held: what the server listens on now.
    """

    def __init__(self, pool: SocketPool | None = None, held: Iterable[BoundSocket] = ()) -> None:
        self.pool = pool or SocketPool()
        self._held = list(held)
        self._claimed: list[socket.socket] = []
        self._new: list[socket.socket] = []

    def abort(self) -> None:
        """Let go of what was bound: the change is not made."""
        while self._new:
            self.pool.free(self._new.pop())

    def bind(
        self,
        addresses: Sequence[Address],
        *,
        defaults: Sequence[Address] = (),
        datagrams: bool = False,
        own: Collection[BoundSocket] = (),
    ) -> BoundSockets:
        """Return sockets that listen on all addresses.

        What this machine lacks, IPv6 most often, is missed without an error as long as something else can be
        listened on: among the addresses of one host, and among the default addresses, which nobody asked for.

        Args:
            addresses: where to listen; port 0 is any free one.
            defaults: where this kind of listener listens when nobody says anything else.
            datagrams: whether datagrams are taken at the same places.
            own: what the listener has now; the sockets of an address that stays are not looked up anew.

        Raises:
            OSError: an address cannot be listened on; its `filename` names it. `abort` is to follow.
        """
        bound = BoundSockets(self.pool)
        is_default = tuple(addresses) == tuple(defaults)
        missed: OSError | None = None
        for address in addresses:
            kept = [each for each in own if each.wanted == address]
            try:
                if kept:
                    self._keep(kept, bound)
                else:
                    self._bind_host(address, bound, datagrams=datagrams)
                    self._keep_covered(address, bound, own)
            except OSError as error:
                if not is_default or error.errno not in _LACKING:
                    raise
                missed = error
                logger.info("this machine does not have %s: not listening there", address)
        if missed is not None and not bound.bound:
            raise missed
        return bound

    def _keep(self, kept: Sequence[BoundSocket], bound: BoundSockets) -> None:
        for each in kept:
            if each.socket in self._claimed:
                raise _cannot_listen(each.wanted, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))
            self._claimed.append(each.socket)
        bound.bound += kept

    def _keep_covered(self, address: Address, bound: BoundSockets, own: Collection[BoundSocket]) -> None:
        """Keep what a listener has at one of the addresses that a new socket of it is for."""
        scopes = {
            (each.socket.family, each.socket.type, each.socket.getsockname()[1])
            for each in bound.bound
            if each.wanted == address and each.socket.getsockname()[0] in _ALL
        }
        for sock in (each.socket for each in own):
            scope = (sock.family, sock.type, sock.getsockname()[1])
            if scope in scopes and sock not in self._claimed:
                self._claimed.append(sock)
                bound.bound.append(BoundSocket(sock, address))

    def _bind_host(self, address: Address, bound: BoundSockets, *, datagrams: bool) -> None:
        """Bind to every address of a host that this machine has."""
        missed: OSError | None = None
        is_bound = False
        try:
            found = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, place in found:
                try:
                    if not any(serves(sock, family, place) for sock in bound.streams):
                        self._bind_at(family, place, address, bound, datagrams=datagrams)
                    is_bound = True
                except OSError as error:
                    if error.errno not in _LACKING:
                        raise
                    missed = error
            if missed is not None and not is_bound:
                raise missed
        except OSError as error:
            raise _cannot_listen(address, error) from error

    def _bind_at(
        self, family: int, place: tuple[Any, ...], wanted: Address, bound: BoundSockets, *, datagrams: bool
    ) -> None:
        stream = self._socket(family, socket.SOCK_STREAM, place)
        bound.bound.append(BoundSocket(stream, wanted))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
        stream.listen(_BACKLOG)  # one that is inherited may have a shorter queue
        if datagrams:
            port = stream.getsockname()[1]
            datagram = self._socket(family, socket.SOCK_DGRAM, (place[0], port, *place[2:]))
            datagram.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_QUEUE)
            bound.bound.append(BoundSocket(datagram, wanted))

    def _socket(self, family: int, kind: int, place: tuple[Any, ...]) -> socket.socket:
        """Return the socket for a place: the one that is bound there, one of the pool, or a new one."""
        held = [each.socket for each in self._held if each.socket.type == kind]
        ours = [*held, *(sock for sock in self._new if sock.type == kind)]
        there = [sock for sock in ours if (sock.family, sock.getsockname()) == (family, place)]
        if there and there[0] in self._claimed:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if not there:
            sock = self.pool.take(family, kind, place) or self._new_socket(family, kind, place, held)
            self._new.append(sock)
            there = [sock]
        self._claimed.append(there[0])
        return there[0]

    def _new_socket(
        self, family: int, kind: int, place: tuple[Any, ...], held: Sequence[socket.socket]
    ) -> socket.socket:
        sock = socket.socket(family, kind)
        try:
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            with _overlapping([sock, *held] if held else []):
                sock.bind(place)
                if kind == socket.SOCK_STREAM:
                    sock.listen(_BACKLOG)  # which looks once more whether the address is free
        except OSError:
            sock.close()
            raise
        return sock


def bind(
    addresses: Sequence[Address], *, defaults: Sequence[Address] = (), datagrams: bool = False
) -> BoundSockets:
    """Listen on all addresses, or on none, as `Binder.bind` for a server with one listener.

    Raises:
        OSError: an address cannot be listened on; its `filename` names it.
    """
    binder = Binder()
    try:
        return binder.bind(addresses, defaults=defaults, datagrams=datagrams)
    except OSError:
        binder.abort()
        raise


@contextlib.contextmanager
def _overlapping(sockets: Collection[socket.socket]) -> Iterator[None]:
    """Let sockets overlap in what they are bound to; a process of another user can never join them."""
    before = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in sockets]
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for sock, value in zip(sockets, before, strict=True):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, value)


def _cannot_listen(address: Address, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen: {error.strerror or error}", str(address))
