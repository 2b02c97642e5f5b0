"""`acmems limits`: how far limits are used, what is not ordered for now, and what CAs have limited lately."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import json
import sys
from collections.abc import Sequence
from http import HTTPStatus

from acmems.commands.arguments import add_json
from acmems.commands.exit_code import ExitCode
from acmems.commands.tables import print_rows
from acmems.commands.terminal import tell
from acmems.commands.views import buckets, events
from acmems.commands.views.buckets import AccountLimits, BucketView, views
from acmems.commands.views.pauses import COLUMNS, PauseView
from acmems.config import Configuration
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuing.limits.accounting import account_of
from acmems.issuing.limits.learnt import merged
from acmems.issuing.limits.limit import Limit
from acmems.issuing.limits.room import RenewalRoom
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.engines.contract import Database
from acmems.state.events import EventFilter, EventRecord, EventRecords
from acmems.state.limits.buckets import BucketRecords
from acmems.state.limits.learnt import LearntRecord, LearntRecords
from acmems.state.opening import view_state
from acmems.state.overview import LastingPause, StateOverview
from acmems.system.clock import SYSTEM, Clock

HELP = "show how far the CA's limits are used, what is not ordered for now, and who was limited lately"

LATELY = datetime.timedelta(days=7)
"""For so long, refusals because of a rate limit are shown."""
MOST_REFUSALS = 50
"""Of which the newest are shown."""

_CAUSES = datetime.timedelta(hours=2)  # before now, in which a pause that lasts has begun


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    add_json(parser)


def run(config: Configuration, options: argparse.Namespace, clock: Clock = SYSTEM) -> ExitCode:
    """Show what is known of limits.

    Raises:
        StateUnavailable: the state cannot be read.
    """
    now = clock.now()
    with contextlib.closing(view_state(config.state, config.home)) as database:
        records = EventRecords(database)
        pauses = [_view(each, records, now) for each in StateOverview(database).pauses(now)]
        counted = _counted(config, database, clock)
        limited = EventFilter(since=now - LATELY, status=HTTPStatus.TOO_MANY_REQUESTS)
        refusals = [*itertools.islice(records.search(limited), MOST_REFUSALS)][::-1]
    if options.json:
        document = {
            "limits": [each.document() for each in counted],
            "pauses": [each.document() for each in pauses],
            "refusals": [events.document(each) for each in refusals],
        }
        tell(json.dumps(document))
    else:
        _print(counted, pauses, refusals)
    return ExitCode.DONE


def _counted(config: Configuration, database: Database, clock: Clock) -> list[BucketView]:
    """Return how far the limits are used that hold for each account."""
    now, used, found = clock.now(), BucketRecords(database).all(), []
    learnt = [each for each in LearntRecords(database).load() if each.ends > now]
    for name, options in config.accounts.items():
        directory = options.directory_url
        url = AccountDirectory(options.dir).registered_url
        # Where the account is not known here, all that was used at its CA may be its own.
        accounts = (
            [account_of(directory, url)]
            if url is not None
            else [each.account for each in used if each.account.startswith(account_of(directory, ""))]
        )
        limits, section = config.account_limits[name], options.section if len(config.accounts) > 1 else None
        known = [
            _limits_of(limits, account, [] if options.limits else learnt, section)
            for account in dict.fromkeys(accounts or [""])
        ]
        room = RenewalRoom(RenewalRecords(database), directory, clock)
        room.refresh(dict.fromkeys(limit for each in known for limit in each.limits))
        found += views(known, used, now, room.of)
    return found


def _limits_of(
    limits: Sequence[Limit], account: str, learnt: Sequence[LearntRecord], section: str | None
) -> AccountLimits:
    mine = [each for each in learnt if each.account == account]
    return AccountLimits(account, merged(limits, mine), mine, section)


def _print(counted: list[BucketView], pauses: list[PauseView], refusals: list[EventRecord]) -> None:
    is_terminal = sys.stdout.isatty()
    if is_terminal:
        tell("Used of the CA's limits:" if counted else "No limits of the CA are counted, or none is used.")
    print_rows(buckets.COLUMNS, (each.row() for each in counted), kind="limit")
    if is_terminal:
        tell("")
    if is_terminal:
        tell("Not ordered for now:" if pauses else "Nothing is paused: all that is granted is ordered.")
    print_rows(COLUMNS, (each.row() for each in pauses), kind="pause")
    if is_terminal:
        tell("")
        told = "Refused" if refusals else "Nothing was refused"
        tell(f"{told} because of a rate limit in the last {LATELY.days} days{':' if refusals else '.'}")
    print_rows(events.COLUMNS, map(events.row, refusals), kind="refusal")


def _view(pause: LastingPause, records: EventRecords, now: datetime.datetime) -> PauseView:
    """Return a pause, and who was refused last for what it is about."""
    view = PauseView.of(pause)
    names = set(view.subject.names)
    if names:
        wanted = EventFilter(since=now - _CAUSES, block=view.subject.block)
        for event in records.search(wanted):
            if event.reason and names.intersection(event.names):
                return PauseView.of(pause, event.block, event.client)
    return view
