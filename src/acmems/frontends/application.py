"""What all front ends share: telling operator and client why a request failed."""

from __future__ import annotations

from collections.abc import Sequence

from acmems.events import Bus
from acmems.frontends.problems import failure_event, problem_response
from acmems.net.address import IPNetwork
from acmems.net.http import Exchange
from acmems.net.http.forwarded import forwarded_for
from acmems.system.clock import SYSTEM, Clock


class FrontEnd:
    """Base of the applications that listeners serve.

    Args:
        bus: told of refusals and failures.
        clock: for durations.
        trusted_proxies: whose `X-Forwarded-For` is believed.
    """

    def __init__(self, bus: Bus, clock: Clock = SYSTEM, trusted_proxies: Sequence[IPNetwork] = ()) -> None:
        self.bus = bus
        self.trusted_proxies = tuple(trusted_proxies)
        self.clock = clock

    def refuse(self, exchange: Exchange | None, error: Exception, client: str) -> bytes:
        """Return the whole raw answer for an error, and tell the operator.

        Args:
            exchange: the request; None where its head was not acceptable.
            error: what went wrong.
            client: the address of the peer.
        """
        reference = exchange.reference if exchange is not None else "-"
        if exchange is not None and self.trusted_proxies:
            hops = exchange.headers.get_all("X-Forwarded-For", [])
            client = str(forwarded_for(client, hops, self.trusted_proxies))
        self.bus.emit(failure_event(error, reference=reference, client=client))
        accept = str(exchange.headers.get("Accept", "")) if exchange is not None else ""
        bodiless = exchange is not None and exchange.method == "HEAD"
        return problem_response(error, reference, accept).encoded(close=True, bodiless=bodiless)
