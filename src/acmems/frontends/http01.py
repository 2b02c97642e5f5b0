"""The front end of http-01: it answers from the table of responses (RFC 8555 section 8.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from acmems.challenges import Http01
from acmems.challenges.http01 import CHALLENGE_PATH
from acmems.events import Bus
from acmems.exceptions import HttpRefusal
from acmems.frontends.application import FrontEnd
from acmems.frontends.problems import problem_response
from acmems.net.address import IPNetwork
from acmems.net.http import Exchange, Handling, HttpResponse
from acmems.net.http.forwarded import is_among, parsed
from acmems.net.listening import ListenerLimits
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Identifier

ALLOWED = "GET, HEAD"
CHALLENGE_LIMITS = ListenerLimits(waiting=4000)
"""What a listener for challenges takes on."""

# A request target that says the host, too (RFC 9112 section 3.2.2).
_ABSOLUTE = re.compile(r"http://([^/?#@]+)(/.*)", re.IGNORECASE)
_MOST_HOSTS = 8  # that are looked for among those that proxies have passed on


class Http01FrontEnd(FrontEnd):
    """The application of an http-01 verification's listeners.

    Args:
        validator: the verification.
        bus: told of refusals and failures.
        clock: for durations.
        trusted_proxies: whose `X-Forwarded-Host` and `X-Forwarded-For` are believed.
    """

    name = "http01"

    def __init__(
        self, validator: Http01, bus: Bus, clock: Clock = SYSTEM, trusted_proxies: Sequence[IPNetwork] = ()
    ) -> None:
        super().__init__(bus, clock, trusted_proxies)
        self.validator = validator

    def begin(self, exchange: Exchange) -> Handling:
        """Take GET and HEAD, without a body."""
        if exchange.method not in {"GET", "HEAD"}:
            raise HttpRefusal(405, f"only {ALLOWED} is answered here", {"Allow": ALLOWED})
        return Handling(0, lambda: self._answer(exchange))

    def _answer(self, exchange: Exchange) -> None:
        asked = asked_answers(
            exchange.target, exchange.headers.get_all("Host", []), self._forwarded_hosts(exchange)
        )
        value = fetch(self.validator, asked)
        if value is not None:
            self._send(exchange, value)
            return

        def send(value: str | None) -> None:
            exchange.hand_over(lambda: self._send(exchange, value))

        if not self.validator.look_elsewhere(asked, send):
            self._send(exchange, None)

    def _send(self, exchange: Exchange, value: str | None) -> None:
        accept = str(exchange.headers.get("Accept", ""))
        self.send(exchange, challenge_response(value, exchange.reference, accept))

    def _forwarded_hosts(self, exchange: Exchange) -> list[str]:
        """Return the hosts that proxies were asked for, the one of the last proxy first."""
        if not self.trusted_proxies or not is_among(parsed(exchange.client_address[0]), self.trusted_proxies):
            return []
        values = [str(value) for value in exchange.headers.get_all("X-Forwarded-Host", [])]
        hosts = [host.strip() for value in values for host in value.split(",")]
        return hosts[: -_MOST_HOSTS - 1 : -1]


def asked_answers(target: str, hosts: list[str], forwarded: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return what a request asks for, as hosts and paths, of which the first counts that is there.

    Args:
        target: the request's target: a path, or a URL, whose host then counts and not that of the header.
        hosts: the values of its `Host` headers.
        forwarded: hosts that trusted proxies were asked for.
    """
    absolute = _ABSOLUTE.fullmatch(target)
    path = absolute[2] if absolute else target
    if not path.startswith(CHALLENGE_PATH) or len(hosts) != 1:
        return []
    return [(host_of(host), path) for host in (*forwarded, absolute[1] if absolute else str(hosts[0]))]


def fetch(validator: Http01, asked: Sequence[tuple[str, str]]) -> str | None:
    """Return the answer of a validator's own table, and tell who has put it; None if there is none."""
    found = (validator.responses.fetch(host, path) for host, path in asked)
    return next((value for value in found if value is not None), None)


def challenge_response(value: str | None, reference: str, accept: str) -> HttpResponse:
    """Return the response to a challenge.

    Args:
        value: the answer; None: there is none, so that the response is 404.
        reference: names the request in the log.
        accept: the client's `Accept` header.
    """
    if value is None:
        return problem_response(HttpRefusal(404, "there is no such challenge here"), reference, accept)
    return HttpResponse(200, value.encode(), "application/octet-stream")


def host_of(value: str) -> str:
    """Return the host of a Host header: lower case, no port, no dot at the end (RFC 9110 section 7.2)."""
    host, colon, port = value.rpartition(":")
    name = host if colon and port.isdigit() else value
    if name.startswith("[") and name.endswith("]"):  # an IPv6 address (RFC 8738, RFC 3986 section 3.2.2)
        try:
            return Identifier.ip(name[1:-1]).value
        except ValueError:
            return name.lower()
    return name.lower().removesuffix(".")
