"""Placing an order: on what terms, and what becomes of them where the CA does not take it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from acmems.exceptions import AcmeException, CAProblem, CAProtocolError, FateUnknown, RateLimited
from acmems.issuers.acme.orders.order import Order
from acmems.issuers.acme.orders.statements import StatedLimit, names_paused, stated_limit
from acmems.system.clock import Clock
from acmems.system.steps import Steps

logger = logging.getLogger(__name__)

# What an order is answered that names a predecessor which the CA does not accept (RFC 9773 section 5): it is
# replaced already, or it is not known there as one of this account.
_NO_PREDECESSOR = frozenset({"alreadyReplaced", "malformed", "unauthorized"})

# How often the CA may say that it failed at an order before its predecessor is taken for the reason. One
# failure can be chance, and without its predecessor the order counts against limits that exempt it otherwise.
_FAILURES = 2


class OrderTerms(Protocol):
    """What has to be seen to before an order is placed, and after it has failed."""

    def replaces(self) -> Steps[str | None]:
        """Return what the CA calls the certificate that is replaced, None where there is none.

        Raises:
            StateUnavailable: it cannot be told.
        """

    def reserve(self, replaces: str | None) -> Steps[None]:
        """Take the room at the CA that the order and its certificate need.

        Args:
            replaces: what the order names as its predecessor.

        Raises:
            LimitReached: there is none.
            StateUnavailable: it cannot be told.
        """

    def reserve_certificate(self) -> Steps[None]:
        """Take the room at the CA that the certificate of an order needs which is there already.

        Raises:
            LimitReached: there is none.
            StateUnavailable: it cannot be told.
        """

    def give_back(self, *, is_placed: bool) -> None:
        """Give back the room of a certificate that was not issued.

        Args:
            is_placed: whether there was an order, which has used its own.
        """

    def limited(self, stated: StatedLimit) -> None:
        """Take note that the CA has refused the order because of one of its limits."""


def place(
    create: Callable[[str | None], Steps[Order]],
    terms: OrderTerms | None,
    clock: Clock,
    *,
    may_replace: bool,
) -> Steps[Order]:
    """Place an order on its terms; once more without its predecessor where the CA does not accept that.

    The same is done where the CA says twice that it has failed internally, as Pebble does for a certificate
    whose order it does not find. No other failure says anything about the predecessor.

    Args:
        create: asks the CA for the order, given what it replaces.
        terms: the terms, None for none.
        clock: for dates.
        may_replace: whether the CA knows of predecessors.

    Raises:
        LimitReached: there is no room for it at the CA, which was not asked.
        StateUnavailable: it cannot be told whether there is.
        NamesPaused: the CA takes no such orders until a person has acted.
        AcmeException: what `create` raises.
    """
    if terms is None:
        return (yield from _ask(create, None))
    replaces = (yield from terms.replaces()) if may_replace else None
    failures = 0
    while True:
        try:
            return (yield from _on_terms(create, terms, clock, replaces))
        except CAProblem as problem:
            if replaces is None or problem.code not in _NO_PREDECESSOR:
                raise
            why: Exception = problem
        except FateUnknown as unknown:
            if replaces is None or not unknown.is_internal:
                raise
            failures += 1
            if failures < _FAILURES:
                continue
            why = unknown
        logger.info("the CA does not let the order replace %s, so it is placed without: %s", replaces, why)
        replaces = None


def _on_terms(
    create: Callable[[str | None], Steps[Order]], terms: OrderTerms, clock: Clock, replaces: str | None
) -> Steps[Order]:
    yield from terms.reserve(replaces)
    try:
        return (yield from _ask(create, replaces))
    except (FateUnknown, CAProtocolError):
        terms.give_back(is_placed=True)  # there may be an order, but nobody knows it who could finalize it
        raise
    except AcmeException as error:
        terms.give_back(is_placed=False)
        if isinstance(error, RateLimited) and (stated := stated_limit(error, clock.now())) is not None:
            terms.limited(stated)
        raise


def _ask(create: Callable[[str | None], Steps[Order]], replaces: str | None) -> Steps[Order]:
    """Ask the CA for an order; where it takes none for a name, it says so, and the log tells what to do."""
    try:
        return (yield from create(replaces))
    except (RateLimited, CAProblem) as refusal:
        paused = names_paused(refusal)
        if paused is None:
            raise
        logger.error("%s; %s", paused, paused.advice)  # noqa: TRY400 - its words tell all
        raise paused from refusal
