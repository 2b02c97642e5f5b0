"""Ordering: from a certificate request to the CA's chain (RFC 8555 section 7.4)."""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Hashable, Sequence

from acmems.challenges import Validator
from acmems.exceptions import (
    AcmeException,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    FateUnknown,
    PayloadInvalid,
    RateLimited,
    ValidatorUnavailable,
)
from acmems.issuers.acme.order import Order, OrderStatus, parse
from acmems.issuers.acme.polling import PollInterval
from acmems.issuers.acme.problems import translate
from acmems.issuers.acme.proving import Proving
from acmems.issuers.acme.session import Session
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier, subject_alt_name_option

logger = logging.getLogger(__name__)

# After these an order stays open: it can still be finished, by whoever asks next.
_PASSING = (DeadlinePassed, CAUnavailable, RateLimited, ValidatorUnavailable)


class Ordering:
    """Places and finishes the orders of one account.

    What could not be finished in time stays open, and the next request for the same continues it.

    Args:
        session: the way to the CA.
        proving: has names validated.
        clock: for deadlines.
        profile: the ACME profile to order, None for the CA's default.
        most_open: how many unfinished orders are remembered.
    """

    def __init__(
        self,
        session: Session,
        proving: Proving,
        clock: Clock,
        *,
        profile: str | None = None,
        most_open: int = 10_000,
    ) -> None:
        self.session = session
        self.proving = proving
        self.poll_interval = PollInterval()
        self._clock = clock
        self._profile = profile
        self._most_open = most_open
        self._open: OrderedDict[Hashable, str] = OrderedDict()
        self._stopping = Signal()

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: Hashable,
    ) -> Steps[bytes]:
        """Order a certificate, prove its names, finalize, and return the chain as the CA sent it (PEM).

        Args:
            request: what is asked for; the bytes that were checked are the bytes that are finalized.
            validators: what can prove the names, best first.
            deadline: when to give up; the order stays open then.
            identity: what makes two requests the same; an open order for the same is continued.

        Raises:
            ChallengeFailed, InvalidDomainName, NoChallengeMethodsSupported: a name cannot be had.
            PayloadInvalid: the CA does not accept the CSR.
            AccountError: the CA does not accept the account.
            ValidatorUnavailable, RateLimited, CAError, DeadlinePassed: not now.
        """
        try:
            order = yield from self._resume(request, deadline, identity)
            if order is None:
                order = yield from self._new(request, deadline, identity)
            while order.status is not OrderStatus.VALID:
                order = yield from self._advance(order, request, validators, deadline)
            chain = yield from self._download(order, deadline)
        except _PASSING:
            raise
        except CAProblem as problem:
            self._forget(identity)
            meaning = translate(problem, request.names)
            if meaning is problem:
                raise
            raise meaning from problem
        except AcmeException:
            self._forget(identity)
            raise
        self._forget(identity)
        return chain

    def stop(self) -> None:
        """End all waiting for the CA, now and from now on, with `CAUnavailable`; orders stay open."""
        self._stopping.set()

    def create(self, identifiers: Sequence[Identifier], deadline: Deadline) -> Steps[Order]:
        """Place an order (section 7.4).

        Args:
            identifiers: what a certificate is wanted for.
            deadline: when to give up.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        payload: dict[str, object] = {
            "identifiers": [{"type": each.type.value, "value": each.value} for each in identifiers]
        }
        if self._profile is not None:
            payload["profile"] = self._profile
        url = (yield from self.session.directory(deadline))["newOrder"]
        response = yield from self.session.post(url, payload, deadline=deadline, repeatable=False)
        if response.location is None:
            raise CAProtocolError("the CA answered a new order without its URL")
        return parse(response, response.location, identifiers)

    def _new(self, request: CertificateRequest, deadline: Deadline, identity: Hashable) -> Steps[Order]:
        order = yield from self.create(request.identifiers, deadline)
        self._open[identity] = order.url
        while len(self._open) > self._most_open:
            self._open.popitem(last=False)
        return order

    def _resume(
        self, request: CertificateRequest, deadline: Deadline, identity: Hashable
    ) -> Steps[Order | None]:
        url = self._open.get(identity)
        if url is None:
            return None
        try:
            order, _ = yield from self._fetch(url, request.identifiers, deadline)
        except CAProblem as problem:
            logger.info("an unfinished order is gone, a new one takes its place: %s", problem)
        else:
            if order.status is not OrderStatus.INVALID:
                return order
        self._forget(identity)
        return None

    def _forget(self, identity: Hashable) -> None:
        self._open.pop(identity, None)

    def _fetch(
        self, url: str, identifiers: Sequence[Identifier], deadline: Deadline
    ) -> Steps[tuple[Order, float | None]]:
        response = yield from self.session.post(url, None, deadline=deadline)
        return parse(response, url, identifiers), response.retry_after(self._clock.now())

    def _advance(
        self,
        order: Order,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
    ) -> Steps[Order]:
        """Take an order one state further (section 7.1.6)."""
        if order.status is OrderStatus.PENDING:
            yield from self.proving.prove(order.authorizations, request.identifiers, validators, deadline)
            # Every name is validated, so the order is ready: asking first would cost a round trip.
            return (yield from self._finalize(order, request, deadline))
        if order.status is OrderStatus.READY:
            return (yield from self._finalize(order, request, deadline))
        if order.status is OrderStatus.PROCESSING:
            return (yield from self._poll(order, request, deadline))
        if order.error is None:
            raise CAProtocolError("the CA made an order invalid and gave no reason")
        raise translate(order.error, request.names)

    def _finalize(self, order: Order, request: CertificateRequest, deadline: Deadline) -> Steps[Order]:
        """Send the CSR (section 7.4); where its fate is unknown, the order is read instead."""
        payload = {"csr": urlsafe_b64encode(request.der).rstrip(b"=").decode("ascii")}
        try:
            response = yield from self.session.post(
                order.finalize, payload, deadline=deadline, repeatable=False
            )
        except FateUnknown:
            logger.warning("the answer to a finalize was lost; reading the order instead")
            return (yield from self._poll(order, request, deadline, patience=5))
        except CAProblem as problem:
            if request.common_names_only and problem.code in {"unauthorized", "badCSR"}:
                raise PayloadInvalid(
                    f"this CA takes names from subjectAltName only, not from the CN ({problem.detail}): "
                    f"make the CSR with {subject_alt_name_option(request.identifiers)}"
                ) from problem
            if problem.code == "unauthorized" and not problem.subproblems:
                # Some CAs say so of a CSR that is not for the order's names; a name is never at fault here.
                raise PayloadInvalid(f"the CA does not accept the CSR: {problem.detail}") from problem
            if problem.code != "orderNotReady":
                raise
            return (yield from self._poll(order, request, deadline))
        finalized = parse(response, order.url, request.identifiers)
        if finalized.status is OrderStatus.PROCESSING:
            retry_after = response.retry_after(self._clock.now())
            return (yield from self._poll(order, request, deadline, retry_after))
        return finalized

    def _poll(
        self,
        order: Order,
        request: CertificateRequest,
        deadline: Deadline,
        retry_after: float | None = None,
        *,
        patience: int = 1,
    ) -> Steps[Order]:
        """Look at the order until the CA has moved it on; never earlier than the CA wants.

        An order that is still `ready` after `patience` looks never got its finalize: the CA leaves
        that state before it answers one (section 7.1.6). So finalizing then is the first finalize.
        """
        before = self._clock.monotonic()
        polls = 0
        while True:
            seconds = max(retry_after or 0.0, self.poll_interval.interval(polls))
            if seconds >= deadline.remaining:
                raise DeadlinePassed("the CA is still working on the order", retry_after=max(seconds, 10.0))
            if (yield self._stopping.wait(seconds)):
                raise CAUnavailable("this server is stopping; ask again")
            order, retry_after = yield from self._fetch(order.url, request.identifiers, deadline)
            polls += 1
            if order.status in {OrderStatus.VALID, OrderStatus.INVALID}:
                self.poll_interval.learn(self._clock.monotonic() - before, polls)
                return order
            if order.status is OrderStatus.READY and polls >= patience:
                return order

    def _download(self, order: Order, deadline: Deadline) -> Steps[bytes]:
        if order.certificate is None:
            raise CAProtocolError("the CA calls an order valid and gives no certificate")
        response = yield from self.session.post(
            order.certificate, None, deadline=deadline, accept="application/pem-certificate-chain"
        )
        return response.body
