"""The connections to one CA: how many there are, and who uses which.

What may be sent again is decided in `retries`; here every request is made once, and a failure tells whether
the CA can have seen it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from acmems.exceptions import DeadlinePassed
from acmems.issuers.acme.session.connection import CAConnection
from acmems.issuers.acme.session.origin import Origin
from acmems.issuers.acme.session.proxy import proxy_for
from acmems.issuers.acme.session.sockets import Addresses, tls_context
from acmems.system.clock import Deadline
from acmems.system.steps import OWNER, OwnerQueue, Signal, StepLoop, Steps

T = TypeVar("T")


class Transport:
    """At most so many connections to one origin, each used for one request at a time.

    How many are used grows with the distance of the CA: by Little's law, `RATE` requests a second take `RATE`
    times the seconds of one response. To a CA that is near, more than a few would only queue there what can
    queue here, and there are CAs that this brings down (Pebble 2.10 locks itself up). The distance is the
    shortest response of late, since the usual one tells as much about the load that this server makes.

    Args:
        origin: the CA.
        loop: runs the steps.
        ca_file: PEM file with trust anchors beside those of the system.
        connections: how many connections there are at most.
        try_limit: seconds that one request may take, however slowly its response drips.

    Raises:
        ValueError: the file of trust anchors, or the proxy of the environment, cannot be used.
    """

    FEW = 4
    RATE = 600.0  # requests a second
    _FADING = 1.02  # what the shortest response grows by with each one that is longer

    def __init__(
        self,
        origin: Origin,
        loop: StepLoop,
        *,
        ca_file: Path | None = None,
        connections: int = 64,
        try_limit: float = 30.0,
    ) -> None:
        context, proxy = tls_context(ca_file), proxy_for(origin)
        self._loop = loop
        addresses = Addresses(loop.clock)
        self._connections = tuple(
            CAConnection(origin, context, proxy, addresses=addresses, try_limit=try_limit, loop=loop)
            for _ in range(connections)
        )
        # The one that was used last is used next: few stay warm, others are never made.
        self._free = list(self._connections)
        self._queue: OwnerQueue[Signal] = OwnerQueue()  # who waits for a free one
        self._shortest = math.inf  # seconds of a response of late

    def use(self, deadline: Deadline, work: Callable[[CAConnection], Steps[T]]) -> Steps[T]:
        """Do some work with a connection, waiting for a free one if need be.

        Args:
            deadline: when waiting is over.
            work: gets the connection.

        Raises:
            DeadlinePassed: no connection became free in time.
        """
        yield from self._admit(deadline)
        connection = self._free.pop()
        since = self._loop.clock.monotonic()
        try:
            result = yield from work(connection)
            # Only here: a request that fails at once says nothing about the distance.
            took = self._loop.clock.monotonic() - since
            self._shortest = min(took, self._shortest * self._FADING)
            return result
        finally:
            self._free.append(connection)
            self._call_next()

    def close(self) -> None:
        """End every exchange now, with a `Failure`, and begin no other. For any thread."""
        for connection in self._connections:
            connection.forbid()
        self._loop.soon(self._abort)

    def _abort(self) -> None:
        for connection in self._connections:
            connection.abort()
        for connection in self._free:
            connection.close()

    def _admit(self, deadline: Deadline) -> Steps[None]:
        """Wait until one more request helps; those for whom requests are made take turns."""
        if not self._queue and self._has_room():
            return
        turn, owner = Signal(), OWNER.get()
        self._queue.put(turn, owner)
        while not (turn.is_set() and self._has_room()):
            turn.clear()
            if not (yield turn.wait(deadline.remaining)):
                self._queue.remove(turn, owner)
                self._call_next()
                raise DeadlinePassed("all connections to the CA were busy until the deadline")
        self._queue.remove(turn, owner)
        self._call_next()

    def _call_next(self) -> None:
        if self._queue and self._has_room():
            self._queue.first.set()

    def _has_room(self) -> bool:
        """Tell whether one more request helps."""
        used = len(self._connections) - len(self._free)
        wanted = self.FEW if self._shortest == math.inf else self.RATE * self._shortest
        return bool(self._free) and used < max(self.FEW, wanted)
