"""Ordering: from a certificate request to the CA's chain (RFC 8555 section 7.4)."""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

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
    LeaseLost,
    PayloadInvalid,
    RateLimited,
    StateUnavailable,
    ValidatorUnavailable,
)
from acmems.issuers.acme.certificates.alternates import PEM_CHAIN, preferred
from acmems.issuers.acme.certificates.renewal_info import RENEWAL_INFO
from acmems.issuers.acme.orders.aim import OrderAim
from acmems.issuers.acme.orders.open_orders import OpenOrder, OpenOrders
from acmems.issuers.acme.orders.order import Order, OrderStatus, parse
from acmems.issuers.acme.orders.placing import OrderTerms, place
from acmems.issuers.acme.polling import PollInterval
from acmems.issuers.acme.prechecks.examination import Exclusions, NameExamination, Outlook, PreChecks
from acmems.issuers.acme.problems import translate, translate_refused
from acmems.issuers.acme.proving import Proving
from acmems.issuers.acme.session import Session
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.chain import OfferedChain, holds_certificates
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

T = TypeVar("T")

# After these an order stays open: it can still be finished, by whoever asks next.
_PASSING = (DeadlinePassed, CAUnavailable, LeaseLost, RateLimited, StateUnavailable, ValidatorUnavailable)
_ODD_PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds until the next look after an answer that tells nothing
_ODD_RETRY_AFTER = 30.0  # seconds after which to ask again when all of these looks have told nothing
_READY_SECONDS = 60.0  # for which an order that was just prepared is taken for ready without another look
_WITHOUT_CSR = (OrderStatus.PENDING, OrderStatus.READY)
_MOST_FINALIZES = 5  # that one request for a certificate sends, where the CA does not take them


@dataclass(slots=True)
class _Course:
    """What one request for a certificate, or for its preparation, does with its order.

    Args:
        aim: what it is for.
        opened: the order.
        excluded: what must not be tried to prove names.
        finalizes: how many were sent.
        looks: how many have found the order unfinished; the waits between them grow.
    """

    aim: OrderAim
    opened: OpenOrder
    excluded: Exclusions
    finalizes: int = 0
    looks: int = 0


class Ordering:
    """Places and finishes the orders of one account.

    What could not be finished in time stays open, and the next request for the same continues it. Once the CA
    has the CSR, an answer that tells nothing (HTML, 403 or 404, an empty body) is asked for again, later.

    Args:
        session: the way to the CA.
        proving: has names validated.
        clock: for deadlines.
        profile: the ACME profile to order, None for the CA's default.
        preferred_chain: common name of the root that chains should end in, None for the CA's first.
        open_orders: those that can be continued; None for new ones only.
        prechecks: looks at names before they are ordered; None: nothing does.
        exchange_seconds: how long one request to the CA may take, repetitions included.
    """

    def __init__(
        self,
        session: Session,
        proving: Proving,
        clock: Clock,
        *,
        profile: str | None = None,
        preferred_chain: str | None = None,
        open_orders: OpenOrders | None = None,
        prechecks: PreChecks | None = None,
        exchange_seconds: float = 120.0,
    ) -> None:
        self.session = session
        self.proving = proving
        self.poll_interval = PollInterval()
        self._clock = clock
        self._profile = profile
        self._preferred_chain = preferred_chain
        self.exchange_seconds = exchange_seconds
        self._open = OpenOrders(clock) if open_orders is None else open_orders
        self._prechecks = prechecks
        self._stopping = Signal()

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None = None,
        *,
        prepared: str | None = None,
    ) -> Steps[OfferedChain]:
        """Order a certificate, prove its names, finalize, and return the chain as the CA sent it (PEM).

        Args:
            request: what is asked for; the bytes that were checked are the bytes that are finalized.
            validators: what can prove the names, best first.
            deadline: when to give up; the order stays open then.
            identity: what makes two requests the same; an open order for the same is continued.
            terms: those of an order that has to be placed, None for none.
            prepared: what `prepare` was given for the same names; an order that it has left is taken.

        Raises:
            ChallengeFailed, InvalidDomainName, NoChallengeMethodsSupported: a name cannot be had.
            PreCheckFailed: the DNS says so, and nothing was ordered.
            PayloadInvalid: the CA does not accept the CSR.
            AccountError: the CA does not accept the account.
            StateUnavailable, ValidatorUnavailable, RateLimited, CAError, DeadlinePassed: not now.
            LeaseLost: another server goes on with it.
        """
        aim = OrderAim(request.identifiers, validators, deadline, identity, terms, prepared)
        chain = yield from self._reach(aim, lambda order, course: self._pursue(order, course, request))
        self._open.finish(identity)
        return chain

    def prepare(
        self,
        identifiers: Sequence[Identifier],
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None = None,
    ) -> Steps[None]:
        """Place an order and prove its names, and leave it to `obtain`, which has the CSR.

        Args:
            identifiers: what is to be ordered.
            validators: as for `obtain`.
            deadline: as for `obtain`.
            identity: what makes two preparations the same; an open order for the same is continued.
            terms: as for `obtain`.

        Raises:
            AcmeException: one of the errors of `obtain`.
        """
        aim = OrderAim(identifiers, validators, deadline, identity, terms, is_preparation=True)
        yield from self._reach(aim, self._make_ready)

    def _reach(self, aim: OrderAim, finish: Callable[[Order, _Course], Steps[T]]) -> Steps[T]:
        """Return what comes of an order: of the one that is open, or of a new one.

        Args:
            aim: what it is wanted for.
            finish: takes it as far as it is to go.
        """
        try:
            examination = yield from self._begin_to_examine(aim)
            resumed = yield from self._resume(aim)
            if resumed is not None:
                yield from self._charge(aim, resumed[1])
            outlook = yield from self._outlook(examination)
            order, opened = resumed or (yield from self._new(aim, outlook))
            try:
                return (yield from finish(order, _Course(aim, opened, outlook.excluded)))
            except ChallengeFailed:
                if not opened.is_recovered:
                    raise
                logger.info(
                    "the CA came for a proof that was not shown or is out of date: placing another order"
                )
                self._open.forget(aim.identity)
                order, opened = yield from self._new(aim, outlook)
                return (yield from finish(order, _Course(aim, opened, outlook.excluded)))
        except _PASSING:
            raise
        except CAProblem as problem:
            is_kept = self._give_up(aim.identity)
            meaning = translate(problem, aim.names)
            # What refuses a look at a finalized order says nothing about the names or the CSR.
            if meaning is problem or (is_kept and not isinstance(meaning, AccountError)):
                raise
            raise meaning from problem
        except AcmeException:
            self._give_up(aim.identity)
            raise

    def stop(self) -> None:
        """End all waiting for the CA, now and from now on, with `CAUnavailable`; orders stay open."""
        self._stopping.set()

    def create(
        self, identifiers: Sequence[Identifier], deadline: Deadline, replaces: str | None = None
    ) -> Steps[Order]:
        """Place an order (section 7.4).

        Args:
            identifiers: what a certificate is wanted for.
            deadline: when to give up.
            replaces: what the CA calls the certificate that it replaces (RFC 9773 section 5), None for none.

        Raises:
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """
        payload: dict[str, object] = {
            "identifiers": [{"type": each.type.value, "value": each.value} for each in identifiers]
        }
        if self._profile is not None:
            payload["profile"] = self._profile
        if replaces is not None:
            payload["replaces"] = replaces
        exchange = deadline.within(self.exchange_seconds)
        url = (yield from self.session.directory(exchange))["newOrder"]
        response = yield from self.session.post(url, payload, deadline=exchange, repeatable=False)
        if response.location is None:
            raise CAProtocolError("the CA answered a new order without its URL")
        return parse(response, response.location, identifiers)

    def _begin_to_examine(self, aim: OrderAim) -> Steps[NameExamination | None]:
        """Begin to look at what the DNS says of the names, which takes a while."""
        if self._prechecks is None:
            return None
        directory = yield from self.session.directory(aim.deadline.within(self.exchange_seconds))
        return self._prechecks.begin(aim.identifiers, aim.validators, directory.caa_identities)

    def _outlook(self, examination: NameExamination | None) -> Steps[Outlook]:
        if self._prechecks is None or examination is None:
            return Outlook()
        return (yield from self._prechecks.outlook(examination, self.session.kid))

    def _new(self, aim: OrderAim, outlook: Outlook) -> Steps[tuple[Order, OpenOrder]]:
        outlook.check()
        directory = yield from self.session.directory(aim.deadline.within(self.exchange_seconds))
        order = yield from place(
            lambda replaces: self.create(aim.identifiers, aim.deadline, replaces),
            aim.terms,
            self._clock,
            may_replace=RENEWAL_INFO in directory,
        )
        opened = self._open.add(aim.identity, order, aim.terms, is_prepared=aim.is_preparation)
        if aim.is_preparation and aim.terms is not None:
            # There was room for a certificate, too; it is taken by whoever sends the CSR, if anybody does.
            aim.terms.give_back(is_placed=True)
            opened.terms = None
        return order, opened

    @staticmethod
    def _charge(aim: OrderAim, opened: OpenOrder) -> Steps[None]:
        """Take the room that the certificate of a prepared order needs, once there is a CSR for it."""
        is_for_all = opened.is_prepared and opened.terms is None
        if is_for_all and not aim.is_preparation and aim.terms is not None:
            yield from aim.terms.reserve_certificate()
            opened.terms = aim.terms

    def _resume(self, aim: OrderAim) -> Steps[tuple[Order, OpenOrder] | None]:
        opened = self._open.resume(aim.identity, aim.prepared)
        if opened is None:
            return None
        now = self._clock.monotonic()
        if opened.ready is not None and not aim.is_preparation and now - opened.ready_at < _READY_SECONDS:
            return opened.ready, opened
        has_expired = now >= opened.until
        # When an order of the last process ends is known by the wall clock, which may be wrong.
        if has_expired and not opened.is_unknown:
            logger.info("an unfinished order has expired, a new one takes its place")
        else:
            may_be_finalized = opened.is_finalized or opened.is_unknown
            read = self._read if may_be_finalized else self._fetch
            try:
                order, _ = yield from read(opened.url, aim.identifiers, aim.deadline)
            except (CAProblem, CAProtocolError) as error:
                if not has_expired and (may_be_finalized or isinstance(error, CAProtocolError)):
                    raise
                logger.info("an unfinished order is gone, a new one takes its place: %s", error)
            else:
                if opened.is_unknown:
                    opened.is_unknown = False
                    opened.is_finalized = order.status is not OrderStatus.PENDING
                # What was prepared is of use as long as nobody has sent a CSR for it.
                is_used = opened.is_prepared and order.status not in _WITHOUT_CSR
                if order.status is not OrderStatus.INVALID and not is_used:
                    return order, opened
                opened.is_invalid = True
        self._open.forget(aim.identity)
        return None

    def _give_up(self, identity: str) -> bool:
        """Forget an order after an error, unless there may be a certificate; tell whether it is kept."""
        opened = self._open.get(identity)
        if opened is not None and (opened.is_finalized or opened.is_unknown) and not opened.is_invalid:
            return True
        self._open.forget(identity)
        return False

    def _fetch(
        self, url: str, identifiers: Sequence[Identifier], deadline: Deadline
    ) -> Steps[tuple[Order, float | None]]:
        response = yield from self.session.post(url, None, deadline=deadline.within(self.exchange_seconds))
        order = parse(response, url, identifiers)
        if order.status is OrderStatus.VALID and order.certificate is None:
            raise CAProtocolError("the CA calls an order valid and gives no certificate")
        return order, response.retry_after(self._clock.now())

    def _read(
        self, url: str, identifiers: Sequence[Identifier], deadline: Deadline
    ) -> Steps[tuple[Order, float | None]]:
        """Look at an order that may have a certificate, again and again where the answer is odd."""
        return (yield from self._insist(lambda: self._fetch(url, identifiers, deadline), deadline))

    def _insist(self, ask: Callable[[], Steps[T]], deadline: Deadline) -> Steps[T]:
        """Ask again, later, where the CA's answer tells nothing of what it has made of the CSR.

        Raises:
            CAProblem, CAProtocolError: the last answer, if none of a few told anything.
            CAUnavailable, RateLimited, DeadlinePassed: not now.
        """
        for pause in (*_ODD_PAUSES, None):
            try:
                return (yield from ask())
            except (CAProblem, CAProtocolError) as error:
                is_final = isinstance(error, CAProblem) and isinstance(translate(error, ()), AccountError)
                if pause is None or is_final:
                    error.retry_after = error.retry_after or _ODD_RETRY_AFTER
                    raise
                logger.warning("an odd answer about a finalized order, asked again later: %s", error)
                wanted = self.poll_interval.kept(error.retry_after, deadline.remaining)
                yield from self._wait(max(pause, wanted), deadline)
        raise AssertionError  # the last pause is None

    def _wait(self, seconds: float, deadline: Deadline) -> Steps[None]:
        """Wait until the next look.

        Raises:
            DeadlinePassed: it would come too late.
            CAUnavailable: the server stops.
        """
        if seconds >= deadline.remaining:
            raise DeadlinePassed("the CA is still working on the order", retry_after=max(seconds, 10.0))
        if (yield self._stopping.wait(seconds)):
            raise CAUnavailable("this server is stopping; ask again")

    def _pursue(self, order: Order, course: _Course, request: CertificateRequest) -> Steps[OfferedChain]:
        """Take an order to its end, and return its chain."""
        while order.status is not OrderStatus.VALID:
            order = yield from self._advance(order, course, request)
        return (yield from self._download(order, course))

    def _make_ready(self, order: Order, course: _Course) -> Steps[None]:
        """Have the names of an order proved, and return once that would be found again after a crash."""
        if order.status is OrderStatus.INVALID:
            raise self._refusal(order, course) from order.error
        if order.status is OrderStatus.PENDING:
            yield from self._prove(order, course)
        yield from self._open.remembered(course.aim.identity, course.opened)
        course.opened.ready = replace(order, status=OrderStatus.READY)
        course.opened.ready_at = self._clock.monotonic()

    def _refusal(self, order: Order, course: _Course) -> AcmeException:
        """Return why the CA has made an order invalid that it has no CSR for."""
        course.opened.is_invalid = True
        if order.error is None:
            return CAProtocolError("the CA made an order invalid and gave no reason")
        return translate(order.error, course.aim.names)

    def _prove(self, order: Order, course: _Course) -> Steps[None]:
        yield from self.proving.prove(
            order.authorizations,
            course.aim.identifiers,
            course.aim.validators,
            course.aim.deadline,
            lambda: self._open.remembered(course.aim.identity, course.opened),
            excluded=course.excluded,
        )

    def _advance(self, order: Order, course: _Course, request: CertificateRequest) -> Steps[Order]:
        """Take an order one state further (section 7.1.6)."""
        if order.status is OrderStatus.INVALID:
            refusal = self._refusal(order, course)
            if order.error is not None and course.opened.is_finalized:
                refusal = translate_refused(order.error, request)
            raise refusal from order.error
        if order.status is OrderStatus.PROCESSING or course.opened.is_finalized:
            return (yield from self._poll(order, course))
        if order.status is OrderStatus.PENDING:
            yield from self._prove(order, course)
            # Every name is validated, so the order is ready: asking first would cost a round trip.
        return (yield from self._finalize(order, course, request))

    def _finalize(self, order: Order, course: _Course, request: CertificateRequest) -> Steps[Order]:
        """Send the CSR (section 7.4); where its fate is unknown, the order is read instead."""
        opened = course.opened
        yield from self._open.remembered(course.aim.identity, opened)
        opened.is_prepared, opened.ready = False, None
        payload = {"csr": urlsafe_b64encode(request.der).rstrip(b"=").decode("ascii")}
        deadline = course.aim.deadline.within(self.exchange_seconds)
        course.finalizes += 1
        is_last = course.finalizes >= _MOST_FINALIZES
        pause = (0.0, *_ODD_PAUSES)[course.finalizes - 1]
        try:
            response = yield from self.session.post(
                order.finalize, payload, deadline=deadline, repeatable=False
            )
        except FateUnknown:
            opened.is_finalized = True
            if is_last:
                raise
            logger.warning("the answer to a finalize was lost; reading the order instead")
            return (yield from self._poll(order, course, pause))
        except CAProblem as problem:
            refusal = translate_refused(problem, request)
            if isinstance(refusal, PayloadInvalid):
                raise refusal from problem
            if is_last or (problem.is_acme and problem.code != "orderNotReady"):
                raise
            # What is no problem of ACME's may come from a proxy, and the CA may have the CSR.
            opened.is_finalized = opened.is_finalized or not problem.is_acme
            return (yield from self._poll(order, course, max(pause, problem.retry_after or 0.0)))
        opened.is_finalized = True
        try:
            finalized = parse(response, order.url, request.identifiers)
        except CAProtocolError as error:
            logger.warning("an odd answer to a finalize; reading the order instead: %s", error)
            if is_last:
                raise
            return (yield from self._poll(order, course, pause))
        opened.is_answered = True
        is_issued = finalized.status is OrderStatus.VALID and finalized.certificate is not None
        if is_issued or finalized.status is OrderStatus.INVALID:
            return finalized
        return (yield from self._poll(finalized, course, response.retry_after(self._clock.now())))

    def _poll(self, order: Order, course: _Course, retry_after: float | None = None) -> Steps[Order]:
        """Look at the order until the CA has moved it on; never earlier than the CA wants.

        An order that is still ready after as many looks as its patience never got its finalize, so that the
        next one is the first. Where waiting is over and it is ready even so, the same holds.
        """
        opened, before, polls = course.opened, self._clock.monotonic(), 0
        while True:
            try:
                left = course.aim.deadline.remaining
                seconds = self.poll_interval.wait(course.looks, retry_after, left)
                yield from self._wait(seconds, course.aim.deadline)
                order, retry_after = yield from self._read(
                    order.url, course.aim.identifiers, course.aim.deadline
                )
            except DeadlinePassed:
                if polls and order.status is OrderStatus.READY:
                    opened.is_finalized = opened.is_answered = False
                raise
            course.looks += 1
            polls += 1
            if order.status in {OrderStatus.VALID, OrderStatus.INVALID}:
                self.poll_interval.learn(self._clock.monotonic() - before, course.looks)
                return order
            if order.status is OrderStatus.READY and polls >= opened.patience:
                opened.is_finalized = False
                return order

    def _download(self, order: Order, course: _Course) -> Steps[OfferedChain]:
        if order.certificate is None:
            raise CAProtocolError("the CA calls an order valid and gives no certificate")
        url = order.certificate
        course.opened.is_finalized = True  # whatever became of the answers: there is a certificate

        def ask() -> Steps[OfferedChain]:
            deadline = course.aim.deadline.within(self.exchange_seconds)
            response = yield from self.session.post(url, None, deadline=deadline, accept=PEM_CHAIN)
            if not holds_certificates(response.body):
                raise CAProtocolError("the CA's answer is no certificate chain")
            return (yield from preferred(self.session, response, self._preferred_chain, deadline))

        return (yield from self._insist(ask, course.aim.deadline))
