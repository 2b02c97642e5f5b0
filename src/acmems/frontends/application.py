"""What all front ends share: telling operator and client why a request failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from acmems.auth.processor import client_ip, client_name
from acmems.events import AnsweredEvent, Bus, FrontEndName
from acmems.frontends.problems import CLOSING, failure_event, is_refusal, problem_response
from acmems.net.address import IPNetwork
from acmems.net.http import Exchange, HttpResponse
from acmems.system.clock import SYSTEM, Clock


class FrontEnd:
    """Base of the applications that listeners serve.

    Args:
        bus: told of refusals and failures.
        clock: for durations.
        trusted_proxies: whose `X-Forwarded-For` is believed.
    """

    name: ClassVar[FrontEndName]
    """What it is called in metrics."""

    def __init__(self, bus: Bus, clock: Clock = SYSTEM, trusted_proxies: Sequence[IPNetwork] = ()) -> None:
        self.bus = bus
        self.trusted_proxies = tuple(trusted_proxies)
        self.clock = clock

    def send(self, exchange: Exchange, response: HttpResponse) -> None:
        """Answer a request that asks for no certificate, by GET or HEAD, and have it counted."""
        self.bus.emit(
            AnsweredEvent(
                front_end=self.name,
                reference=exchange.reference,
                client=exchange.client_address[0],
                status=response.status,
            )
        )
        exchange.is_refusal = is_refusal(response.status)
        close = not exchange.keep_alive or response.status in CLOSING
        exchange.answer(response.encoded(close=close, bodiless=exchange.method == "HEAD"), close=close)

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
        self.bus.emit(failure_event(error, front_end=self.name, reference=reference, client=client))
        accept = str(exchange.headers.get("Accept", "")) if exchange is not None else ""
        bodiless = exchange is not None and exchange.method == "HEAD"
        return problem_response(error, reference, accept).encoded(close=True, bodiless=bodiless)

    def client_of(self, exchange: Exchange, peer: str) -> str:
        """Return what the log calls the client of a request, as a trusted proxy tells it."""
        return client_name(peer, client_ip(peer, exchange.headers, self.trusted_proxies))
