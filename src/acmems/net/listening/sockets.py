"""Listening sockets: every address of a host or none, and what this machine may lack."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from acmems.net.address import Address

logger = logging.getLogger(__name__)

# Octets of datagrams that wait while the thread is busy; where somebody sends thousands a second, the usual
# 200 KiB are full within some 50 ms, and whoever sends next is not heard. The system may allow fewer.
_DATAGRAM_QUEUE = 1024 * 1024
_BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
_LACKING = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(slots=True)
class BoundSockets:
    """The sockets of a listener, none of them blocking.

    Args:
        streams: listening for connections.
        datagrams: bound to the same addresses and ports, where datagrams are taken too.
    """

    streams: list[socket.socket] = field(default_factory=list)
    datagrams: list[socket.socket] = field(default_factory=list)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where they are bound, real ports included."""
        return tuple(Address(*sock.getsockname()[:2]) for sock in self.streams)

    def close(self) -> None:
        """Close them all."""
        while self.streams or self.datagrams:
            (self.streams or self.datagrams).pop().close()


def bind(
    addresses: Sequence[Address], *, defaults: Sequence[Address] = (), datagrams: bool = False
) -> BoundSockets:
    """Listen on all addresses, or on none.

    What this machine lacks, IPv6 most often, is missed without an error as long as something else can be
    listened on: among the addresses of one host, and among the default addresses, which nobody asked for.

    Args:
        addresses: where to listen; port 0 is any free one.
        defaults: where this kind of listener listens when nobody says anything else.
        datagrams: whether datagrams are taken at the same places.

    Raises:
        OSError: an address cannot be listened on; its `filename` names it.
    """
    bound = BoundSockets()
    is_default = tuple(addresses) == tuple(defaults)
    missed: OSError | None = None
    try:
        for address in addresses:
            try:
                _bind_host(address, bound, datagrams=datagrams)
            except OSError as error:
                if not is_default or error.errno not in _LACKING:
                    raise
                missed = error
                logger.info("this machine does not have %s: not listening there", address)
        if missed is not None and not bound.streams:
            raise missed
    except OSError:
        bound.close()
        raise
    return bound


def _bind_host(address: Address, bound: BoundSockets, *, datagrams: bool) -> None:
    missed: OSError | None = None
    before = len(bound.streams)
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, place in found:
            try:
                _bind_at(family, place, bound, datagrams=datagrams)
            except OSError as error:
                if error.errno not in _LACKING:
                    raise
                missed = error
        if missed is not None and len(bound.streams) == before:
            raise missed
    except OSError as error:
        raise OSError(error.errno, f"cannot listen: {error.strerror or error}", str(address)) from error


def _bind_at(family: int, place: tuple[Any, ...], bound: BoundSockets, *, datagrams: bool) -> None:
    stream = _socket(family, socket.SOCK_STREAM, place)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
        stream.listen(_BACKLOG)
        if datagrams:
            port = stream.getsockname()[1]
            bound.datagrams.append(_socket(family, socket.SOCK_DGRAM, (place[0], port, *place[2:])))
    except OSError:
        stream.close()
        raise
    bound.streams.append(stream)


def _socket(family: int, kind: int, place: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _DATAGRAM_QUEUE)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock
