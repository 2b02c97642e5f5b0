"""The way of names that are to be proved from one CA to the next, until one has an order for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future

from acmems.exceptions import AcmeException
from acmems.issuing.failover.skipping import may_go_elsewhere
from acmems.issuing.issuance import Issuance
from acmems.issuing.preparing.preparation import PreparationRequest
from acmems.issuing.running import stopping
from acmems.system.steps import Steps, outcome

logger = logging.getLogger(__name__)


def prepare(issuances: Mapping[str, Issuance], request: PreparationRequest) -> Future[None]:
    """Prepare an order with the first account of a request's list whose CA can.

    One that has prepared it, or is preparing it, comes first; one whose CA is down comes last.

    Args:
        issuances: those of the accounts, by name.
        request: what is to be prepared.
    """
    accounts = [issuances[name] for name in request.issuers]
    if len(accounts) == 1:
        return accounts[0].preparations.begin(request)
    future: Future[None] = Future()
    ranks = {id(each): _rank(each, request) for each in accounts}
    accounts.sort(key=lambda each: ranks[id(each)])
    try:
        accounts[0].issuer.loop.submit(_pass(accounts, request, future))
    except RuntimeError:  # the loop is closed
        future.set_exception(stopping())
    return future


def _rank(issuance: Issuance, request: PreparationRequest) -> int:
    if issuance.preparations.has(request.identifiers):
        return 0
    return 1 if issuance.breaker.is_ready else 2


def _pass(accounts: list[Issuance], request: PreparationRequest, future: Future[None]) -> Steps[None]:
    """Tell the outcome, whatever it is."""
    error: Exception | None = None
    for each in accounts:
        if not each.preparations.has(request.identifiers):
            each.breaker.admit()  # the others skip a CA that is tried now
        try:
            yield from outcome(each.preparations.begin(request))
        except Exception as failure:  # noqa: BLE001 - whatever it is, who waits must hear of it
            error = stopping() if isinstance(failure, CancelledError) else failure
        else:
            future.set_result(None)
            return
        if not isinstance(error, AcmeException) or not may_go_elsewhere(error):
            break
        names = ", ".join(request.names)
        logger.warning("an order for %s is not prepared at %s: %s", names, each.identity.directory, error)
    future.set_exception(error)
