"""The front end of http-01: it answers from the table of responses (RFC 8555 section 8.3)."""

from __future__ import annotations

from acmems.challenges import Http01
from acmems.challenges.http01 import CHALLENGE_PATH
from acmems.events import Bus
from acmems.exceptions import HttpRefusal
from acmems.frontends.application import FrontEnd
from acmems.frontends.problems import problem_response
from acmems.net.http import Exchange, Handling, HttpResponse
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Identifier

ALLOWED = "GET, HEAD"


class Http01FrontEnd(FrontEnd):
    """The application of an http-01 verification's listeners.

    Args:
        validator: the verification.
        bus: told of refusals and failures.
        clock: for durations.
    """

    name = "http01"

    def __init__(self, validator: Http01, bus: Bus, clock: Clock = SYSTEM) -> None:
        super().__init__(bus, clock)
        self.validator = validator

    def begin(self, exchange: Exchange) -> Handling:
        """Take GET and HEAD, without a body."""
        if exchange.method not in {"GET", "HEAD"}:
            raise HttpRefusal(405, f"only {ALLOWED} is answered here", {"Allow": ALLOWED})
        return Handling(0, lambda: self._answer(exchange))

    def _answer(self, exchange: Exchange) -> None:
        response = challenge_response(
            self.validator,
            exchange.target,
            exchange.headers.get_all("Host", []),
            exchange.reference,
            str(exchange.headers.get("Accept", "")),
        )
        self.send(exchange, response)


def challenge_response(
    validator: Http01, path: str, hosts: list[str], reference: str, accept: str
) -> HttpResponse:
    """Return the response to a challenge, found by exact host and path; else 404.

    Args:
        validator: whose table is asked.
        path: the request's target.
        hosts: the values of its `Host` headers.
        reference: names the request in the log.
        accept: the client's `Accept` header.
    """
    value = None
    if path.startswith(CHALLENGE_PATH) and len(hosts) == 1:
        value = validator.responses.fetch(host_of(str(hosts[0])), path)
    if value is None:
        return problem_response(HttpRefusal(404, "there is no such challenge here"), reference, accept)
    return HttpResponse(200, value.encode(), "application/octet-stream")


def host_of(value: str) -> str:
    """Return the host of a Host header: lower case, port stripped (RFC 9110 section 7.2)."""
    host, colon, port = value.rpartition(":")
    name = host if colon and port.isdigit() else value
    if name.startswith("[") and name.endswith("]"):  # an IPv6 address (RFC 8738, RFC 3986 section 3.2.2)
        try:
            return Identifier.ip(name[1:-1]).value
        except ValueError:
            return name.lower()
    return name.lower()
