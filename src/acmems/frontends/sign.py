"""The front end of `/sign`: a CSR is posted, its chain is the answer."""

from __future__ import annotations

import datetime
import functools
import hashlib
import io
import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from email.message import Message
from typing import Any, Protocol

from acmems.auth import Authenticator, Processor
from acmems.auth.processor import Grant, client_ip, client_name
from acmems.events import AnsweredEvent, Bus, DeliveredEvent, Event
from acmems.exceptions import HttpRefusal
from acmems.frontends.application import FrontEnd
from acmems.frontends.problems import CLOSING, TOLD_IN_SUMS, failure_event, is_refusal, problem_response
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.http import Exchange, Handling, HttpResponse
from acmems.storages import Storage
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.chain import Chain
from acmems.x509.leaf import SubjectPolicy

SIGN = "/sign"
ALLOWED = "POST"

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


class SignFrontEnd(FrontEnd):
    """The application of the listeners that machines ask.

    Args:
        policy: returns what holds now.
        issuances: turn accepted requests into chains.
        bus: told of refusals and failures.
        clock: for durations.
    """

    name = "sign"

    def __init__(
        self, policy: Callable[[], SigningPolicy], issuances: Issuing, bus: Bus, clock: Clock = SYSTEM
    ) -> None:
        super().__init__(bus, clock)
        self.policy = policy
        self.issuances = issuances

    def begin(self, exchange: Exchange) -> Handling:
        """Check a request by its path, method, address and the form of its headers."""
        check_target(exchange.target, exchange.method)
        request = _SignRequest(self, exchange)
        return Handling(request.processor.admit(), request.answer)

    def client_of(self, exchange: Exchange, peer: str) -> str:
        """Return what the log calls the client of a request, as a trusted proxy tells it."""
        return client_name(peer, client_ip(peer, exchange.headers, self.policy().auth.trusted_proxies))


class _SignRequest:
    """One request to sign a CSR."""

    def __init__(self, front_end: SignFrontEnd, exchange: Exchange) -> None:
        self._front_end = front_end
        self._exchange = exchange
        self._began = front_end.clock.monotonic()
        self._body = io.BytesIO()
        self._policy = front_end.policy()
        self.processor = Processor(
            self._policy.auth,
            exchange.client_address,
            exchange.headers,
            self._body,
            is_chunked=exchange.is_chunked,
        )

    def answer(self) -> None:
        """Decide, find or order the chain, and send it now or when it is there."""
        exchange = self._exchange
        self._body.write(exchange.body)
        self._body.seek(0)
        try:
            accepted = accepted_request(
                self.processor.grant(),
                self.processor,
                exchange.reference,
                lambda: exchange.gone,
                self._began,
                policy=self._policy,
            )
            future = self._front_end.issuances.issue(accepted)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._refuse(error)
            return
        finally:
            # Bodies are not kept while a CA is waited for; what is in them is read.
            exchange.body = b""
            self._body.close()
        if future.done():
            self._deliver(future, accepted.storage)
        else:
            # Thousands may wait for one chain: each hears of it when it is the turn of its address.
            future.add_done_callback(
                lambda done: exchange.hand_over(lambda: self._deliver(done, accepted.storage))
            )

    def _deliver(self, future: Future[Delivery], storage: Storage) -> None:
        error = future.exception()
        if error is not None:
            self._refuse(error)
            return
        # Logged before it is sent, here and in `_refuse`: whoever has the answer finds its line in the log.
        delivery = future.result()
        response = chain_response(
            delivery.chain, storage, self._front_end.clock.now(), self._exchange.headers
        )
        event = delivered_event(delivery, response.status, seconds=self._seconds, **self._known)
        self._front_end.bus.emit(event)
        self._send(response)

    def _refuse(self, error: BaseException) -> None:
        accept = str(self._exchange.headers.get("Accept", ""))
        response = problem_response(error, self._exchange.reference, accept)
        event: Event = AnsweredEvent(status=response.status, **self._known)
        if not isinstance(error, TOLD_IN_SUMS):
            event = failure_event(error, seconds=self._seconds, **self._known)
        self._front_end.bus.emit(event)
        self._send(response)

    def _send(self, response: HttpResponse) -> None:
        self._exchange.is_refusal = is_refusal(response.status)
        close = not self._exchange.keep_alive or response.status in CLOSING
        self._exchange.answer(response.encoded(close=close), close=close)

    @property
    def _seconds(self) -> float:
        return self._front_end.clock.monotonic() - self._began

    @property
    def _known(self) -> dict[str, Any]:
        return known_of(self.processor, self._exchange.reference)


def check_target(target: str, method: str) -> None:
    """Refuse what is not a POST to `/sign`.

    Raises:
        HttpRefusal: it is not.
    """
    if target != SIGN:
        raise HttpRefusal(404, f"there is nothing here: POST a CSR to {SIGN}")
    if method != ALLOWED:
        raise HttpRefusal(405, f"POST a CSR to {SIGN}", {"Allow": ALLOWED})


def accepted_request(
    grant: Grant,
    processor: Processor,
    reference: str,
    gone: Callable[[], bool] = lambda: False,
    arrived: float | None = None,
    *,
    policy: SigningPolicy | None = None,
) -> AcceptedRequest:
    """Return what an issuance is asked for by a granted request.

    Args:
        grant: the CSR and the block that grants it.
        processor: has processed the request.
        reference: names the request in the log.
        gone: tells whether the client has hung up.
        arrived: when the request came, in seconds of the monotonic clock; None: now.
        policy: what the configuration says of it; None: nothing beside what the issuance does for all.
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


def chain_response(chain: Chain, storage: Storage, now: datetime.datetime, headers: Message) -> HttpResponse:
    """Return the response that carries a chain (RFC 8555 section 9.1), or 304 to a client that has it.

    Until its renewal is due there is no need to ask again. For POST, RFC 9110 section 13.1.2 has 412 instead
    of 304; but here POST asks for a representation, as GET does, and clients know 304.

    Args:
        chain: what is delivered.
        storage: knows when it is due.
        now: the time (aware).
        headers: those of the request.
    """
    seconds = (chain.renewal_time(storage.renew_within) - now).total_seconds()
    tag = _entity_tag(chain.pem)
    fields = {"ETag": tag, "Cache-Control": f"private, max-age={max(0, int(seconds))}"}
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
        "front_end": SignFrontEnd.name,
    }
