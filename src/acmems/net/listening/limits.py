"""How much a listener takes on, and who goes first where that is not enough: rules without I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from acmems.net.listening.connection import Connection, Occupancy

C = TypeVar("C", bound=Connection)

_FEWEST = 8  # places, however few descriptors there are
_RESERVED = (
    160  # descriptors for the CA, the account, the storages, the log and programs; half if there are few
)
_PUBLIC = 6000  # descriptors for each listener that strangers can reach, if there are enough

# Whoever was answered loses nothing but a connection, and a client must expect that; so these go first.
_RANKS = {
    Occupancy.SERVED: 0,
    Occupancy.LEAVING: 0,
    Occupancy.UNREAD: 0,
    Occupancy.NEW: 1,
    Occupancy.ASKING: 1,
}


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """How much one listener takes on.

    Args:
        connections: that are served at the same time; further clients wait.
        waiting: clients that wait for a place, connected and unread. Beyond that, the address of which most
            wait loses one for each that comes.
        grace_seconds: for which a client keeps its place in any case before it has said what it wants, or
            while it may still read its last answer; not where others have fewer places.
        crowd_grace_seconds: the former for those that came with the crowd that waits: where thousands connect
            at once, many are slow to go on, and look like an attack meanwhile.
        tick_seconds: between two looks at deadlines and limits.
        refusals: in a second, after which an address has no further turn until that second is over, as far as
            ticks allow: refusing takes time that others need.
    """

    connections: int = 2000
    waiting: int = 16_000
    grace_seconds: float = 1.0
    crowd_grace_seconds: float = 8.0
    tick_seconds: float = 0.25
    refusals: int = 500

    @property
    def refusals_a_tick(self) -> int:
        """How many refusals an address may cause between two ticks."""
        return max(1, int(self.refusals * self.tick_seconds))

    def within(self, descriptors: int) -> Self:
        """Return these limits, cut to what so many descriptors allow.

        Args:
            descriptors: how many connections may be open, those that wait included.
        """
        connections = max(_FEWEST, min(self.connections, descriptors // 2))
        waiting = max(_FEWEST, min(self.waiting, descriptors - connections))
        return replace(self, connections=connections, waiting=waiting)


@dataclass(frozen=True, slots=True)
class Descriptors:
    """How many connections may be open, so that what all certificates need never lacks a descriptor.

    Args:
        management: at the listener that clients ask at.
        public: at each listener that strangers can reach.
    """

    management: int
    public: int

    @classmethod
    def shared(cls, most: int, public: int) -> Self:
        """Share out the descriptors of the process: half of what is not reserved, or more, is for management.

        Args:
            most: how many the process may have (RLIMIT_NOFILE).
            public: listeners that strangers can reach.
        """
        usable = most - min(_RESERVED, most // 2)
        each = min(_PUBLIC, usable // 2 // public) if public else 0
        return cls(usable - each * public, each)


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
    if occupancy in {Occupancy.LEAVING, Occupancy.UNREAD}:
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
    return sorted((one for one in connections if is_spare(one, limits, now, crowded_since)), key=rank)


def rank(connection: Connection) -> tuple[int, float]:
    """Return what says which of two connections goes first; neither of them is busy."""
    return _RANKS[connection.occupancy], connection.since
