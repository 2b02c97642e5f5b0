"""The application of the listeners that ACME clients ask."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from acmems.auth import client_ip
from acmems.auth.processor import client_name
from acmems.events import AnsweredEvent, Bus, Event
from acmems.exceptions import HttpRefusal
from acmems.frontends.acme.answers import AcmeAnswer, problem_answer
from acmems.frontends.acme.envelope.envelope import MOST_OCTETS
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.problems import AcmeProblem, problem_of
from acmems.frontends.acme.reception.nonces import Nonces
from acmems.frontends.acme.reception.reception import Arrival, Reception
from acmems.frontends.acme.requests import PlainRequest, SignedRequest
from acmems.frontends.acme.routes import Resources, Route, RouteTable
from acmems.frontends.application import FrontEnd
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.problems import failure_event, is_refusal
from acmems.net.http import Exchange, Handling, HttpResponse
from acmems.system.clock import SYSTEM, Clock

SIGNED_TYPE: Final = "application/jose+json"
"""The media type of signed requests (RFC 8555 section 6.2)."""
_ROUTINE: Final = frozenset({"badNonce", "orderNotReady", "accountDoesNotExist"})
"""Problems that clients meet in the ordinary course of things; the log does not tell of them."""


class AcmeFrontEnd(FrontEnd):
    """Answers ACME clients: frames what resources say, and gives every answer a nonce.

    Args:
        linker: returns what makes and reads URLs.
        nonces: makes and takes nonces.
        reception: finds out who has signed a request.
        resources: what answers at the routes.
        policy: returns whose `X-Forwarded-For` is believed, and who may have what.
        bus: told of answers, refusals and failures.
        clock: for durations.
    """

    name = "acme"

    def __init__(
        self,
        linker: Callable[[], Linker],
        nonces: Nonces,
        reception: Reception,
        resources: Resources,
        *,
        policy: Callable[[], SigningPolicy],
        bus: Bus,
        clock: Clock = SYSTEM,
    ) -> None:
        super().__init__(bus, clock)
        self._linker = linker
        self._nonces = nonces
        self._reception = reception
        self._resources = resources
        self._policy = policy
        self._table = RouteTable()

    def begin(self, exchange: Exchange) -> Handling:
        """Find the resource of a request by its path, and check method and media type.

        Raises:
            HttpRefusal: there is none, or it is not asked so.
        """
        path = self._linker().path(exchange.target)
        found = None if path is None else self._table.find(path)
        if found is None or found[0].name not in self._resources.names:
            directory = self._linker().url("directory")
            raise HttpRefusal(404, f"there is nothing here: ACME clients begin at {directory}")
        route, parameters = found
        if exchange.method not in route.methods:
            allowed = ", ".join(route.methods)
            raise HttpRefusal(405, f"ask for this by {allowed}", {"Allow": allowed})
        if route.signer == "nobody":
            return Handling(0, lambda: self._run_plain(exchange, route, parameters))
        if str(exchange.headers.get("Content-Type", "")).strip().lower() != SIGNED_TYPE:
            raise HttpRefusal(415, f"send the request as Content-Type: {SIGNED_TYPE}")
        return Handling(MOST_OCTETS, lambda: self._run_signed(exchange, route, parameters))

    def refuse(self, exchange: Exchange | None, error: Exception, client: str) -> bytes:
        """Return the whole raw answer for an error before or beside a resource, and tell the operator."""
        if exchange is not None:
            client = self.client_of(exchange, client)
        reference = "-" if exchange is None else exchange.reference
        self.bus.emit(failure_event(error, front_end=self.name, reference=reference, client=client))
        response = self._response(problem_answer(problem_of(error, reference)))
        return response.encoded(close=True, bodiless=exchange is not None and exchange.method == "HEAD")

    def client_of(self, exchange: Exchange, peer: str) -> str:
        """Return what the log calls the client of a request, as a trusted proxy tells it."""
        proxies = self._policy().auth.trusted_proxies
        return client_name(peer, client_ip(peer, exchange.headers, proxies))

    def _run_plain(self, exchange: Exchange, route: Route, parameters: tuple[str, ...]) -> None:
        try:
            answer = self._resources.plain[route.name](PlainRequest(parameters), exchange)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._send_problem(exchange, None, error)
        else:
            self._send_when_there(exchange, None, answer)

    def _run_signed(self, exchange: Exchange, route: Route, parameters: tuple[str, ...]) -> None:
        peer = exchange.client_address[0]
        caller = self._policy().auth.caller(peer, exchange.headers, exchange.peer_certificate)
        client = client_name(peer, caller.address)
        arrival = Arrival(exchange.target, exchange.body, parameters, route.signer, caller, client)
        exchange.body = b""

        def refuse(error: BaseException) -> None:
            exchange.hand_over(lambda: self._send_problem(exchange, None, error))

        def go_on(request: SignedRequest) -> None:
            if threading.get_ident() == listener:
                self._ask(exchange, route, request)
            else:
                exchange.hand_over(lambda: self._ask(exchange, route, request))

        listener = threading.get_ident()
        try:
            self._reception.receive(arrival, go_on, refuse)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._send_problem(exchange, None, error)

    def _ask(self, exchange: Exchange, route: Route, request: SignedRequest) -> None:
        try:
            answer = self._resources.signed[route.name](request, exchange)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._send_problem(exchange, request, error)
        else:
            self._send_when_there(exchange, request, answer)

    def _send_when_there(
        self, exchange: Exchange, request: SignedRequest | None, answer: AcmeAnswer | Future[AcmeAnswer]
    ) -> None:
        if isinstance(answer, AcmeAnswer):
            self._send_answer(exchange, request, answer)
            return

        def send(done: Future[AcmeAnswer]) -> None:
            error = done.exception()
            if error is not None:
                self._send_problem(exchange, request, error)
            else:
                self._send_answer(exchange, request, done.result())

        if answer.done():
            send(answer)
        else:
            answer.add_done_callback(lambda done: exchange.hand_over(lambda: send(done)))

    def _send_problem(self, exchange: Exchange, request: SignedRequest | None, error: BaseException) -> None:
        problem = problem_of(error, exchange.reference)
        known = self._known(exchange, request)
        event: Event = AnsweredEvent(status=problem.status, **known)
        if not (isinstance(error, AcmeProblem) and error.kind in _ROUTINE):
            event = failure_event(error, names=problem.names, **known)
        self.bus.emit(event)
        self._send(exchange, self._response(problem_answer(problem)))

    def _send_answer(self, exchange: Exchange, request: SignedRequest | None, answer: AcmeAnswer) -> None:
        self.bus.emit(AnsweredEvent(status=answer.status, **self._known(exchange, request)))
        self._send(exchange, self._response(answer))

    def _send(self, exchange: Exchange, response: HttpResponse) -> None:
        exchange.is_refusal = is_refusal(response.status)
        close = not exchange.keep_alive
        exchange.answer(response.encoded(close=close, bodiless=exchange.method == "HEAD"), close=close)

    def _response(self, answer: AcmeAnswer) -> HttpResponse:
        index = f'<{self._linker().url("directory")}>;rel="index"'
        fields = {"Replay-Nonce": self._nonces.make(), "Cache-Control": "no-store", **answer.headers}
        return HttpResponse(
            answer.status, answer.content, answer.content_type, fields, (index, *answer.links)
        )

    def _known(self, exchange: Exchange, request: SignedRequest | None) -> dict[str, Any]:
        """Return what is known of a request, as fields of an event."""
        client = self.client_of(exchange, exchange.client_address[0]) if request is None else request.client
        return {"front_end": self.name, "reference": exchange.reference, "client": client}
