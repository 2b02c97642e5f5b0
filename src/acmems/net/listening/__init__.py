"""One core under all protocols that clients speak here: sockets, limits, deadlines, and the end.

A listener binds, accepts within its limits, waits for all its connections in one thread, enforces deadlines,
ends idle connections for newcomers, and stops in order. A protocol is a `StreamService`: it makes a
`Connection` of what was accepted, which knows what to do with what comes, how long that may take, and how it
uses its place.

- `sockets`: listening sockets, those of a listener and those that are inherited
- `binder`: sockets on every address, what a machine may lack, and what changes
- `channel`: the bytes of one connection
- `connection`: what protocols implement
- `shares`: who has how much of it by address, and whose turn it is, as pure rules
- `limits`: how much is taken on, and who goes first, as pure rules
- `loop`: the thread, what it waits for, its timer
- `balance`: which of several processes accepts
- `acceptor`: taking clients on within the limits
- `plan`: what a listener is to be
- `listener`: all of them together
"""

from __future__ import annotations

from acmems.net.listening.balance import AcceptBalance, ConnectionCounts
from acmems.net.listening.binder import Binder
from acmems.net.listening.channel import ClientSocket, Hangup, Readiness
from acmems.net.listening.connection import Connection, Host, Occupancy, StreamService
from acmems.net.listening.limits import Descriptors, ListenerLimits
from acmems.net.listening.listener import Listener
from acmems.net.listening.plan import ListenerPlan
from acmems.net.listening.sockets import BoundSocket, BoundSockets, SocketPool

__all__ = [
    "AcceptBalance",
    "Binder",
    "BoundSocket",
    "BoundSockets",
    "ClientSocket",
    "Connection",
    "ConnectionCounts",
    "Descriptors",
    "Hangup",
    "Host",
    "Listener",
    "ListenerLimits",
    "ListenerPlan",
    "Occupancy",
    "Readiness",
    "SocketPool",
    "StreamService",
]
