"""What orders of the account count for: reserved before each, and given back where nothing came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from acmems.exceptions import ChallengeFailed, InvalidDomainName, LimitReached
from acmems.issuing.limits.charges import Renewal
from acmems.issuing.limits.ledger import Ledger, Reservation
from acmems.issuing.limits.limit import Counted, Limit
from acmems.issuing.renewal.prior import PriorChains, PriorIssue
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import Clock
from acmems.system.steps import Steps, in_thread, outcome
from acmems.x509.csr import CertificateRequest

Failure = InvalidDomainName | ChallengeFailed


class LimitAccounting:
    """Has the orders of one account count for the limits of its CA.

    Where there are no limits, nothing is written and nothing is waited for.

    Args:
        limits: returns those that hold at the moment.
        account: returns what names the account among all, whatever its key; None while that is not known.
        buckets: where the counts are kept.
        prior: tells what was issued before.
        clock: the wall clock decides, as it does at the CA.
    """

    def __init__(
        self,
        limits: Callable[[], Sequence[Limit]],
        account: Callable[[], str | None],
        buckets: BucketRecords,
        prior: PriorChains,
        clock: Clock,
    ) -> None:
        self._limits = limits
        self._account = account
        self._buckets = buckets
        self._prior = prior
        self._clock = clock

    def placement(self, identity: str, request: CertificateRequest, block: str | None) -> OrderPlacement:
        """Return the terms of an order for a request.

        Args:
            identity: what makes two requests the same.
            request: what is asked for.
            block: the auth block that grants it.
        """

        def prior() -> PriorIssue:
            # Whether it is a renewal matters only where something is counted.
            return self._prior.of(identity, request.identifiers if self._limits() else ())

        return OrderPlacement(self.ledger, prior, request, block, is_local=self._prior.is_local)

    def ledger(self) -> Ledger | None:
        """Return what counts, None where nothing is to be counted."""
        limits, account = self._limits(), self._account()
        if not limits or account is None:
            return None
        return Ledger(limits, account, self._buckets, self._clock)

    def note(self, error: Exception, request: CertificateRequest, block: str | None) -> None:
        """Count the names that the CA could not validate.

        Args:
            error: how an order has ended.
            request: what it was for.
            block: the auth block that granted it.
        """
        if not isinstance(error, Failure) or (ledger := self.ledger()) is None:
            return
        failed = {each.domain for each in error.each}
        ledger.failed([each for each in request.identifiers if each.value in failed], block)


class OrderPlacement:
    """The places of one order, and its predecessor: `acmems.issuers.acme.orders.placing.OrderTerms`.

    Args:
        ledger: returns what counts, None where nothing is to be counted.
        prior: returns what was issued for the same before; it blocks.
        request: what is asked for.
        block: the auth block that grants it.
        is_local: whether `prior` waits for no other process, so that it needs no thread.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger | None],
        prior: Callable[[], PriorIssue],
        request: CertificateRequest,
        block: str | None,
        *,
        is_local: bool = False,
    ) -> None:
        self._is_local = is_local
        self._ledger = ledger
        self._prior = prior
        self._request = request
        self._block = block
        self._charged_by: Ledger | None = None
        self._reservation = Reservation(())
        self._found: PriorIssue | None = None

    def replaces(self) -> Steps[str | None]:
        """Return what the CA calls the newest chain for the same, None where there is none."""
        return (yield from self._look()).certificate

    def reserve(self, replaces: str | None) -> Steps[None]:
        """Take the places that the order and its certificate need, all of them or none.

        Raises:
            LimitReached: one of the limits lets nothing through.
            StateUnavailable: it cannot be told.
        """
        ledger = self._ledger()
        if ledger is None:
            return
        prior = yield from self._look()
        is_announced = replaces is not None and prior.is_wanted
        renewal = Renewal(is_announced=is_announced, is_known=prior.is_known)
        reserved = yield from outcome(ledger.reserve(self._request.identifiers, renewal, self._block))
        if isinstance(reserved, LimitReached):
            raise reserved
        self._charged_by, self._reservation = ledger, reserved

    def _look(self) -> Steps[PriorIssue]:
        if self._found is None:
            self._found = self._prior() if self._is_local else (yield from in_thread(self._prior))
        return self._found

    def give_back(self, *, is_placed: bool) -> None:
        """Give back what was taken for a certificate, and for the order where there was none."""
        taken, self._reservation = self._reservation, Reservation(())
        if self._charged_by is not None:
            unused = taken.only(Counted.DOMAIN, Counted.NAMES) if is_placed else taken
            self._charged_by.give_back(unused, self._block)
