"""How many requests a second a CA takes from one address, where it publishes that."""

from __future__ import annotations

from collections.abc import Mapping

# Let's Encrypt's overall limits per IP address and second, by resource.
_LETS_ENCRYPT = {"newNonce": 20.0}
_PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "acme-v02.api.letsencrypt.org": _LETS_ENCRYPT,
    "acme-staging-v02.api.letsencrypt.org": _LETS_ENCRYPT,
}
_BURST = 0.5  # seconds' worth of requests that may come at once


class RequestRates:
    """Spreads requests as the generic cell rate algorithm does: one instant is kept for each resource.

    Args:
        host: the CA's host.
        processes: that ask from the same address, each of which may send its part.
    """

    def __init__(self, host: str, processes: int = 1) -> None:
        published = _PUBLISHED.get(host, {})
        self._limits = {resource: limit / processes for resource, limit in published.items()}
        self._next: dict[str, float] = {}  # when the requests so far would have been, evenly spread

    def reserve(self, resource: str, now: float) -> float:
        """Reserve a place for a request; return the seconds to wait before it is sent.

        Args:
            resource: as the CA's directory names it.
            now: the time on the monotonic clock.
        """
        limit = self._limits.get(resource)
        if limit is None:
            return 0.0
        due = max(now, self._next.get(resource, now))
        self._next[resource] = due + 1.0 / limit
        return max(0.0, due - now - _BURST)
