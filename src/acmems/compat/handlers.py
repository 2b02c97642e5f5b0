"""The documented handlers: they serve one request on a plain socket, as `http.server` runs them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from acmems.auth import Authenticator, Processor
from acmems.challenges import Http01
from acmems.events import Bus
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.frontends import delivery, http01, sign
from acmems.frontends.problems import TOLD_IN_SUMS, failure_event, problem_response
from acmems.issuing.issuance import Issuance
from acmems.net.http.response import HttpResponse, phrase
from acmems.system.clock import Clock
from acmems.text import one_line


class ManagementServer(Protocol):
    """What `ACMEMgmtHandler` needs of the server that it runs in."""

    auth: Authenticator
    issuance: Issuance
    bus: Bus
    clock: Clock


class ACMEAbstractHandler(BaseHTTPRequestHandler):
    """Base of the handlers. They serve one request: what this one leaves unread must not become the next.

    Args:
        request: a connected socket.
        client_address: host and port of the client.
        server: the server that this handler runs in.
    """

    protocol_version = "HTTP/1.1"
    allowed = ""
    """The methods that are answered, as in an `Allow` header."""
    server: Any

    def __init__(self, request: Any, client_address: tuple[str, int], server: Any) -> None:
        self.reference = secrets.token_hex(4)
        super().__init__(request, client_address, server)

    def handle(self) -> None:
        """Serve one request."""
        self.close_connection = True
        self.handle_one_request()

    def send_data(
        self, data: str | bytes, content_type: str = "text/plain", response_code: int = 200
    ) -> None:
        """Send data as HTTP response.

        Args:
            data: the text to send; text is sent as UTF-8.
            content_type: its media type.
            response_code: HTTP response code.
        """
        charset = "; charset=utf-8" if content_type == "text/plain" else ""
        body = data.encode() if isinstance(data, str) else data
        self._send(HttpResponse(response_code, body, content_type + charset))

    def send_error_answer(self, error: BaseException) -> None:
        """Send what an error means to the client.

        Args:
            error: the error.
        """
        headers: Mapping[str, str] = getattr(self, "headers", None) or {}
        self._send(problem_response(error, self.reference, str(headers.get("Accept", ""))))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the base's
        """Send what the base refuses by itself, in the form of every other refusal.

        Args:
            code: HTTP response code.
            message: the reason, one line.
            explain: not used.
        """
        if code == HTTPStatus.NOT_IMPLEMENTED:
            words = f"only {self.allowed} is answered here"
            self.send_error_answer(HttpRefusal(405, words, {"Allow": self.allowed}))
        else:
            self.send_error_answer(HttpRefusal(code, one_line(message or phrase(code))))

    def version_string(self) -> str:
        """Return what the `Server` header says."""
        return "acmems"

    def _send(self, response: HttpResponse) -> None:
        self.wfile.write(response.encoded(close=True, bodiless=self.command == "HEAD"))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing by itself: requests are logged once, with their outcome."""


class ACMEHTTPHandler(ACMEAbstractHandler):
    """Answers the CA's http-01 requests (RFC 8555 section 8.3).

    Args:
        validator: the http-01 validator whose responses are served.
        args: as for `ACMEAbstractHandler`.
        kwargs: the same.
    """

    allowed = http01.ALLOWED

    def __init__(self, validator: Http01, *args: Any, **kwargs: Any) -> None:
        self.validator = validator
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Send the response to a challenge, found by exact host and path; else 404."""
        asked = http01.asked_answers(self.path, self.headers.get_all("Host", []))
        value = http01.fetch(self.validator, asked)
        accept = str(self.headers.get("Accept", ""))
        self._send(http01.challenge_response(value, self.reference, accept))

    do_HEAD = do_GET  # noqa: N815 - the base's naming


class ACMEMgmtHandler(ACMEAbstractHandler):
    """Answers machines that ask for certificates.

    Args:
        request: a connected socket.
        client_address: host and port of the client.
        server: the server; has `auth`, `issuance`, `bus` and `clock`.
    """

    allowed = sign.ALLOWED
    server: ManagementServer

    def do_POST(self) -> None:
        """Handle a request to sign a CSR: decide, find or order the chain, send it."""
        processor = Processor(self.server.auth, self.client_address, self.headers, self.rfile)
        known = {"seconds": 0.0}
        try:
            sign.check_target(self.path, self.command)
            accepted = delivery.accepted_request(processor.grant(), processor, self.reference)
            delivered = self.server.issuance.issue(accepted).result()
        except AcmeException as error:
            if not isinstance(error, TOLD_IN_SUMS):
                event = failure_event(error, **known, **delivery.known_of(processor, self.reference))
                self.server.bus.emit(event)
            self.send_error_answer(error)
            return
        now = self.server.clock.now()
        outlook = self.server.issuance.outlook(delivered.chain, accepted.storage, now)
        response = delivery.chain_response(delivered.chain, outlook, now, self.headers)
        known_of_request = delivery.known_of(processor, self.reference)
        self.server.bus.emit(
            delivery.delivered_event(delivered, response.status, **known, **known_of_request)
        )
        self._send(response)
