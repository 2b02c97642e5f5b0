"""How many requests a second a CA takes from one address, where it publishes that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OTHER = "others"
"""What requests count for that are for no resource with a rate of its own: orders, authorizations, chains."""


@dataclass(frozen=True, slots=True)
class RequestRate:
    """How many requests for a resource a CA takes from one address.

    Args:
        per_second: in the long run.
        burst: at once.
    """

    per_second: float
    burst: float


# Let's Encrypt's overall limits by address (November 2026), by resource as the directory names it.
_LETS_ENCRYPT = {
    "newNonce": RequestRate(20, 10),
    "newAccount": RequestRate(5, 15),
    "newOrder": RequestRate(300, 200),
    "revokeCert": RequestRate(10, 100),
    "renewalInfo": RequestRate(1000, 100),
    "directory": RequestRate(40, 40),
    OTHER: RequestRate(250, 125),
}
_BY_DIRECTORY: Mapping[str, Mapping[str, RequestRate]] = {
    "https://acme-v02.api.letsencrypt.org/directory": _LETS_ENCRYPT,
    "https://acme-staging-v02.api.letsencrypt.org/directory": {
        **_LETS_ENCRYPT,
        "newOrder": RequestRate(20, 40),
        OTHER: RequestRate(20, 20),
    },
}


class RequestRates:
    """Spreads requests as the generic cell rate algorithm does: one instant is kept for each resource.

    Args:
        directory: the URL of the CA's directory.
        processes: that ask from the same address, each of which may send its part.
    """

    def __init__(self, directory: str, processes: int = 1) -> None:
        self._rates = {
            resource: RequestRate(rate.per_second / processes, rate.burst / processes)
            for resource, rate in _BY_DIRECTORY.get(directory, {}).items()
        }
        self._next: dict[str, float] = {}  # when the requests so far would have been, evenly spread

    def reserve(self, resource: str, now: float) -> float:
        """Reserve a place for a request; return the seconds to wait before it is sent.

        Args:
            resource: as the CA's directory names it; what has no rate of its own counts for `OTHER`.
            now: the time on the monotonic clock.
        """
        resource = resource if resource in self._rates else OTHER
        rate = self._rates.get(resource)
        if rate is None:
            return 0.0
        due = max(now, self._next.get(resource, now))
        self._next[resource] = due + 1.0 / rate.per_second
        return max(0.0, due - now - rate.burst / rate.per_second)
