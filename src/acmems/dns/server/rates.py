"""How much one network may ask: enough for resolvers, too little for an attack through us on others."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable
from functools import lru_cache

_MOST_NETWORKS = 10_000
_V4_KEPT, _V6_KEPT = 3, 7  # octets of an address that name its network: /24 and /56


class Verdict(enum.Enum):
    """What to do with a datagram."""

    ANSWER = enum.auto()
    TRUNCATE = enum.auto()


class Rates:
    """Counts what networks ask in each second. For one thread.

    However much is asked in the name of a network, everything beyond the limit is sent to TCP, where nobody
    can ask in its name, and an honest resolver there has its answers at once (the "slip" of response rate
    limiting is 1, as in Knot DNS). Where every second query was dropped, a resolver that waits 0.8 s before
    it asks again was too late for its client one time in four. Truncated answers are no longer than the
    queries, so that nobody gains by having them sent to others.

    Args:
        limit: queries of one network a second that are answered in full.
        monotonic: seconds that never jump.
    """

    def __init__(self, limit: int, monotonic: Callable[[], float]) -> None:
        self.limit = limit
        self._monotonic = monotonic
        self._second = -1
        self._counts: dict[bytes, int] = {}

    def take(self, host: str) -> Verdict:
        """Count one query, and say what to do with it.

        Args:
            host: the address that it came from, or says that it did.
        """
        second = int(self._monotonic())
        if second != self._second:
            self._second = second
            self._counts.clear()
        network = _network(host)
        count = self._counts.get(network, 0) + 1
        if count == 1 and len(self._counts) >= _MOST_NETWORKS:
            return Verdict.TRUNCATE
        self._counts[network] = count
        return Verdict.ANSWER if count <= self.limit else Verdict.TRUNCATE


@lru_cache(maxsize=4096)
def _network(host: str) -> bytes:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.packed[: _V4_KEPT if address.version == 4 else _V6_KEPT]  # noqa: PLR2004 - IPv4
