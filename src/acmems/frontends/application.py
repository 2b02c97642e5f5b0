"""What all front ends share: telling operator and client why a request failed."""

from __future__ import annotations

from acmems.events import Bus
from acmems.frontends.problems import failure_event, problem_response
from acmems.net.http import Exchange
from acmems.system.clock import SYSTEM, Clock


class FrontEnd:
    """Base of the applications that listeners serve.

    Args:
        bus: told of refusals and failures.
        clock: for durations.
    """

    def __init__(self, bus: Bus, clock: Clock = SYSTEM) -> None:
        self.bus = bus
        self.clock = clock

    def refuse(self, exchange: Exchange | None, error: Exception, client: str) -> bytes:
        """Return the whole raw answer for an error, and tell the operator.

        Args:
            exchange: the request; None where its head was not acceptable.
            error: what went wrong.
            client: the address of the peer.
        """
        if exchange is not None:
            client = self.client_of(exchange, client)
        reference = exchange.reference if exchange is not None else "-"
        self.bus.emit(failure_event(error, reference=reference, client=client))
        accept = str(exchange.headers.get("Accept", "")) if exchange is not None else ""
        bodiless = exchange is not None and exchange.method == "HEAD"
        return problem_response(error, reference, accept).encoded(close=True, bodiless=bodiless)

    def client_of(self, exchange: Exchange, peer: str) -> str:  # noqa: ARG002 - for those who look
        """Return what the log calls the client of a request: the peer, unless that is a proxy."""
        return peer
