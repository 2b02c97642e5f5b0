"""Whether an address could be listened on, found out without listening there.

A socket that is bound and closed at once takes no connection and no datagram, and nobody sees it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any

from acmems.net.address import Address

LACKING = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""What the system says of addresses that this machine does not have."""


def try_address(address: Address, *, datagrams: bool = False) -> OSError | None:
    """Return why an address cannot be listened on, None if it can.

    A host name stands for those of its addresses that the machine has.

    Args:
        address: the address; with port 0, only its host is tried.
        datagrams: whether datagrams are to be taken there, too.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:  # socket.gaierror is one
        return error
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM) if datagrams else (socket.SOCK_STREAM,)
    outcomes = [list(_failures(family, kinds, place)) for family, _, _, _, place in found]
    failures = [error for outcome in outcomes for error in outcome]
    serious = [error for error in failures if error.errno not in LACKING]
    if serious or all(outcomes):
        return next(iter(serious or failures), None)
    return None


def _failures(family: int, kinds: tuple[socket.SocketKind, ...], place: tuple[Any, ...]) -> Iterator[OSError]:
    for kind in kinds:
        try:
            with socket.socket(family, kind) as sock:
                if kind == socket.SOCK_STREAM:
                    # As listeners do: connections of a server that has ended are not in the way.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(place)
        except OSError as error:
            yield error
