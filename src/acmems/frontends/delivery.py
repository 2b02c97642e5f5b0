"""What all have in common who ask for a chain by HTTP: what they are sent, and what is told of it."""

from __future__ import annotations

import datetime
import functools
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final, Protocol

from acmems.auth import Authenticator, Processor
from acmems.auth.processor import Grant
from acmems.events import AnsweredEvent, Bus, DeliveredEvent, Event, FrontEndName
from acmems.frontends.problems import CLOSING, TOLD_IN_SUMS, failure_event, is_refusal, problem_response
from acmems.issuing.renewal.times import RenewalOutlook
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.http import Exchange, HttpResponse
from acmems.storages import Storage
from acmems.system.clock import Clock
from acmems.x509.chain import Chain
from acmems.x509.leaf import SubjectPolicy

FRONT_END: Final[FrontEndName] = "sign"
"""What metrics call the front end of machines that ask for chains."""

_ENTITY_TAG = re.compile(r'"[^"]*"')  # of a list; a W/ before it does not matter (RFC 9110 section 8.8.3.2)


@dataclass(frozen=True, slots=True)
class SigningPolicy:
    """What a configuration says of requests; each request is judged by the one that holds when it begins.

    Args:
        auth: who may ask for what.
        seconds: how long a client waits for a chain.
        subject: what the subject of a certificate may hold beside names.
    """

    auth: Authenticator
    seconds: float
    subject: SubjectPolicy


class Issuing(Protocol):
    """What turns accepted requests into chains."""

    def issue(self, accepted: AcceptedRequest) -> Future[Delivery]:
        """Return a chain for an accepted request; raises an `AcmeException` where there is none at once."""

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        """Return when a chain is to be renewed that is delivered from a storage, at some time (aware)."""

    def identities(self, accepted: AcceptedRequest) -> Mapping[str, str]:
        """Return the accounts that may order a request, by what makes others the same at each, best first."""


@dataclass(frozen=True, slots=True)
class SigningParts:
    """What requests for chains are answered with.

    Args:
        policy: returns what holds now.
        issuances: turn accepted requests into chains.
        bus: told of refusals and failures.
        clock: for durations and dates.
    """

    policy: Callable[[], SigningPolicy]
    issuances: Issuing
    bus: Bus
    clock: Clock


class SigningExchange:
    """One request for a chain.

    Args:
        parts: what it is answered with.
        exchange: the request.

    Attributes:
        processor: decides about it.
    """

    def __init__(self, parts: SigningParts, exchange: Exchange) -> None:
        self._parts = parts
        self._exchange = exchange
        self._began = parts.clock.monotonic()
        self._body = io.BytesIO()
        self._policy = parts.policy()
        self.processor = Processor(
            self._policy.auth,
            exchange.client_address,
            exchange.headers,
            self._body,
            is_chunked=exchange.is_chunked,
            certificate=exchange.peer_certificate,
        )

    def _read(self) -> AcceptedRequest:
        """Read the body, and return what an issuance is asked for.

        Raises:
            AcmeException: as `Processor.grant`.
        """
        self._body.write(self._exchange.body)
        self._body.seek(0)
        try:
            return self._accepted(self.processor.grant())
        finally:
            # Bodies are not kept while a CA is waited for; what is in them is read.
            self._exchange.body = b""
            self._body.close()

    def _accepted(self, grant: Grant) -> AcceptedRequest:
        """Return what an issuance is asked for."""
        return accepted_request(
            grant,
            self.processor,
            self._exchange.reference,
            gone=lambda: self._exchange.gone,
            arrived=self._began,
            policy=self._policy,
        )

    def _deliver(self, future: Future[Delivery], storage: Storage) -> None:
        """Send what has come of an issuance."""
        error = future.exception()
        if error is not None:
            self._refuse(error)
        else:
            self._send_chain(future.result(), storage)

    def _send_chain(self, delivery: Delivery, storage: Storage) -> None:
        # Logged before it is sent, here and in `_refuse`: whoever has the answer finds its line in the log.
        now = self._parts.clock.now()
        outlook = self._parts.issuances.outlook(delivery.chain, storage, now)
        response = chain_response(delivery.chain, outlook, now, self._exchange.headers)
        event = delivered_event(delivery, response.status, seconds=self._seconds, **self._known)
        self._parts.bus.emit(event)
        self._send(response)

    def _refuse(self, error: BaseException) -> None:
        accept = str(self._exchange.headers.get("Accept", ""))
        response = problem_response(error, self._exchange.reference, accept)
        event: Event = AnsweredEvent(status=response.status, **self._known)
        if not isinstance(error, TOLD_IN_SUMS):
            event = failure_event(error, seconds=self._seconds, **self._known)
        self._parts.bus.emit(event)
        self._send(response)

    def _send(self, response: HttpResponse) -> None:
        self._exchange.is_refusal = is_refusal(response.status)
        close = not self._exchange.keep_alive or response.status in CLOSING
        self._exchange.answer(response.encoded(close=close), close=close)

    @property
    def _seconds(self) -> float:
        return self._parts.clock.monotonic() - self._began

    @property
    def _known(self) -> dict[str, Any]:
        return known_of(self.processor, self._exchange.reference)


def accepted_request(
    grant: Grant,
    processor: Processor,
    reference: str,
    *,
    gone: Callable[[], bool] = lambda: False,
    arrived: float | None = None,
    policy: SigningPolicy | None = None,
) -> AcceptedRequest:
    """Return what an issuance is asked for by a granted request.

    Args:
        grant: the CSR and the block that grants it.
        processor: has processed the request.
        reference: names the request in the log.
        gone: tells whether the client has hung up.
        arrived: when the request came, in seconds of the monotonic clock; None: now.
        policy: says how long the client waits, and what a subject may hold; None: what the issuance says.
    """
    return AcceptedRequest(
        grant.request,
        grant.block.validators,
        grant.block.storage,
        reference,
        processor.client,
        grant.block.name,
        gone,
        grant.block.grants,
        grant.block.max_orders,
        arrived,
        None if policy is None else policy.seconds,
        None if policy is None else policy.subject,
        issuers=grant.block.issuers,
    )


def chain_response(
    chain: Chain, outlook: RenewalOutlook, now: datetime.datetime, headers: Message
) -> HttpResponse:
    """Return the response that carries a chain (RFC 8555 section 9.1), or 304 to a client that has it.

    `max-age` says when it is useful to ask again, and `Renew-After` when renewal is due, which a client may
    want to know that makes a new key then. For POST, RFC 9110 section 13.1.2 has 412 instead of 304; but here
    POST asks for a representation, as GET does, and clients know 304.

    Args:
        chain: what is delivered.
        outlook: when it is to be renewed.
        now: the time (aware).
        headers: those of the request.
    """
    tag = _entity_tag(chain.pem)
    fields = {
        "ETag": tag,
        "Cache-Control": f"private, max-age={_seconds_until(outlook.useful, now)}",
        "Renew-After": str(_seconds_until(outlook.due, now)),
    }
    if tag in _ENTITY_TAG.findall(", ".join(headers.get_all("If-None-Match", ()))):
        return HttpResponse(304, b"", headers=fields)
    return HttpResponse(200, chain.pem, "application/pem-certificate-chain", fields)


@functools.lru_cache(maxsize=1024)  # as many as chains that are read are kept
def _entity_tag(pem: bytes) -> str:
    """Return what names a chain to a client that has it (RFC 9110 section 8.8.3)."""
    return f'"{hashlib.sha256(pem).hexdigest()[:32]}"'


def delivered_event(delivery: Delivery, status: int, **known: Any) -> DeliveredEvent:
    """Return what the operator is told of a chain that is sent."""
    return DeliveredEvent(
        status=status, source=delivery.source, fingerprint=delivery.chain.fingerprint, **known
    )


def known_of(processor: Processor, reference: str) -> dict[str, Any]:
    """Return what is known of a request, as fields of an event."""
    request, block = processor.request, processor.block
    return {
        "reference": reference,
        "client": processor.client,
        "names": request.names if request else (),
        "block": block.name if block else None,
        "front_end": FRONT_END,
    }


def _seconds_until(moment: datetime.datetime, now: datetime.datetime) -> int:
    return max(0, int((moment - now).total_seconds()))
