"""Who shares what by address: places, those who wait for them, and turns; rules without I/O."""

from __future__ import annotations

import functools
import ipaddress
import itertools
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_LOOKS = (
    256  # shares that are looked at for one that may have a turn, before others are looked at the next time
)

PROXIES = ""
"""The share of all trusted proxies, each of which speaks for many clients."""
_NETWORK_BITS = 64  # of an IPv6 address: one machine may have all addresses below them
_EAGERNESS = 4
"""How many times as many places as are free, but for one, an address may hold.

So one address alone gets four fifths of all places, and the last one is always left for someone who has none.
"""


@functools.lru_cache(maxsize=4096)
def share_of(host: str) -> str:
    """Return whose share an address counts for: its own, or that of its IPv6 network.

    Args:
        host: an IP address; IPv4 in its own form.
    """
    if ":" not in host:
        return host
    try:
        network = ipaddress.IPv6Network((host.partition("%")[0], _NETWORK_BITS), strict=False)
    except ValueError:
        return host
    return str(network)


class Tally:
    """How many each share has; which has most is known at any time.

    Attributes:
        total: how many all of them have.
    """

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[str, int] = {}
        self._having: dict[int, dict[str, None]] = {}  # those who have so many, in the order of becoming so
        self._most = 0

    def count(self, share: str) -> int:
        """Return how many a share has."""
        return self._counts.get(share, 0)

    @property
    def largest(self) -> str | None:
        """The share that has most, None if nobody has any; of several, the last that came to that."""
        return next(reversed(self._having[self._most])) if self._most else None

    def add(self, share: str) -> None:
        """Count one more."""
        before = self._counts.get(share, 0)
        after = self._counts[share] = before + 1
        self.total += 1
        if before:
            self._remove(share, before)
        having = self._having.get(after)
        if having is None:
            self._having[after] = {share: None}
            self._most = max(self._most, after)
        else:
            having[share] = None

    def remove(self, share: str) -> None:
        """Count one less."""
        before = self._counts[share]
        after = before - 1
        self.total -= 1
        self._remove(share, before)
        if after:
            self._counts[share] = after
            self._having.setdefault(after, {})[share] = None
        else:
            del self._counts[share]
        if self._most not in self._having:
            self._most = after

    def _remove(self, share: str, count: int) -> None:
        having = self._having[count]
        del having[share]
        if not having:
            del self._having[count]


class TurnQueue(Generic[T]):
    """A queue from which shares take turns, each with its own things in the order of their arrival.

    Whoever had nothing queued is first, but only once in a round of all others: so who asks for little hardly
    waits, and nobody waits for ever (RFC 8290 section 4.2 does so with packets).
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}
        self._new: deque[str] = deque()  # shares that have not had a turn in this round
        self._old: deque[str] = (
            deque()
        )  # those that have, whose turn is next in front; some have nothing more
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, share: str, thing: T) -> None:
        """Put a thing behind the others of its share."""
        self._count += 1
        queue = self._queues.get(share)
        if queue is None:
            self._queues[share] = deque((thing,))
            self._new.append(share)
        else:
            queue.append(thing)

    def take(self, may: Callable[[str], bool] | None = None) -> T | None:
        """Take the next thing of the share whose turn it is; None if there is nothing to take.

        Args:
            may: tells whether a share may have its turn now; None: each may.
        """
        for _ in range(len(self._new) + len(self._old)):
            share = (self._new or self._old).popleft()
            queue = self._queues[share]
            if not queue:
                del self._queues[share]
                continue
            self._old.append(share)
            if may is None or may(share):
                self._count -= 1
                return queue.popleft()
        return None


class WaitingRoom(Generic[T]):
    """Who waits, by share; shares take turns, and it is known of which most wait."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[T]] = OrderedDict()  # whose turn is next in front
        self._tally = Tally()

    def __len__(self) -> int:
        return self._tally.total

    def __bool__(self) -> bool:
        return bool(self._queues)

    def count(self, share: str) -> int:
        """Return how many of a share wait."""
        return self._tally.count(share)

    @property
    def largest(self) -> str | None:
        """The share of which most wait, None if nobody does."""
        return self._tally.largest

    def shares(self, most: int) -> list[str]:
        """Return so many of the shares of which someone waits, whose turn is next in front."""
        return list(itertools.islice(self._queues, most))

    def add(self, share: str, thing: T) -> None:
        """Let one more wait behind the others of its share."""
        self._tally.add(share)
        queue = self._queues.get(share)
        if queue is None:
            self._queues[share] = deque((thing,))
        else:
            queue.append(thing)

    def take(self, may: Callable[[str], bool]) -> T | None:
        """Take the next one of the share whose turn it is; None if there is nobody to take.

        Args:
            may: tells whether a share may have its turn now.
        """
        for _ in range(min(len(self._queues), _LOOKS)):
            share = next(iter(self._queues))
            if may(share):
                return self.take_of(share)
            self._queues.move_to_end(share)
        return None

    def take_of(self, share: str) -> T:
        """Take the next one of a share, and let that be the last to have another turn."""
        return self._taken(share, self._queues[share].popleft())

    def drop(self, share: str) -> T:
        """Take the newest one of a share."""
        return self._taken(share, self._queues[share].pop())

    def _taken(self, share: str, thing: T) -> T:
        self._tally.remove(share)
        if self._queues[share]:
            self._queues.move_to_end(share)
        else:
            del self._queues[share]
        return thing


class Places:
    """The places of a listener, and how many of them each share holds.

    An address may use what is free, but only as long as enough stays free for others: the more there are, the
    less is left for each.

    Args:
        most: how many places there are.
    """

    def __init__(self, most: int) -> None:
        self._held = Tally()
        self._proxies = 0  # of those that are held
        self._most = most

    def adapt(self, most: int) -> None:
        """Have another number of places; nobody loses one that it holds."""
        self._most = most

    @property
    def taken(self) -> int:
        """How many places somebody has."""
        return self._held.total + self._proxies

    @property
    def free(self) -> int:
        """How many places nobody has."""
        return self._most - self.taken

    @property
    def largest(self) -> str | None:
        """The share that holds most, proxies aside; None if nobody holds any."""
        return self._held.largest

    def held(self, share: str) -> int:
        """Return how many places a share holds."""
        return self._proxies if share == PROXIES else self._held.count(share)

    def enter(self, share: str) -> None:
        """Give a share one more place."""
        if share == PROXIES:
            self._proxies += 1
        else:
            self._held.add(share)

    def leave(self, share: str) -> None:
        """Take a place back."""
        if share == PROXIES:
            self._proxies -= 1
        else:
            self._held.remove(share)

    def may_enter(self, share: str, ended: str | None = None) -> bool:
        """Tell whether a share may have one more place.

        Args:
            share: whose.
            ended: the share of a connection that would be ended before. What proxies hold is free for their
                clients.
        """
        free = self.free + (self._proxies if ended == PROXIES else ended is not None)
        held = self.held(share) - (ended == share)
        return free > 0 and (held == 0 or share == PROXIES or held < _EAGERNESS * (free - 1))

    def is_larger(self, share: str, other: str) -> bool:
        """Tell whether a share would still not have less than another one if it gave that a place."""
        return self.held(share) > self.held(other) + 1
