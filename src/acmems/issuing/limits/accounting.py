"""What orders of the account count for: reserved before each, and given back where nothing came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

from acmems.exceptions import ChallengeFailed, InvalidDomainName, LimitReached
from acmems.issuers.acme.orders.statements import StatedLimit
from acmems.issuing.limits.charges import Charge, Renewal, stated
from acmems.issuing.limits.costs import LimitCost, costs
from acmems.issuing.limits.learnt import LearntLimits
from acmems.issuing.limits.ledger import CERTIFICATES, Ledger, Reservation
from acmems.issuing.limits.limit import Counted, Limit
from acmems.issuing.limits.room import RenewalRoom
from acmems.issuing.renewal.prior import PriorChains, PriorIssue
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import Clock
from acmems.system.steps import Steps, in_thread, outcome
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

Failure = InvalidDomainName | ChallengeFailed


class OrderedNames(Protocol):
    """What of a request is counted."""

    @property
    def identifiers(self) -> Sequence[Identifier]:
        """The names asked for."""


class LimitAccounting:
    """Has the orders of one account count for the limits of its CA.

    Where there are no limits, nothing is written and nothing is waited for.

    Args:
        limits: returns those that hold at the moment.
        account: returns what names the account among all, whatever its key; None while that is not known.
        buckets: where the counts are kept.
        prior: tells what was issued before.
        clock: the wall clock decides, as it does at the CA.
        learnt: the limits that CAs have told of, None where none are learnt.
        room: tells how many places are kept free for renewals, None for nothing.
    """

    def __init__(
        self,
        limits: Callable[[], Sequence[Limit]],
        account: Callable[[], str | None],
        buckets: BucketRecords,
        prior: PriorChains,
        clock: Clock,
        *,
        learnt: LearntLimits | None = None,
        room: RenewalRoom | None = None,
    ) -> None:
        self._limits = limits
        self._account = account
        self._buckets = buckets
        self._prior = prior
        self._clock = clock
        self._learnt = learnt
        self._room = room

    def placement(
        self,
        identity: str,
        request: OrderedNames,
        block: str | None,
        client: str | None = None,
        replaces: str | None = None,
        *,
        is_ahead: bool = False,
    ) -> OrderPlacement:
        """Return the terms of an order for a request.

        Args:
            identity: what makes two requests the same.
            request: what is asked for.
            block: the auth block that grants it.
            client: the client that asks.
            replaces: what the CA calls the certificate that the client wants to be replaced, None for none.
            is_ahead: whether there is no CSR for it yet.
        """

        def prior() -> PriorIssue:
            return self._prior_of(identity, request.identifiers, replaces)

        def limited(stated: StatedLimit) -> None:
            self.limited(stated, request.identifiers, block)

        return OrderPlacement(
            self.ledger,
            prior,
            limited,
            request,
            block,
            client=client,
            is_local=self._prior.is_local,
            is_ahead=is_ahead,
        )

    def holding(self) -> tuple[Limit, ...]:
        """Return the limits that hold for the account: known otherwise, or learnt."""
        limits, account = self._limits(), self._account()
        if self._learnt is None or account is None:
            return tuple(limits)
        return self._learnt.beside(limits, account)

    def refresh(self) -> None:
        """See what other servers have learnt, and which renewals are coming; called from time to time.

        Raises:
            StateUnavailable: it cannot be read.
        """
        if self._learnt is not None:
            self._learnt.refresh()
        if self._room is not None:
            self._room.refresh(self.holding())

    def ledger(self) -> Ledger | None:
        """Return what counts, None where nothing is to be counted."""
        limits, account = self.holding(), self._account()
        if not limits or account is None:
            return None
        return Ledger(limits, account, self._buckets, self._clock, self._kept_free)

    def costs(self, identity: str, identifiers: Sequence[Identifier]) -> tuple[LimitCost, ...]:
        """Return what a request would take out of which buckets; it blocks.

        Args:
            identity: what makes two requests the same.
            identifiers: what would be asked for.

        Raises:
            StateUnavailable: it cannot be read.
        """
        self.refresh()
        prior = self._prior_of(identity, identifiers)
        is_announced = prior.certificate is not None and prior.is_wanted
        return costs(
            self.holding(),
            self._account() or "",
            identifiers,
            Renewal(is_announced, prior.is_known, prior.is_current),
            instants=self._buckets.instants,
            kept=self._kept_free,
            now=self._clock.now(),
        )

    def limited(self, said: StatedLimit, identifiers: Sequence[Identifier], block: str | None) -> None:
        """Take note that the CA has refused an order because of a limit: it is used up, whatever was counted.

        Args:
            said: what the CA said.
            identifiers: what was ordered.
            block: the auth block that granted it.
        """
        account = self._account()
        if account is None:
            return
        is_new = self._learnt is not None and self._learnt.learn(account, said, self._limits())
        ledger = self.ledger()
        meant = stated(self.holding(), account, identifiers, Counted(said.counts), said.subject)
        if ledger is None or not meant:
            return
        filled = ledger.used_up(meant, said.until, block)
        if not is_new:
            filled.add_done_callback(lambda filled: _warn(account, filled))

    def _prior_of(
        self, identity: str, identifiers: Sequence[Identifier], replaces: str | None = None
    ) -> PriorIssue:
        # Whether it is a renewal matters only where something is counted.
        return self._prior.of(identity, identifiers if self.holding() else (), replaces)

    def _kept_free(self, charge: Charge) -> int:
        return 0 if self._room is None else self._room.of(charge)

    def note(self, error: Exception, request: OrderedNames, block: str | None) -> None:
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


def account_of(directory: str, url: str) -> str:
    """Return what names an account among all, whatever its key.

    Args:
        directory: the URL of the CA's directory.
        url: the URL of the account.
    """
    return f"{directory} {url}"


class OrderPlacement:
    """The places of one order, and its predecessor: `acmems.issuers.acme.orders.placing.OrderTerms`.

    Args:
        ledger: returns what counts, None where nothing is to be counted.
        prior: returns what was issued for the same before; it blocks.
        limited: takes note of a limit that the CA has refused the order for.
        request: what is asked for.
        block: the auth block that grants it.
        client: the client that asks.
        is_local: whether `prior` waits for no other process, so that it needs no thread.
        is_ahead: whether there is no CSR for the order yet.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger | None],
        prior: Callable[[], PriorIssue],
        limited: Callable[[StatedLimit], None],
        request: OrderedNames,
        block: str | None,
        *,
        client: str | None,
        is_local: bool = False,
        is_ahead: bool = False,
    ) -> None:
        self._is_local = is_local
        self._is_ahead = is_ahead
        self._ledger = ledger
        self._prior = prior
        self._limited = limited
        self._request = request
        self._block = block
        self._client = client
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
        yield from self._reserve(replaces, has_order=False)

    def reserve_certificate(self) -> Steps[None]:
        """Take the places that the certificate of an order needs which is there already.

        Raises:
            LimitReached: one of the limits lets nothing through.
            StateUnavailable: it cannot be told.
        """
        # The order was placed with the predecessor that there was, where the CA knows of such.
        yield from self._reserve((yield from self.replaces()), has_order=True)

    def _reserve(self, replaces: str | None, *, has_order: bool) -> Steps[None]:
        ledger = self._ledger()
        if ledger is None:
            return
        prior = yield from self._look()
        is_announced = replaces is not None and prior.is_wanted
        renewal = Renewal(is_announced, prior.is_known, prior.is_current)
        names, block, client = self._request.identifiers, self._block, self._client
        reserved = yield from outcome(
            ledger.reserve(
                names, renewal, block, client, has_order=has_order, is_ahead=self._is_ahead and not has_order
            )
        )
        if isinstance(reserved, LimitReached):
            raise reserved
        self._charged_by, self._reservation = ledger, reserved

    def _look(self) -> Steps[PriorIssue]:
        if self._found is None:
            self._found = self._prior() if self._is_local else (yield from in_thread(self._prior))
        return self._found

    def limited(self, stated: StatedLimit) -> None:
        """Take note that the CA has refused the order because of one of its limits."""
        self._limited(stated)

    def give_back(self, *, is_placed: bool) -> None:
        """Give back what was taken for a certificate, and for the order where there was none."""
        taken, self._reservation = self._reservation, Reservation(())
        if self._charged_by is not None:
            unused = taken.only(*CERTIFICATES) if is_placed else taken
            self._charged_by.give_back(unused, self._block)


def _warn(account: str, filled: Future[Sequence[tuple[Charge, int]]]) -> None:
    """Tell of buckets that had room by what was counted here, though the CA says that they are full."""
    if filled.exception() is not None:
        return
    for charge, left in filled.result():
        about = f" for {charge.subject}" if charge.subject else ""
        logger.warning(
            "%s says that a limit is used up (%s%s), of which %d of %d places should be left: something "
            "else uses this account, or orders for the same names; it is taken as full from now on",
            *(account.partition(" ")[0], charge.limit.name, about, left, charge.limit.rate.count),
        )
