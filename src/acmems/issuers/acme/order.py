"""Orders: from a certificate request to the CA's chain (RFC 8555 sections 7.1.3, 7.4)."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from acme import messages
from josepy.b64 import b64encode
from josepy.errors import DeserializationError

from acmems.challenges import Validator
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    DeadlinePassed,
    FateUnknown,
    InvalidDomainName,
    NeedToAgreeToTOS,
    PayloadInvalid,
    RateLimited,
    ValidatorUnavailable,
)
from acmems.issuers.acme.polling import PollInterval
from acmems.issuers.acme.proving import Authorizations
from acmems.issuers.acme.session import Response, Session, readable_problem
from acmems.system.clock import Clock, Deadline
from acmems.text import one_line
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier, subject_alt_name_option

logger = logging.getLogger(__name__)

_STATES = frozenset({"pending", "ready", "processing", "valid", "invalid"})
_ACCOUNT = frozenset({"accountDoesNotExist", "externalAccountRequired"})
_NAME = frozenset({"rejectedIdentifier", "unsupportedIdentifier"})
_VALIDATION = frozenset(
    {"caa", "connection", "dns", "dnssec", "incorrectResponse", "tls", "unauthorized", "unknownHost"}
)


def parse(answer: Response, url: str, names: Sequence[Identifier]) -> messages.OrderResource:
    """Return the order in a CA's answer.

    Args:
        answer: the answer.
        url: the order's URL.
        names: what was ordered; an order for anything else stops everything.

    Raises:
        CAProtocolError: it cannot be read, or is for other names.
    """
    raw = {name: value for name, value in answer.json().items() if value is not None}
    status, urls = raw.get("status"), raw.get("authorizations")
    if not isinstance(status, str) or status not in _STATES:
        raise CAProtocolError(f"an order has the unknown status {one_line(status, 40)!r}")
    if not isinstance(urls, list) or not urls or not all(isinstance(each, str) for each in urls):
        raise CAProtocolError("an order lacks its authorizations")
    if not isinstance(raw.get("finalize"), str):
        raise CAProtocolError("an order lacks the URL to finalize it")
    if isinstance(raw.get("error"), dict):
        raw["error"] = readable_problem(raw["error"])
    try:
        body = messages.Order.from_json(raw)
        ordered = {(identifier.typ.name, identifier.value.lower()) for identifier in body.identifiers or ()}
    except (DeserializationError, ValueError, TypeError, AttributeError) as error:
        raise CAProtocolError("an order cannot be read") from error
    if ordered != {(name.type.value, name.value) for name in names}:
        raise CAProtocolError("the CA answered with an order for other names than were asked for")
    return messages.OrderResource(body=body, uri=url, authorizations=[])


@contextlib.contextmanager
def translating(names: Sequence[str]) -> Iterator[None]:
    """Raise what a CA's problem document means for a request, in place of the document.

    Args:
        names: what was ordered, to name one where the problem does not.

    Raises:
        AcmeException: as `translate` returns it.
    """
    try:
        yield
    except CAProblem as problem:
        error = translate(problem, names)
        if error is problem:
            raise
        raise error from problem


def translate(problem: CAProblem, names: Sequence[str]) -> AcmeException:
    """Return what a CA's problem document means for a request (RFC 8555 section 6.7).

    Args:
        problem: the CA's problem.
        names: what was ordered, to name one where the problem does not.
    """
    name, code, detail = ", ".join(names), problem.code, problem.detail
    for identifier, type_, words in problem.subproblems:
        name, code, detail = identifier or name, type_.removeprefix(CAProblem.PREFIX), words
        break
    detail = detail or problem.detail or code
    if problem.code == "userActionRequired":
        return _action_required(problem)
    if problem.code in _ACCOUNT or (problem.code == "unauthorized" and "account" in detail.lower()):
        return AccountError(f"the CA does not accept the account: {detail}")
    if code in _NAME:
        return InvalidDomainName(name, detail)
    if problem.code in {"badCSR", "badPublicKey"}:
        return PayloadInvalid(f"the CA does not accept the CSR: {detail}")
    if code in _VALIDATION:
        return ChallengeFailed(name, detail, "")
    return problem


def _action_required(problem: CAProblem) -> AccountError:
    """Return what a person has to do (RFC 8555 section 7.3.3)."""
    if problem.terms:
        return NeedToAgreeToTOS(problem.terms, detail=problem.detail, visit=problem.visit)
    where = problem.visit or "the website of the CA"
    return AccountError(f"the CA wants a person to act before it goes on ({problem.detail}): visit {where}")


# After these an order stays open: it can still be finished, by whoever asks next.
_PASSING = (DeadlinePassed, CAUnavailable, RateLimited, ValidatorUnavailable)


class Orders:
    """The orders of one account.

    What could not be finished in time stays open, and the next request for the same goes on with it.

    Args:
        session: the way to the CA.
        authorizations: what proves the names.
        clock: for deadlines and waits.
        profile: the ACME profile to order, None for the CA's default.
        most_open: how many unfinished orders are remembered.
    """

    def __init__(
        self,
        session: Session,
        authorizations: Authorizations,
        clock: Clock,
        *,
        profile: str | None = None,
        most_open: int = 10_000,
    ) -> None:
        self.session = session
        self.authorizations = authorizations
        self.clock = clock
        self.profile = profile
        self.pace = PollInterval()
        self._most_open = most_open
        self._open: OrderedDict[object, str] = OrderedDict()
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def obtain(
        self, request: CertificateRequest, validators: Sequence[Validator], deadline: Deadline, key: object
    ) -> bytes:
        """Order a certificate, prove its names, finalize, and return the chain as the CA sent it (PEM).

        Args:
            request: what is asked for; the bytes that were checked are the bytes that are finalized.
            validators: what can prove the names, best first.
            deadline: when to give up; the order stays open then.
            key: what makes two requests the same; an open order for the same is continued.

        Raises:
            ChallengeFailed, InvalidDomainName, NoChallengeMethodsSupported: a name cannot be had.
            PayloadInvalid: the CA does not accept the CSR.
            AccountError: the CA does not accept the account.
            ValidatorUnavailable, RateLimited, CAError, DeadlinePassed: not now.
        """
        try:
            order = self._resume(request, deadline, key) or self._new(request, deadline, key)
            while order.body.status != messages.STATUS_VALID:
                order = self._advance(order, request, validators, deadline)
            chain = self._download(order, deadline)
        except _PASSING:
            raise
        except CAProblem as problem:
            self._forget(key)
            meaning = translate(problem, request.names)
            if meaning is problem:
                raise
            raise meaning from problem
        except AcmeException:
            self._forget(key)
            raise
        self._forget(key)
        return chain

    def stop(self) -> None:
        """End all waiting for the CA, now and from now on, with `CAUnavailable`; orders stay open."""
        self._stopping.set()

    def create(self, names: Sequence[Identifier], deadline: Deadline) -> messages.OrderResource:
        """Place an order (section 7.4).

        Args:
            names: what a certificate is wanted for.
            deadline: when to give up.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        payload: dict[str, object] = {
            "identifiers": [{"type": name.type.value, "value": name.value} for name in names]
        }
        if self.profile is not None:
            payload["profile"] = self.profile
        url = self.session.directory(deadline)["newOrder"]
        answer = self.session.post(url, payload, deadline=deadline, repeatable=False)
        if answer.location is None:
            raise CAProtocolError("the CA answered a new order without its URL")
        return parse(answer, answer.location, names)

    def _new(self, request: CertificateRequest, deadline: Deadline, key: object) -> messages.OrderResource:
        order = self.create(request.identifiers, deadline)
        with self._lock:
            self._open[key] = order.uri
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)
        return order

    def _resume(
        self, request: CertificateRequest, deadline: Deadline, key: object
    ) -> messages.OrderResource | None:
        with self._lock:
            url = self._open.get(key)
        if url is None:
            return None
        try:
            order, _ = self._fetch(url, request.identifiers, deadline)
        except CAProblem as problem:
            logger.info("an unfinished order is gone, a new one takes its place: %s", problem)
        else:
            if order.body.status != messages.STATUS_INVALID:
                return order
        self._forget(key)
        return None

    def _forget(self, key: object) -> None:
        with self._lock:
            self._open.pop(key, None)

    def _fetch(
        self, url: str, names: Sequence[Identifier], deadline: Deadline
    ) -> tuple[messages.OrderResource, float | None]:
        answer = self.session.post(url, None, deadline=deadline)
        return parse(answer, url, names), answer.retry_after(self.clock.now())

    def _advance(
        self,
        order: messages.OrderResource,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
    ) -> messages.OrderResource:
        """Take an order one state further (section 7.1.6)."""
        if order.body.status == messages.STATUS_PENDING:
            self.authorizations.prove(order.body.authorizations, request.identifiers, validators, deadline)
            # Every name is proved, so the order is ready: asking first would cost a round trip.
            return self._finalize(order, request, deadline)
        if order.body.status == messages.STATUS_READY:
            return self._finalize(order, request, deadline)
        if order.body.status == messages.STATUS_PROCESSING:
            return self._wait(order, request, deadline)
        raise self._failure(order, request.names)

    def _failure(self, order: messages.OrderResource, names: Sequence[str]) -> AcmeException:
        error = order.body.error
        if error is None:
            return CAProtocolError("the CA made an order invalid and gave no reason")
        subproblems = [
            (sub.identifier.value if sub.identifier else "", sub.typ, one_line(sub.detail or ""))
            for sub in error.subproblems or ()
        ]
        problem = CAProblem(200, error.typ, one_line(error.detail or ""), subproblems=subproblems)
        return translate(problem, names)

    def _finalize(
        self, order: messages.OrderResource, request: CertificateRequest, deadline: Deadline
    ) -> messages.OrderResource:
        """Send the CSR (section 7.4); where its fate is unknown, the order is read instead."""
        payload = {"csr": b64encode(request.der).decode()}
        try:
            answer = self.session.post(order.body.finalize, payload, deadline=deadline, repeatable=False)
        except FateUnknown:
            logger.warning("the answer to a finalize was lost; reading the order instead")
            return self._wait(order, request, deadline, patience=5)
        except CAProblem as problem:
            if request.common_names_only and problem.code in {"unauthorized", "badCSR"}:
                raise PayloadInvalid(
                    f"this CA takes names from subjectAltName only, not from the CN ({problem.detail}): "
                    f"make the CSR with {subject_alt_name_option(request.identifiers)}"
                ) from problem
            if problem.code != "orderNotReady":
                raise
            return self._wait(order, request, deadline)
        finalized = parse(answer, order.uri, request.identifiers)
        if finalized.body.status == messages.STATUS_PROCESSING:
            return self._wait(order, request, deadline, answer.retry_after(self.clock.now()))
        return finalized

    def _wait(
        self,
        order: messages.OrderResource,
        request: CertificateRequest,
        deadline: Deadline,
        retry_after: float | None = None,
        *,
        patience: int = 1,
    ) -> messages.OrderResource:
        """Look at the order until the CA has moved it on; never earlier than the CA wants.

        An order that is still `ready` after `patience` looks never got its finalize: the CA leaves
        that state before it answers one (section 7.1.6). So finalizing then is the first finalize.
        """
        before = self.clock.monotonic()
        looks = 0
        while True:
            pause = max(retry_after or 0.0, self.pace.interval(looks))
            if pause >= deadline.remaining:
                raise DeadlinePassed("the CA is still working on the order", retry_after=max(pause, 10.0))
            if self.clock.wait(self._stopping, pause):
                raise CAUnavailable("this server is stopping; ask again")
            order, retry_after = self._fetch(order.uri, request.identifiers, deadline)
            looks += 1
            status = order.body.status
            if status in {messages.STATUS_VALID, messages.STATUS_INVALID}:
                self.pace.learn(self.clock.monotonic() - before, looks)
                return order
            if status == messages.STATUS_READY and looks >= patience:
                return order

    def _download(self, order: messages.OrderResource, deadline: Deadline) -> bytes:
        if not isinstance(order.body.certificate, str):
            raise CAProtocolError("the CA calls an order valid and gives no certificate")
        answer = self.session.post(
            order.body.certificate, None, deadline=deadline, accept="application/pem-certificate-chain"
        )
        return answer.body
