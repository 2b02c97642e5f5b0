"""The documented handlers: from one HTTP request to its answer."""

from __future__ import annotations

import email.utils
import functools
import io
import json
import secrets
import socket
import time
from collections.abc import Mapping
from concurrent.futures import Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from acmems.auth import Authenticator, Processor
from acmems.challenges import Http01
from acmems.clock import Clock
from acmems.events import Bus, Delivered, Failed, Refused
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.issuance import Asked, Delivery, Issuance
from acmems.listener import Exchange
from acmems.names import Identifier
from acmems.refusals import for_operator, reason_of, retry_after_of, status_of, title_of
from acmems.text import one_line

_JSON_TYPES = ("application/problem+json", "application/json")
SIGN = "/sign"
CHALLENGES = "/.well-known/acme-challenge/"


class Server(Protocol):
    """What the handlers need of the server that they run in."""

    bus: Bus
    clock: Clock


class ManagementServer(Server, Protocol):
    """What `ACMEMgmtHandler` needs of its server."""

    auth: Authenticator
    issuance: Issuance


class ACMEAbstractHandler(BaseHTTPRequestHandler):
    """Base of the handlers: they run on a framed `Exchange`, and on a plain socket like their own base.

    A plain socket serves one request: what this one leaves unread must not be taken for the next.

    Args:
        request: the exchange that a listener framed, or a connected socket.
        client_address: host and port of the client.
        server: the server that this handler runs in.
    """

    protocol_version = "HTTP/1.1"
    allowed = ""
    """The methods that are answered, as in an `Allow` header."""
    server: Any
    reference = "-"

    def __init__(
        self, request: Exchange | socket.socket, client_address: tuple[str, int], server: object
    ) -> None:
        self.exchange = request if isinstance(request, Exchange) else None
        super().__init__(request, client_address, server)  # type: ignore[arg-type]  # an exchange stands in

    def setup(self) -> None:
        """Take the framed request, or prepare to read one."""
        if self.exchange is None:
            super().setup()
            return
        self.rfile = io.BytesIO()
        self.wfile = io.BytesIO()

    def handle(self) -> None:
        """Take over what was framed, or serve one request from the socket."""
        exchange = self.exchange
        if exchange is None:
            self.reference = secrets.token_hex(4)
            self.handle_one_request()
            return
        self.command, self.path, self.headers = exchange.method, exchange.target, exchange.headers
        self.request_version = f"HTTP/{exchange.version[0]}.{exchange.version[1]}"
        self.requestline = f"{self.command} {self.path} {self.request_version}"
        self.close_connection = not exchange.keep_alive
        self.reference = exchange.reference
        self.began = self.server.clock.monotonic()

    def finish(self) -> None:
        """Leave a framed request open: it is answered when its answer is there."""
        if self.exchange is None:
            super().finish()

    def send_data(
        self, data: str | bytes, content_type: str = "text/plain", response_code: int = 200
    ) -> None:
        """Send data as HTTP response.

        Args:
            data: the text to send; text is sent as UTF-8.
            content_type: its media type.
            response_code: HTTP response code.
        """
        self._send(data.encode() if isinstance(data, str) else data, content_type, response_code, {})

    def send_error_answer(self, error: BaseException) -> None:
        """Send what an error means to the client.

        Args:
            error: the error.
        """
        status, reason = status_of(error), reason_of(error, self.reference)
        headers = dict(error.headers) if isinstance(error, HttpRefusal) else {}
        retry_after = retry_after_of(error)
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        if self._wants_json():
            problem = {"type": "about:blank", "title": title_of(status), "status": status, "detail": reason}
            self._send(json.dumps(problem).encode(), "application/problem+json", status, headers)
        else:
            self._send(f"{reason}\n".encode(), "text/plain", status, headers)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 - the base's
        """Send what the base refuses by itself, in the form of every other refusal.

        Args:
            code: HTTP response code.
            message: the reason, one line.
            explain: not used.
        """
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self.send_error_answer(
                HttpRefusal(405, f"only {self.allowed} is answered here", {"Allow": self.allowed})
            )
        else:
            self.send_error_answer(HttpRefusal(code, one_line(message or title_of(code))))

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return a time as in a `Date` header (RFC 9110 section 5.6.7).

        Args:
            timestamp: seconds since 1970; now by default.
        """
        return _date(int(time.time() if timestamp is None else timestamp))

    def version_string(self) -> str:
        """Return what the `Server` header says."""
        return "acmems"

    def _wants_json(self) -> bool:
        accepted = str(self.headers.get("Accept", "")) if getattr(self, "headers", None) else ""
        return any(kind in accepted for kind in _JSON_TYPES)

    def _send(self, body: bytes, content_type: str, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status, title_of(status))
        charset = "; charset=utf-8" if content_type == "text/plain" else ""
        self.send_header("Content-Type", content_type + charset)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection or self.exchange is None:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if self.exchange is not None:
            self.exchange.answer(self.wfile.getvalue(), close=self.close_connection)  # type: ignore[attr-defined]  # setup made a BytesIO

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log nothing by itself: requests are logged once, with their outcome."""


class ACMEHTTPHandler(ACMEAbstractHandler):
    """Answers the CA's http-01 requests (RFC 8555 section 8.3).

    Args:
        validator: the http-01 validator whose responses are served.
        args: as for `ACMEAbstractHandler`.
        kwargs: the same.
    """

    allowed = "GET, HEAD"

    def __init__(self, validator: Http01, *args: Any, **kwargs: Any) -> None:
        self.validator = validator
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Send the response to a challenge, found by exact host and path; else 404."""
        host = _host(str(self.headers.get("Host", "")))
        value = None
        if self.path.startswith(CHALLENGES) and len(self.headers.get_all("Host", [])) == 1:
            value = self.validator.responses.fetch(host, self.path)
        if value is None:
            self.send_error_answer(HttpRefusal(404, "there is no such challenge here"))
        else:
            self.send_data(value, "application/octet-stream")

    do_HEAD = do_GET  # noqa: N815 - the base's naming


class ACMEMgmtHandler(ACMEAbstractHandler):
    """Answers machines that ask for certificates.

    Args:
        request: the exchange that a listener framed, or a connected socket.
        client_address: host and port of the client.
        server: the server; has `auth`, `issuance`, `bus` and `clock`.
    """

    allowed = "POST"
    processor: Processor | None = None
    server: ManagementServer

    def preflight(self) -> int:
        """Check what shows before the body is read, and return how long it is.

        Returns:
            the length of the body, in bytes.

        Raises:
            HttpRefusal, Refused, PayloadToLarge: the request will not be accepted.
        """
        return self._addressed().admit()

    def _addressed(self) -> Processor:
        if self.path != SIGN:
            raise HttpRefusal(404, f"there is nothing here: POST a CSR to {SIGN}")
        if self.command != "POST":
            raise HttpRefusal(405, f"POST a CSR to {SIGN}", {"Allow": self.allowed})
        processor = Processor(self.server.auth, self.client_address, self.headers, self.rfile)
        self.processor = processor
        return processor

    def do_POST(self) -> None:
        """Handle a request to sign a CSR: decide, find or order the chain, send it."""
        try:
            future = self._issue(self.processor or self._addressed())
        except AcmeException as error:
            self.refuse(error)
            return
        if self.exchange is None:
            future.exception()  # a plain socket waits, and so does its thread
        future.add_done_callback(self._deliver)

    def _issue(self, processor: Processor) -> Future[Delivery]:
        exchange = self.exchange
        if exchange is not None:
            processor.rfile = io.BytesIO(exchange.body)
        grant = processor.grant()
        asked = Asked(
            grant.request,
            grant.block.provers(grant.request.identifiers),
            grant.block.storage,
            self.reference,
            str(processor.caller.address),
            grant.block.name,
            lambda: exchange is not None and exchange.gone,
        )
        return self.server.issuance.issue(asked)

    def _deliver(self, future: Future[Delivery]) -> None:
        error = future.exception()
        if error is not None:
            self.refuse(error)
            return
        delivery = future.result()
        # Told before it is sent, here and in `refuse`: whoever has the answer finds its line in the log.
        self.server.bus.emit(
            Delivered(status=200, source=delivery.source, seconds=self._seconds, **self._who())
        )
        self.send_data(delivery.chain.pem, "application/pem-certificate-chain")

    def refuse(self, error: BaseException) -> None:
        """Answer with an error, and tell the operator.

        Args:
            error: what went wrong.
        """
        self._tell(error)
        self.send_error_answer(error)

    def _tell(self, error: BaseException) -> None:
        status = status_of(error)
        if isinstance(error, AcmeException) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            refused = Refused(status=status, reason=for_operator(error), seconds=self._seconds, **self._who())
            self.server.bus.emit(refused)
            return
        bug = None if isinstance(error, AcmeException) else error
        reason = for_operator(error) if bug is None else f"a bug: {type(error).__name__}"
        self.server.bus.emit(
            Failed(
                stage="request", status=status, reason=reason, seconds=self._seconds, bug=bug, **self._who()
            )
        )

    @property
    def _seconds(self) -> float:
        return float(self.server.clock.monotonic() - self.began) if self.exchange is not None else 0.0

    def _who(self) -> dict[str, Any]:
        processor = self.processor
        request = processor.request if processor else None
        return {
            "reference": self.reference,
            "client": str(processor.caller.address) if processor else self.client_address[0],
            "names": request.names if request else (),
            "block": processor.block.name if processor and processor.block else None,
        }


def _host(value: str) -> str:
    """Return the host of a Host header: lower case, port stripped (RFC 9110 section 7.2)."""
    host, colon, port = value.rpartition(":")
    name = host if colon and port.isdigit() else value
    if name.startswith("[") and name.endswith("]"):  # an IPv6 address (RFC 8738, RFC 3986 section 3.2.2)
        try:
            return Identifier.ip(name[1:-1]).value
        except ValueError:
            return name.lower()
    return name.lower()


@functools.lru_cache(maxsize=4)
def _date(seconds: int) -> str:
    """Return an HTTP date; busy servers send hundreds of answers in each second."""
    return email.utils.formatdate(seconds, usegmt=True)
