"""How much a listener takes on, and who goes first where that is not enough: rules without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from acmems.net.listening.connection import Connection, Occupancy

C = TypeVar("C", bound=Connection)

_SMALLEST_SHARE = 64

# Whoever was answered loses nothing but a connection, and a client must expect that; so these go first.
_RANKS = {Occupancy.SERVED: 0, Occupancy.LEAVING: 0, Occupancy.NEW: 1, Occupancy.ASKING: 1}


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """How much one listener takes on.

    Args:
        connections: open ones in total; further clients wait in the kernel's backlog.
        per_address: of one address, those that are not busy; None: an eighth of all, at least 64.
        grace_seconds: for which a client keeps its place in any case before it has said what it wants, or
            while it may still read its last answer.
        crowd_grace_seconds: the former for those that came with the crowd that waits, and for shares: where
            thousands connect at once, many are slow to go on, and look like an attack meanwhile.
        tick_seconds: between two looks at deadlines and limits.
    """

    connections: int = 2000
    per_address: int | None = None
    grace_seconds: float = 1.0
    crowd_grace_seconds: float = 8.0
    tick_seconds: float = 0.25

    @property
    def share(self) -> int:
        """How many connections that are not busy one address may hold."""
        if self.per_address is not None:
            return self.per_address
        return max(_SMALLEST_SHARE, self.connections // 8)


def is_spare(connection: Connection, limits: ListenerLimits, now: float, crowded_since: float) -> bool:
    """Tell whether a connection may be ended for a newcomer.

    Who was idle before the crowd came makes room for it. Who came with it is one of it: ending one to take
    another helps nobody, unless nothing comes of it for a long time.

    Args:
        connection: the connection.
        limits: the limits.
        now: the time on the monotonic clock.
        crowded_since: when there began to be more clients than places.
    """
    occupancy, idle = connection.occupancy, now - connection.since
    if occupancy is Occupancy.BUSY:
        return False
    if occupancy is Occupancy.SERVED:
        return True
    if occupancy is Occupancy.LEAVING:
        return idle >= limits.grace_seconds
    came_before = crowded_since - connection.since >= limits.grace_seconds
    return came_before or idle >= limits.crowd_grace_seconds


def spare(connections: Iterable[C], limits: ListenerLimits, now: float, crowded_since: float) -> list[C]:
    """Return the connections that may be ended for newcomers, in this order.

    Those that were served go first, then those that have not asked for anything within their grace; among
    both, whoever is idle longest.

    Args:
        connections: the open ones.
        limits: the limits.
        now: the time on the monotonic clock.
        crowded_since: when there began to be more clients than places.
    """
    return sorted((one for one in connections if is_spare(one, limits, now, crowded_since)), key=_rank)


def beyond_share(connections: Iterable[C], limits: ListenerLimits, now: float) -> list[C]:
    """Return the connections that addresses hold beyond their share, those that go first in front.

    Args:
        connections: the open ones.
        limits: the limits.
        now: the time on the monotonic clock.
    """
    idle = [one for one in connections if one.occupancy is not Occupancy.BUSY]
    if len(idle) <= limits.share:
        return []
    beyond = Counter(one.peer[0] for one in idle)
    beyond.subtract(dict.fromkeys(beyond, limits.share))
    settled = [one for one in idle if now - one.since >= limits.crowd_grace_seconds]
    found = []
    for one in sorted(settled, key=_rank):
        if beyond[one.peer[0]] > 0:
            beyond[one.peer[0]] -= 1
            found.append(one)
    return found


def _rank(connection: Connection) -> tuple[int, float]:
    return _RANKS[connection.occupancy], connection.since
