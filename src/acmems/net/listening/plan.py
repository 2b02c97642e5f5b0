"""What a listener is to be, before it is one."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from acmems.net.address import Address, IPNetwork
from acmems.net.listening.balance import AcceptBalance
from acmems.net.listening.channel import ClientSocket
from acmems.net.listening.connection import StreamService
from acmems.net.listening.limits import ListenerLimits


@dataclass(frozen=True, slots=True)
class ListenerPlan:
    """What a listener is to be; a running one can become what another plan says.

    Args:
        name: what it is called in the log.
        addresses: where it listens; port 0 is any free one.
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
    """

    name: str
    addresses: tuple[Address, ...]
    service: StreamService
    limits: ListenerLimits = field(default_factory=ListenerLimits)
    defaults: tuple[Address, ...] = ()
    trusted_proxies: tuple[IPNetwork, ...] = ()
    datagrams: Callable[[socket.socket], None] | None = None
    balance: AcceptBalance | None = None
    tls: Callable[[socket.socket], ClientSocket] | None = None
