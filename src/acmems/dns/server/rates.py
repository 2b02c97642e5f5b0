"""How much one network may ask: enough for resolvers, too little for an attack through us on others."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable
from functools import lru_cache

_MOST_NETWORKS = 10_000
_V4_KEPT, _V6_KEPT = 3, 7  # octets of an address that name its network: /24 and /56
_PATIENCE = 4  # times the limit, beyond which most queries are not answered at all
_SLIP = 2  # one of so many is sent to TCP even then, as by the "slip" of BIND's response rate limiting


class Verdict(enum.Enum):
    """What to do with a datagram."""

    ANSWER = enum.auto()
    TRUNCATE = enum.auto()
    DROP = enum.auto()


class Rates:
    """Counts what networks ask in each second. For one thread.

    However much is asked in the name of a network, some truncated answers get through: an honest resolver
    there comes by TCP, where nobody can ask in its name, and the answers are no longer than the queries.

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
        if count <= self.limit:
            return Verdict.ANSWER
        over = count - self.limit * _PATIENCE
        return Verdict.TRUNCATE if over <= 0 or over % _SLIP == 0 else Verdict.DROP


@lru_cache(maxsize=4096)
def _network(host: str) -> bytes:
    address = ipaddress.ip_address(host.partition("%")[0])
    return address.packed[: _V4_KEPT if address.version == 4 else _V6_KEPT]  # noqa: PLR2004 - IPv4
