"""Orders that are processed: each is asked for once here, and whoever looks at one waits for it.

The state has all that is needed to go on. So after a crash, or at another server, the next look at an order
that is being processed asks for its certificate again: that finds the chain, joins the order outside, or
begins anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

from acmems.exceptions import AcmeException, RateLimited
from acmems.frontends.acme.orders.access import as_it_is
from acmems.frontends.acme.orders.endings import QUIET, error_document, passes, seconds_until_next
from acmems.frontends.acme.orders.parts import OrderParts
from acmems.frontends.acme.orders.profiles import issuers_of
from acmems.frontends.granting import granted_again
from acmems.frontends.problems import retry_after_of
from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.state.acme.certificates import AccountCertificate, AccountCertificates
from acmems.state.acme.order import ClientOrder
from acmems.state.acme.statuses import ClientOrderStatus
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.contract import Transaction
from acmems.system.steps import OWNER, Signal, Steps, outcome
from acmems.x509.chain import Chain, parse
from acmems.x509.identifiers import Identifier

HOLD_SECONDS = 15.0
"""How long an answer is held back while an order is processed. No client gives up a request before 30
seconds, and those that look a fixed number of times have that much longer."""
WANTED_SECONDS = 60.0
"""For how long after its last look a client counts as one that waits."""
KEPT_SECONDS = 7 * 86400
"""For how long an order is kept after its certificate was issued."""
_LOOK_SECONDS = 1.0  # between two looks at what another server may have done
_MOST_REMEMBERED = 1000  # orders


@dataclass(slots=True, eq=False)
class RunningOrder:
    """An order that is processed in this process.

    Args:
        order: the order, as it was when it was asked for here.
        began: when that was, in seconds of the monotonic clock.
        wanted_until: until when its client counts as one that waits, in the same.
        looking: how many wait for an answer with it at the moment.
        ended: set when there is an outcome, or nothing more is done for now.

    Attributes:
        identifiers: the names in normal form.
    """

    order: ClientOrder
    began: float
    wanted_until: float
    looking: int = 0
    ended: Signal = field(default_factory=Signal)
    identifiers: tuple[Identifier, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.identifiers = self.order.identifiers  # once: each new order is compared with all that run


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order as it is found at the end of a look at it.

    Args:
        order: the order.
        retry_after: the seconds after which to look again, or to make another order; None for nothing.
    """

    order: ClientOrder
    retry_after: int | None = None


class OrderProgress:
    """Has orders issued; for the thread of the loop.

    Args:
        parts: what it works with.
        hold_seconds: how long who looks at an order may be kept waiting.
    """

    def __init__(self, parts: OrderParts, *, hold_seconds: float = HOLD_SECONDS) -> None:
        self._parts = parts
        self._hold_seconds = hold_seconds
        self._running: dict[str, RunningOrder] = {}  # by id
        # What holds an order up, or keeps another one for its names from being made, by its id.
        self._passing: OrderedDict[str, AcmeException] = OrderedDict()
        self._delivered: OrderedDict[str, Delivery] = OrderedDict()  # what came lately, by the order's id

    def take_delivery(self, order: ClientOrder) -> Delivery | None:
        """Return what was issued for an order, once; None later on, when it is a stored chain."""
        delivery = self._delivered.pop(order.id, None)
        return None if delivery is None or delivery.chain.fingerprint != order.certificate else delivery

    def follow(
        self,
        order: ClientOrder,
        reference: str,
        gone: Callable[[], bool],
        accepted: AcceptedRequest | None = None,
    ) -> Steps[OrderView]:
        """Return an order when it has ended, or as it is after a while; what nobody is at is gone on with.

        Args:
            order: the order, as it was found.
            reference: names the request in the log.
            gone: tells whether the client has hung up.
            accepted: what it asks for, where that is known already.

        Raises:
            StateUnavailable: the state cannot be read.
        """
        parts = self._parts
        until = parts.clock.monotonic() + self._hold_seconds
        if order.status is ClientOrderStatus.PROCESSING:
            self._want(order, reference, accepted)
        with self._looking(order):
            while order.status is ClientOrderStatus.PROCESSING and not gone():
                running = self._running.get(order.id)
                left = until - parts.clock.monotonic()
                if running is None or left <= 0:
                    break
                yield running.ended.wait(min(left, _LOOK_SECONDS))
                order = yield from as_it_is(parts, order)
        passing = self._passing.get(order.id)
        if order.status is not ClientOrderStatus.PROCESSING:
            return OrderView(order, None if passing is None else retry_after_of(passing))
        age = max(0.0, parts.now - (order.finalized or parts.now))
        return OrderView(order, seconds_until_next(age, None if passing is None else retry_after_of(passing)))

    @contextlib.contextmanager
    def _looking(self, order: ClientOrder) -> Iterator[None]:
        """Count somebody who waits for an answer with an order."""
        running = self._running.get(order.id)
        if running is None:
            yield
            return
        running.looking += 1
        try:
            yield
        finally:
            running.looking -= 1

    def supersede(self, order: ClientOrder) -> None:
        """Take note of a new order: its client does not wait any more for what it has ordered before.

        Many clients make a key for each try, so that a certificate for the key of the last one is of no use.
        What has not been sent to a CA yet is left to the new order. Another client of the same account that
        asks for the same names and waits as well has it begun again by its next look.
        """
        names = order.identifiers
        running = (each for each in self._running.values() if each.order.account == order.account)
        for each in running:
            if not each.looking and each.identifiers == names:
                each.wanted_until = -math.inf

    def _want(self, order: ClientOrder, reference: str, accepted: AcceptedRequest | None) -> None:
        """Have somebody be at an order, and count its client as one that waits."""
        now = self._parts.clock.monotonic()
        running = self._running.get(order.id)
        if running is not None:
            running.wanted_until = now + WANTED_SECONDS
            return
        running = self._running[order.id] = RunningOrder(order, now, now + WANTED_SECONDS)
        self._parts.loop.submit(self._process(order, running, reference, accepted))

    def _process(
        self, order: ClientOrder, running: RunningOrder, reference: str, accepted: AcceptedRequest | None
    ) -> Steps[None]:
        """Have an order issued, and note what has come of that."""
        OWNER.set((order.account, order.client))
        try:
            yield from self._outcome(order, running, reference, accepted)
        except Exception as error:  # noqa: BLE001 - the next look at the order tries again
            if isinstance(error, AcmeException):
                self._passing[order.id] = error
            self._parts.tell_failure("order", error, reference=reference, client=order.client)
        finally:
            del self._running[order.id]
            for remembered in (self._passing, self._delivered):
                while len(remembered) > _MOST_REMEMBERED:
                    remembered.popitem(last=False)
            running.ended.set()

    def _outcome(
        self, order: ClientOrder, running: RunningOrder, reference: str, accepted: AcceptedRequest | None
    ) -> Steps[None]:
        parts = self._parts
        is_resumed = accepted is None
        try:
            if accepted is None:
                accepted = self._granted(order, reference)
            wanted = dataclasses.replace(
                accepted,
                gone=lambda: parts.clock.monotonic() > running.wanted_until,
                takes_stale=False,
                ends_with_client=True,
            )
            chain = (yield from self._left(order, wanted)) if is_resumed else None
            if chain is None:
                delivery = yield from outcome(parts.issuances.issue(wanted))
                chain, self._delivered[order.id] = delivery.chain, delivery
        except CancelledError:
            return  # the server is stopping: the next one goes on
        except Exception as error:  # noqa: BLE001 - whatever it is, the order tells its client
            if isinstance(error, AcmeException) and passes(error) and not order.is_expired(parts.now):
                before = self._passing.get(order.id)
                self._passing[order.id] = error
                # Each look tries again: what holds an order up is told once.
                if not isinstance(error, QUIET) and str(before) != str(error):
                    self._tell(order, error, reference)
                return
            self._tell(order, error, reference)
            document = error_document(error, reference)
            yield from outcome(parts.orders.change(order.id, lambda each: each.fail(document)))
            self._passing.pop(order.id, None)
            if isinstance(error, RateLimited):
                self._passing[order.id] = error
        else:
            yield from self._issued(order, wanted, chain)
            self._passing.pop(order.id, None)

    def _tell(self, order: ClientOrder, error: BaseException, reference: str) -> None:
        """Tell the operator what has ended an order, or holds it up."""
        names = tuple(each.value for each in order.identifiers)
        self._parts.tell_failure(
            "order", error, reference=reference, client=order.client, names=names, block=order.block
        )

    def _granted(self, order: ClientOrder, reference: str) -> AcceptedRequest:
        """Return what an order asks for that was finalized before, if the policy of today grants it.

        Raises:
            PolicyRefusal, AcmeProblem: it does not.
        """
        accepted = granted_again(self._parts.policy(), order.csr or b"", order.block)
        issuers = issuers_of(self._parts.issuances, accepted.issuers, order.profile)
        return dataclasses.replace(accepted, issuers=issuers, client=order.client, reference=reference)

    def _left(self, order: ClientOrder, accepted: AcceptedRequest) -> Steps[Chain | None]:
        """Return the chain that came since an order was finalized; a crash kept that from being noted."""
        parts = self._parts

        def look() -> ChainRecord | None:
            found = (parts.chains.newest(each) for each in parts.issuances.identities(accepted))
            return next((each for each in found if each is not None), None)

        record = yield from parts.threads.call(look)
        if record is None or int(record.issued.timestamp()) < (order.finalized or 0):
            return None
        chain = parse(record.pem)
        return chain if chain.is_valid(parts.clock.now()) and accepted.refusal(chain) is None else None

    def _issued(self, order: ClientOrder, accepted: AcceptedRequest, chain: Chain) -> Steps[None]:
        """Note that an order has its certificate, whose that is, and what it replaces, in one transaction."""
        parts = self._parts
        identity, issuer = next(iter(parts.issuances.identities(accepted).items()))
        whose = parts.issuances.of(issuer).identity
        # It may come from a storage that the state knows nothing of; what it does know stays.
        record = ChainRecord.of(
            chain,
            identity=identity,
            directory=whose.directory,
            profile=whose.profile,
            issued=parts.clock.now(),
            block=order.block,
            storage=accepted.storage.name,
            client=order.client,
            csr=order.csr,
        )
        name = certificate_id(chain.pem) or ""
        mine = AccountCertificate(chain.fingerprint, order.account, name, int(chain.not_after.timestamp()))
        changed = yield from outcome(
            parts.orders.change(
                order.id,
                lambda each: _with_chain(each, mine, parts.now + KEPT_SECONDS),
                functools.partial(_note, record=record, mine=mine),
            )
        )
        if changed is None:  # it was forgotten meanwhile
            parts.tell_failure(
                "order",
                AcmeException("an order has expired before its certificate came"),
                client=order.client,
                reference=accepted.reference,
            )


def _with_chain(order: ClientOrder, certificate: AccountCertificate, kept_until: int) -> ClientOrder:
    """Return an order with its certificate; one that was stored, and is not due yet, replaces nothing."""
    issued = order.issue(certificate.fingerprint, kept_until)
    return dataclasses.replace(issued, replaces=None) if certificate.name == order.replaces else issued


def _note(
    transaction: Transaction, order: ClientOrder, *, record: ChainRecord, mine: AccountCertificate
) -> None:
    if order.certificate != mine.fingerprint:
        return
    AccountCertificates.put(transaction, mine)
    if order.replaces is not None:
        AccountCertificates.replace(transaction, order.replaces, order.account, order.id)
    if not ChainRecords.is_kept(transaction, record.fingerprint):
        ChainRecords.adopt_in(transaction, record)
    names, at = record.names_digest, int(record.issued.timestamp())
    AccountCertificates.supersede(transaction, mine.account, names, mine.fingerprint, at)
