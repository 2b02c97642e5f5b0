"""The front doors: the applications that listeners serve, each with its handler."""

from __future__ import annotations

import io
from typing import Any

from acmems.auth import Authenticator
from acmems.challenges import Http01
from acmems.clock import SYSTEM, Clock
from acmems.events import Bus, Failed, Refused
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.issuance import Issuance
from acmems.listener import Exchange
from acmems.refusals import status_of
from acmems.server import ACMEAbstractHandler, ACMEHTTPHandler, ACMEMgmtHandler


class _Door:
    """What the applications of both kinds of listener share.

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
        refused = _Refusal(exchange, error)
        who: dict[str, Any] = {"reference": refused.reference, "client": client}
        status = status_of(error)
        if isinstance(error, AcmeException):
            self.bus.emit(Refused(status=status, reason=str(error), **who))
        else:
            reason = f"a bug: {type(error).__name__}"
            self.bus.emit(Failed(stage="request", status=status, reason=reason, bug=error, **who))
        return refused.answer


class _Refusal(ACMEAbstractHandler):
    """Writes the answer to a request that no handler took, as bytes."""

    def __init__(self, exchange: Exchange | None, error: Exception) -> None:
        self.exchange = None
        self.wfile = io.BytesIO()
        self.command = self.requestline = ""
        self.request_version = "HTTP/1.1"
        self.close_connection = True
        if exchange is not None:
            self.command, self.headers, self.reference = exchange.method, exchange.headers, exchange.reference
        self.send_error_answer(error)
        self.answer = self.wfile.getvalue()


class Management(_Door):
    """The application of the listeners that machines ask.

    Args:
        auth: who may ask for what.
        issuance: turns accepted requests into chains.
        bus: told of refusals and failures.
        clock: for durations.
    """

    def __init__(self, auth: Authenticator, issuance: Issuance, bus: Bus, clock: Clock = SYSTEM) -> None:
        super().__init__(bus, clock)
        self.auth = auth
        self.issuance = issuance

    def begin(self, exchange: Exchange) -> int:
        """Check a request by its head; return the length of its body, in bytes."""
        handler = ACMEMgmtHandler(exchange, exchange.client_address, self)
        exchange.handler = handler
        return handler.preflight()

    def run(self, exchange: Exchange) -> None:
        """Answer a complete request, now or when its chain is there."""
        exchange.handler.do_POST()


class Challenges(_Door):
    """The application of an http-01 verification's listeners.

    Args:
        validator: the verification.
        bus: told of refusals and failures.
        clock: for durations.
    """

    def __init__(self, validator: Http01, bus: Bus, clock: Clock = SYSTEM) -> None:
        super().__init__(bus, clock)
        self.validator = validator

    def begin(self, exchange: Exchange) -> int:
        """Take GET and HEAD, without a body."""
        if exchange.method not in {"GET", "HEAD"}:
            allowed = ACMEHTTPHandler.allowed
            raise HttpRefusal(405, f"only {allowed} is answered here", {"Allow": allowed})
        return 0

    def run(self, exchange: Exchange) -> None:
        """Answer from the table of responses."""
        ACMEHTTPHandler(self.validator, exchange, exchange.client_address, self).do_GET()
