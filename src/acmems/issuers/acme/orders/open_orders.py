"""The orders of an account that can still be finished, by whoever asks next, also after a restart."""

from __future__ import annotations

import datetime
import logging
import math
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from acmems.issuers.acme.orders.order import Order
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.system.clock import Clock
from acmems.system.steps import Steps, outcome

logger = logging.getLogger(__name__)

_HOUR, _DAY = 3600.0, 86400.0
_OPEN_SECONDS = (_HOUR, _DAY, 7 * _DAY)  # at least, where the CA does not say, at most
_LOST_PATIENCE = 5  # looks that find an order ready after a finalize whose answer was lost


class RecoveredOrder(Protocol):
    """An order that was open when the server ended."""

    @property
    def identity(self) -> str:
        """What makes two requests the same."""

    @property
    def account(self) -> str:
        """The account's URL, which stays when its key changes."""

    @property
    def url(self) -> str:
        """The order's URL."""

    @property
    def expires(self) -> datetime.datetime:
        """When the CA forgets it (aware)."""

    @property
    def is_prepared(self) -> bool:
        """Whether no CSR was sent for it, so that any request for its names may have it."""


class OrdersOfOthers(Protocol):
    """Tells what other servers have made of orders that are shared with them."""

    def found(self, identity: str) -> RecoveredOrder | None:
        """Return the order to go on with, None if there is none."""

    def held(self, identity: str) -> Future[None]:
        """Look whether an order is still this server's.

        Returns:
            a future; it has a `LeaseLost` where another server has taken over.
        """


class OrderMemory(Protocol):
    """Remembers orders over a restart; the future is done once that is certain."""

    @property
    def sharing(self) -> OrdersOfOthers | None:
        """What other servers do with the same orders, None where there are none."""

    @property
    def recovered(self) -> Iterable[RecoveredOrder]:
        """Those that were open when the server ended."""

    def opened(self, identity: str, account: str, url: str, expires: datetime.datetime) -> Future[None]:
        """Remember what the CA has answered to a new order, with the URL of the account."""

    def take(
        self, prepared: str, identity: str, account: str, url: str, expires: datetime.datetime
    ) -> Future[None]:
        """Remember that what was prepared for some names is the order of a request for them from now on."""

    def forget(self, identity: str) -> None:
        """Forget an order that is of no use any more."""


@dataclass(slots=True)
class OpenOrder:
    """An order that can still be finished.

    Args:
        url: its URL.
        until: when it is given up, in seconds of the monotonic clock.
        expires: the same, for another process.
        is_finalized: whether the CA has the CSR, or may have it: then there may be a certificate, and only
            the CA's `invalid` and the end of the order give it up.
        is_answered: whether the CA has said that it has the CSR.
        is_invalid: whether the CA has said so.
        is_recovered: whether it was open when the server ended, or the account's key changed: the CA may have
            come while nothing was shown, or what does not prove the name any more.
        is_unknown: whether nobody knows yet how far it came.
        is_prepared: whether no CSR was sent for it.
        ready: the order, once its names were proved by this process and as long as no CSR was sent.
        ready_at: when that was, in seconds of the monotonic clock.
        noted: done when it is remembered; None where nothing remembers orders.
        terms: those that it was placed on; None where there were none, another process has placed it, or
            nobody has a CSR for what was prepared.
    """

    url: str
    until: float
    expires: datetime.datetime
    is_finalized: bool = False
    is_answered: bool = False
    is_invalid: bool = False
    is_recovered: bool = False
    is_unknown: bool = False
    is_prepared: bool = False
    ready: Order | None = None
    ready_at: float = 0.0
    noted: Future[None] | None = None
    terms: OrderTerms | None = None

    @property
    def is_unnoted(self) -> bool:
        """Whether it could not be noted, so that nobody else knows of it."""
        return self.noted is not None and self.noted.done() and self.noted.exception() is not None

    @property
    def patience(self) -> float:
        """How many looks may find the order ready before the CSR is sent, or sent again.

        The CA leaves that state before it answers a finalize (section 7.1.6), but what answers the next
        request may lag behind: after an answer `ready` means to wait. Without one the finalize may
        not have arrived.
        """
        if self.is_answered:
            return math.inf
        return _LOST_PATIENCE if self.is_finalized else 1


class OpenOrders:
    """The open orders, by what makes two requests the same. For the loop's thread.

    Args:
        clock: for their end.
        account: the account's URL; empty while it is not known.
        memory: remembers them over a restart, None for nothing.
        most: how many are kept in memory.
    """

    def __init__(
        self, clock: Clock, account: str = "", memory: OrderMemory | None = None, *, most: int = 10_000
    ) -> None:
        self._clock = clock
        self._account = ""
        self._memory = memory
        self._others = None if memory is None else memory.sharing
        self._most = most
        self._orders: OrderedDict[str, OpenOrder] = OrderedDict()
        self.belong_to(account)

    def belong_to(self, account: str) -> None:
        """Take in those of an account that were open when the server ended, unless that was done.

        Args:
            account: the account's URL.
        """
        if account == self._account:
            return
        self._account = account
        self._orders.clear()
        for each in () if self._memory is None else self._memory.recovered:
            if each.account == account:
                self._orders[each.identity] = self._recovered(each)

    def note_new_key(self) -> None:
        """Take note that the account has another key: proofs by the old one prove nothing any more."""
        for opened in self._orders.values():
            opened.is_recovered = True

    def get(self, identity: str) -> OpenOrder | None:
        """Return the open order of an identity, None if there is none."""
        return self._orders.get(identity)

    def resume(self, identity: str, prepared: str | None = None) -> OpenOrder | None:
        """Return the open order to go on with, None if there is none.

        Where there is none for the same names and key, one that was prepared for the names is taken: it is
        for nobody else from then on.

        Where other servers share the orders, what they have left counts before what is known here. An order
        that could not be noted is known here only.

        Args:
            identity: what makes two requests the same.
            prepared: what an order for the names alone is prepared for, None for nothing.
        """
        known = self._orders.get(identity)
        if self._others is None:
            return self._take(identity, prepared) if known is None else known
        found = self._others.found(identity)
        if found is not None and found.account == self._account:
            if known is None or known.url != found.url:
                spare = None if prepared is None else self._orders.pop(prepared, None)
                is_taken = spare is not None and spare.url == found.url
                known = self._orders[identity] = spare if is_taken and spare else self._recovered(found)
            known.is_unknown = known.is_unknown or not found.is_prepared
            return known
        if known is not None and known.is_unnoted:
            self._note(identity, known)
            known.is_unknown = True
            return known
        self._orders.pop(identity, None)  # another server may have finished it
        spare = None if prepared is None else self._orders.get(prepared)
        if spare is not None and spare.is_unnoted:
            return self._take(identity, prepared)
        return None

    def _take(self, identity: str, prepared: str | None) -> OpenOrder | None:
        opened = None if prepared is None else self._orders.pop(prepared, None)
        if prepared is None or opened is None:
            return None
        self._orders[identity] = opened
        if self._memory is not None:
            opened.noted = self._memory.take(prepared, identity, self._account, opened.url, opened.expires)
        return opened

    def add(
        self, identity: str, order: Order, terms: OrderTerms | None = None, *, is_prepared: bool = False
    ) -> OpenOrder:
        """Take note of an order that the CA has just opened, and of the terms that it was placed on."""
        least, usual, most = _OPEN_SECONDS
        seconds = usual
        if order.expires is not None:
            # Not less than an hour: this machine's clock may be wrong.
            seconds = min(most, max(least, (order.expires - self._clock.now()).total_seconds()))
        expires = self._clock.now() + datetime.timedelta(seconds=seconds)
        until = self._clock.monotonic() + seconds
        opened = OpenOrder(order.url, until, expires, is_prepared=is_prepared, terms=terms)
        self._orders[identity] = opened
        while len(self._orders) > self._most:
            self._orders.popitem(last=False)
        self._note(identity, opened)
        return opened

    def remembered(self, identity: str, opened: OpenOrder) -> Steps[None]:
        """Return once an order would be found again after a crash, and no other server has taken it over.

        Raises:
            StateUnavailable: it cannot be remembered.
            LeaseLost: another server has taken it over.
        """
        if opened.noted is not None:
            if opened.noted.done() and opened.noted.exception() is not None:
                self._note(identity, opened)  # it may work by now
            yield from outcome(opened.noted)
        if self._others is not None:
            yield from outcome(self._others.held(identity))

    def finish(self, identity: str) -> None:
        """Let go of an order whose chain is there; it is remembered until `forget`."""
        self._orders.pop(identity, None)

    def forget(self, identity: str) -> None:
        """Forget an order that is of no use any more, and give back what a certificate would have used."""
        opened = self._orders.pop(identity, None)
        may_be_issued = opened is not None and opened.is_finalized and not opened.is_invalid
        if opened is not None and opened.terms is not None and not may_be_issued:
            opened.terms.give_back(is_placed=True)
        if self._memory is not None:
            self._memory.forget(identity)

    def _recovered(self, found: RecoveredOrder) -> OpenOrder:
        # Not more than it had when it was placed: the clock may be wrong.
        left = min(_OPEN_SECONDS[-1], (found.expires - self._clock.now()).total_seconds())
        until = self._clock.monotonic() + left
        return OpenOrder(
            found.url,
            until,
            found.expires,
            is_recovered=True,
            is_unknown=not found.is_prepared,
            is_prepared=found.is_prepared,
        )

    def _note(self, identity: str, opened: OpenOrder) -> None:
        if self._memory is not None:
            opened.noted = self._memory.opened(identity, self._account, opened.url, opened.expires)
