"""The front end of `/sign`: a CSR is posted, its chain is the answer."""

from __future__ import annotations

from collections.abc import Callable

from acmems.auth.processor import client_ip, client_name
from acmems.events import Bus
from acmems.exceptions import HttpRefusal
from acmems.frontends.application import FrontEnd
from acmems.frontends.deferral import fetching
from acmems.frontends.deferral.deferrals import Deferrals
from acmems.frontends.deferral.deferring import REQUESTS, WAIT_SECONDS, DeferringExchange
from acmems.frontends.deferral.preferences import Preferences
from acmems.frontends.delivery import FRONT_END, Issuing, SigningExchange, SigningParts, SigningPolicy
from acmems.frontends.published import PUBLISHED, Published, published_response
from acmems.net.http import Exchange, Handling
from acmems.system.clock import SYSTEM, Clock

SIGN = "/sign"
ALLOWED = "POST"


class SignFrontEnd(FrontEnd):
    """The application of the listeners that machines ask.

    Args:
        policy: returns what holds now.
        issuances: turn accepted requests into chains.
        bus: told of refusals and failures.
        clock: for durations.
        deferrals: notes requests whose answer is fetched later; None where nothing is.
        published: returns what local CAs publish.
    """

    name = FRONT_END

    def __init__(
        self,
        policy: Callable[[], SigningPolicy],
        issuances: Issuing,
        bus: Bus,
        clock: Clock = SYSTEM,
        deferrals: Deferrals | None = None,
        *,
        published: Published = lambda _name, _kind: None,
    ) -> None:
        super().__init__(bus, clock)
        self._parts = SigningParts(policy, issuances, bus, clock)
        self._deferrals = deferrals
        self._published = published

    def begin(self, exchange: Exchange) -> Handling:
        """Check a request by its path, method, address and the form of its headers."""
        deferrals = self._deferrals
        if deferrals is not None and exchange.target.startswith(REQUESTS):
            return fetching.begin(self._parts, exchange, deferrals)
        if exchange.target.startswith(PUBLISHED):
            response = published_response(exchange.target, exchange.method, self._published)
            return Handling(0, lambda: self.send(exchange, response))
        check_target(exchange.target, exchange.method)
        request: _SignExchange | _PatientExchange
        if deferrals is not None and Preferences.from_headers(exchange.headers).responds_async:
            request = _PatientExchange(self._parts, exchange, deferrals)
        else:
            request = _SignExchange(self._parts, exchange)
        return Handling(request.processor.admit(), request.answer)

    def client_of(self, exchange: Exchange, peer: str) -> str:
        """Return what the log calls the client of a request, as a trusted proxy tells it."""
        proxies = self._parts.policy().auth.trusted_proxies
        return client_name(peer, client_ip(peer, exchange.headers, proxies))


class _SignExchange(SigningExchange):
    """One request to sign a CSR, whose client waits for the chain."""

    def answer(self) -> None:
        """Decide, find or order the chain, and send it now or when it is there."""
        try:
            accepted = self._read()
            future = self._parts.issuances.issue(accepted)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._refuse(error)
            return
        exchange, storage = self._exchange, accepted.storage
        if future.done():
            self._deliver(future, storage)
        else:
            # Thousands may wait for one chain: each hears of it when it is the turn of its address.
            future.add_done_callback(lambda done: exchange.hand_over(lambda: self._deliver(done, storage)))


class _PatientExchange(DeferringExchange):
    """One request to sign a CSR, whose client takes 202 if the chain is not there soon."""

    def answer(self) -> None:
        """Decide, find or order the chain, and send it if it is there soon."""
        try:
            accepted = self._read()
            running = self._deferrals.join(accepted)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._refuse(error)
            return
        self._applied = {"Preference-Applied": "respond-async"}
        wait = self._wait_of(Preferences.from_headers(self._exchange.headers), WAIT_SECONDS)
        self._await(running, accepted.storage, wait)


def check_target(target: str, method: str) -> None:
    """Refuse what is not a POST to `/sign`.

    Raises:
        HttpRefusal: it is not.
    """
    if target != SIGN:
        raise HttpRefusal(404, f"there is nothing here: POST a CSR to {SIGN}")
    if method != ALLOWED:
        raise HttpRefusal(405, f"POST a CSR to {SIGN}", {"Allow": ALLOWED})
