"""simpleenroll and simplereenroll: a CSR in, its certificate out, or 202 while a CA takes its time."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from acmems.auth import Authenticator, Processor
from acmems.auth.methods.client_certificate import read_client_certificate
from acmems.events import AnsweredEvent, FrontEndName
from acmems.exceptions import DeadlinePassed, HttpRefusal, PolicyRefusal
from acmems.frontends.delivery import SigningExchange, SigningParts, accepted_request, delivered_event
from acmems.frontends.est.authorities import CaCertificates
from acmems.frontends.est.messages import CHALLENGE, basic_password, certificates_response, request_pem
from acmems.frontends.est.targets import EstOperation, EstTarget
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.net.http import Exchange, HttpResponse
from acmems.storages import Storage
from acmems.x509.chain import leaf_of

FRONT_END: FrontEndName = "est"
"""What metrics call the front end of EST clients."""
_WAIT_SECONDS = 20.0  # who has not got an answer by then may think that there is nobody
_RETRY_AFTER = 15  # seconds


class Enrollment(SigningExchange):
    """One request for a certificate.

    Args:
        parts: what it is answered with.
        exchange: the request.
        target: what it is about.
        authorities: takes note of CAs.
    """

    def __init__(
        self, parts: SigningParts, exchange: Exchange, target: EstTarget, authorities: CaCertificates
    ) -> None:
        super().__init__(parts, exchange)
        self._target = target
        self._authorities = authorities
        self._names_nobody = not exchange.headers.get("Authorization")
        self.processor = _processor(self._policy.auth, exchange, target)

    def admit(self) -> int:
        """Check what is known before the body is read, and return the length of the body in bytes.

        Raises:
            HttpRefusal: 401 for a client that has not said who it is, and could be accepted if it did.
            PolicyRefusal, PayloadToLarge: as `Processor.admit`.
        """
        try:
            return self.processor.admit()
        except PolicyRefusal:
            if self._names_nobody:
                raise _unknown() from None
            raise

    def answer(self) -> None:
        """Decide, find or order the certificate, and send it now or when it is there."""
        try:
            accepted = self._read()
            future = self._parts.issuances.issue(accepted)
        except Exception as error:  # noqa: BLE001 - whatever it is, client and operator are told
            self._refuse(_unknown() if isinstance(error, PolicyRefusal) and self._names_nobody else error)
            return
        exchange, storage = self._exchange, accepted.storage
        future.add_done_callback(lambda done: exchange.hand_over(lambda: self._deliver(done, storage)))

    def _read(self) -> AcceptedRequest:
        exchange, processor = self._exchange, self.processor
        try:
            body = request_pem(exchange.body)
        finally:
            exchange.body = b""  # bodies are not kept while a CA is waited for
            self._body.close()
        grant = processor.grant_body(body, processor.accepting(body))
        if self._target.operation is EstOperation.REENROLL:
            self._check_renewal()
        accepted = accepted_request(
            grant,
            processor,
            exchange.reference,
            gone=lambda: exchange.gone,
            arrived=self._began,
            policy=self._policy,
        )
        return replace(accepted, seconds=min(_WAIT_SECONDS, self._policy.seconds))

    def _check_renewal(self) -> None:
        """Refuse a CSR that is not for the names of the client's certificate (RFC 7030 section 4.2.2)."""
        shown, request = self.processor.caller.certificate, self.processor.request
        if shown is None:
            raise HttpRefusal(
                400,
                "simplereenroll needs the certificate that is renewed as the certificate of the TLS client",
            )
        certificate = read_client_certificate(shown)
        if request is None or certificate is None or {*certificate.identifiers} != {*request.identifiers}:
            raise HttpRefusal(400, "the CSR is not for exactly the names of the certificate that is renewed")

    def _deliver(self, future: Future[Delivery], storage: Storage) -> None:
        if isinstance(future.exception(), DeadlinePassed):  # the work goes on, and nothing is lost
            self._defer()
        else:
            super()._deliver(future, storage)

    def _send_chain(self, delivery: Delivery, storage: Storage) -> None:  # noqa: ARG002 - the contract
        if self.processor.block is not None:
            self._authorities.learn(self.processor.block.name, delivery.chain)
        response = certificates_response([leaf_of(delivery.chain.pem)], is_enrolled=True)
        self._parts.bus.emit(delivered_event(delivery, response.status, seconds=self._seconds, **self._known))
        self._send(response)

    def _defer(self) -> None:
        """Have the client send the same request again after a while (RFC 7030 section 4.2.3)."""
        words = f"the CA takes its time: send the same request again in {_RETRY_AFTER} s\n"
        headers = {"Retry-After": str(_RETRY_AFTER)}
        response = HttpResponse(202, words.encode("ascii"), headers=headers)
        self._parts.bus.emit(AnsweredEvent(status=response.status, **self._known))
        self._send(response)

    @property
    def _known(self) -> dict[str, Any]:
        return {**super()._known, "front_end": FRONT_END}


def _processor(auth: Authenticator, exchange: Exchange, target: EstTarget) -> Processor:
    """Return what decides: a label leaves one auth block, and a password is a token."""
    if target.label is not None:
        auth = replace(auth, blocks=tuple(block for block in auth.blocks if block.name == target.label))
    processor = Processor(
        auth,
        exchange.client_address,
        exchange.headers,
        _NoBody(),
        is_chunked=exchange.is_chunked,
        certificate=exchange.peer_certificate,
    )
    password = basic_password(exchange.headers)
    if password is not None:
        processor.caller = replace(processor.caller, token=password)
    return processor


class _NoBody:
    """In the place of a file: the body is read from its base64 instead."""

    def read(self, size: int, /) -> bytes:  # noqa: ARG002 - the contract
        """Return nothing."""
        return b""


def _unknown() -> HttpRefusal:
    return HttpRefusal(
        401, "say who you are: with a client certificate, or HTTP Basic", {"WWW-Authenticate": CHALLENGE}
    )
