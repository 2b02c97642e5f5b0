"""What a request would take of the limits of the CA, in words for a person."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from acmems.app.accounts.identities import identity_of
from acmems.auth import read_request
from acmems.commands.policy.verdicts import Explanation
from acmems.config import Configuration
from acmems.exceptions import StateUnavailable
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuing.limits.accounting import LimitAccounting, account_of
from acmems.issuing.limits.learnt import LearntLimits
from acmems.issuing.limits.room import RenewalRoom
from acmems.issuing.renewal.prior import PriorChains
from acmems.state.chains import ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.engines.contract import Database
from acmems.state.limits.buckets import BucketRecords
from acmems.state.limits.learnt import LearntRecords
from acmems.state.opening import view_state
from acmems.storages.contract import digest_of
from acmems.system.clock import SYSTEM, Clock
from acmems.text import one_line

_EXEMPTIONS = {
    "window": "not counted, because the CA wants this renewal now",
    "renewal": "not counted, because these names had a certificate lately",
}


def costs_of(
    config: Configuration, explanation: Explanation, clock: Clock = SYSTEM
) -> list[Mapping[str, Any]] | None:
    """Return what a request that policy grants would take out of each bucket, as members of JSON documents.

    That is told for each account that may order it, since only one does: best first.

    Args:
        config: the configuration.
        explanation: what the policy says to the request.
        clock: for dates.

    Returns:
        None where policy does not grant it, or the state that has the counts cannot be read.
    """
    body, deciding = explanation.question.body, explanation.deciding
    if deciding is None or body is None:
        return None
    found: list[Mapping[str, Any]] = []
    issuers = deciding.block.issuers
    try:
        request = read_request(body, config.auth.rules)
        with contextlib.closing(view_state(config.state, config.home)) as database:
            for account in (name for name in issuers if name in config.accounts):
                identity = digest_of(request, identity_of(config, account))
                costs = _accounting(config, account, database, clock).costs(identity, request.identifiers)
                section = config.accounts[account].section if len(issuers) > 1 else None
                found += [each.document() | {"account": section} for each in costs]
    except StateUnavailable:
        return None
    return found


def cost_facts(costs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what a request would take out of each bucket: the bucket, and how full that would be.

    Args:
        costs: as members of JSON documents.
    """
    for each in costs:
        about = f" for {one_line(each['subject'])}" if each["subject"] else ""
        account = f" of {one_line(each['account'])}" if each.get("account") else ""
        yield f"limit {one_line(each['limit'])}{account}{about}", _words(each)


def _words(cost: Mapping[str, Any]) -> str:
    if cost["exempt"] is not None:
        return _EXEMPTIONS.get(cost["exempt"], "not counted")
    left = cost["left"]
    how_full = f"{cost['used'] + cost['takes']} of {cost['count']} used{' after it' if cost['takes'] else ''}"
    if cost["until"] is None:
        kept = f", of which {cost['kept']} are kept for renewals" if cost["kept"] else ""
        return f"{how_full}, {left} left{kept}"
    if left:
        return f"refused until {cost['until']}: what is left ({left} of {cost['count']}) is kept for renewals"
    return f"refused until {cost['until']}: {how_full}"


def _accounting(config: Configuration, name: str, database: Database, clock: Clock) -> LimitAccounting:
    """Return what has the orders of an account count, as a server makes it."""
    options, limits = config.accounts[name], config.account_limits[name]
    directory, plans = options.directory_url, RenewalRecords(database)
    url = AccountDirectory(options.dir).registered_url
    account = None if url is None else account_of(directory, url)
    return LimitAccounting(
        lambda: limits,
        lambda: account,
        BucketRecords(database),
        PriorChains(ChainRecords(database), plans, directory, clock),
        clock,
        learnt=LearntLimits(LearntRecords(database), clock, lambda: not options.limits),
        room=RenewalRoom(plans, directory, clock),
    )
