"""Listening sockets: those of a listener, and those that this process was started with."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from acmems.net.address import Address

_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})


class SocketPool:
    """Sockets that this process was started with, for listeners to take where they listen.

    They are given back and never closed: whoever has opened them, systemd most often, keeps their addresses
    taken, so that they could not be had again.

    Args:
        sockets: the sockets.
    """

    def __init__(self, sockets: Iterable[socket.socket] = ()) -> None:
        self._owned = tuple(sockets)
        self._free = list(self._owned)
        for sock in self._owned:
            sock.setblocking(False)

    @property
    def unused(self) -> tuple[socket.socket, ...]:
        """Those that no listener has."""
        return tuple(self._free)

    def take(self, family: int, kind: int, place: tuple[Any, ...]) -> socket.socket | None:
        """Return the socket that is bound to a place, None if there is none."""
        for sock in self._free:
            if sock.type != kind or sock.family not in _FAMILIES or _is_connected(sock):
                continue
            if serves(sock, family, place):
                self._free.remove(sock)
                return sock
        return None

    def free(self, sock: socket.socket) -> None:
        """Take a socket back, or close it if it is none of these."""
        if sock in self._owned:
            self._free.append(sock)
        else:
            sock.close()


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """A socket, and the address that it was bound for."""

    socket: socket.socket
    wanted: Address


@dataclass(slots=True)
class BoundSockets:
    """The sockets of a listener, none of them blocking: streams, and datagrams where these are taken too.

    Args:
        pool: gets those back that are from there.
        bound: the sockets.
    """

    pool: SocketPool = field(default_factory=SocketPool)
    bound: list[BoundSocket] = field(default_factory=list)

    @property
    def streams(self) -> list[socket.socket]:
        """Those that listen for connections."""
        return [each.socket for each in self.bound if each.socket.type == socket.SOCK_STREAM]

    @property
    def datagrams(self) -> list[socket.socket]:
        """Those that take datagrams."""
        return [each.socket for each in self.bound if each.socket.type == socket.SOCK_DGRAM]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where they are bound, real ports included."""
        return tuple(Address(*sock.getsockname()[:2]) for sock in self.streams)

    def remove(self, sockets: Collection[socket.socket]) -> None:
        """Leave sockets to somebody else."""
        self.bound = [each for each in self.bound if each.socket not in sockets]

    def close(self) -> None:
        """Let go of them all."""
        while self.bound:
            self.pool.free(self.bound.pop().socket)


def serves(sock: socket.socket, family: int, place: tuple[Any, ...]) -> bool:
    """Tell whether a socket is bound to a place, or to `::` for IPv4 as well where the place is 0.0.0.0."""
    return (sock.family, sock.getsockname()) == (family, place) or (
        (sock.family, family) == (socket.AF_INET6, socket.AF_INET)
        and sock.getsockname()[:2] == ("::", place[1])
        and place[0] == "0.0.0.0"  # noqa: S104 - compared, not bound
        and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
