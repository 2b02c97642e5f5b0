"""`acmems events`: what happened to requests, and what administrators did."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import ipaddress
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from acmems.commands.arguments import NamePattern, add_json, moment, network, positive
from acmems.commands.exit_code import ExitCode
from acmems.commands.tables import Column, Row, cell, print_rows
from acmems.commands.terminal import complain, tell
from acmems.commands.views.documents import for_person, print_list, rfc3339
from acmems.config import Configuration
from acmems.state.events import EventFilter, EventRecord, EventRecords, id_before
from acmems.state.opening import view_state
from acmems.system.clock import SYSTEM, Clock
from acmems.system.terminal import Colour

HELP = "show what happened: grants, refusals, failures, deliveries, and acts of administrators"

LIMIT = 100
"""How many events are shown unless told otherwise."""
FOLLOW_SECONDS = 1.0
"""Seconds between two looks for new events."""

_OVERLAP_SECONDS = 15.0  # in which the clocks of servers may differ, and rows may take to be written
_COLOURS = {
    "delivered": Colour.GREEN,
    "issued": Colour.GREEN,
    "refused": Colour.YELLOW,
    "failed": Colour.RED,
    "not issued": Colour.RED,
}
COLUMNS = (
    Column("time (UTC)", usual=19),
    Column("event", usual=10),
    Column("outcome", usual=7),
    Column("client", usual=15),
    Column("block", is_flexible=True, is_cut_first=True),
    Column("names", is_flexible=True),
    Column("status"),
    Column("times", is_number=True),
)
"""What a table of events has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    parser.add_argument(
        "--since", type=moment, metavar="TIME", help="from then on: 2d, 3h, 2026-11-01, 2026-11-01T12:00:00Z"
    )
    parser.add_argument("--client", type=network, metavar="ADDRESS", help="only of this address or network")
    parser.add_argument(
        "--name", type=NamePattern.parse, metavar="GLOB", help="only about such a name, as in 'domain'"
    )
    parser.add_argument("--block", metavar="NAME", help="only of this auth block")
    parser.add_argument("--word", metavar="WORD", help="only this event, such as refused")
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help=f"only the last N; {LIMIT} unless --since or --limit is given",
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on with what happens, until it is interrupted"
    )
    add_json(parser, "print one JSON document; with --follow, one for each event")


def run(config: Configuration, options: argparse.Namespace, clock: Clock = SYSTEM) -> ExitCode:
    """Show events; failed if there are none.

    Raises:
        StateUnavailable: the state cannot be read.
    """
    with contextlib.closing(view_state(config.state, config.home)) as database:
        records = EventRecords(database)
        found = _found(records, options, clock.now())
        if options.follow:
            with contextlib.suppress(KeyboardInterrupt):
                _follow(records, list(found), _test(options), clock, as_json=options.json)
            return ExitCode.DONE
        if options.json:
            return ExitCode.DONE if print_list("events", map(document, found)) else ExitCode.FAILED
        first = next(found, None)
        if first is None:
            complain("acmems: there is no such event")
            return ExitCode.FAILED
        print_rows(COLUMNS, map(row, itertools.chain([first], found)))
    return ExitCode.DONE


def _found(
    records: EventRecords, options: argparse.Namespace, now: datetime.datetime
) -> Iterator[EventRecord]:
    """Return what is asked for, in the order in which it happened."""
    is_wanted = _test(options)
    since = now - options.since if isinstance(options.since, datetime.timedelta) else options.since
    wanted = EventFilter(
        since=since,
        word=options.word,
        client=_address(options),
        block=options.block,
        names=None if options.name is None else options.name.like,
    )
    limit = options.limit or (LIMIT if since is None else None)
    if limit is None:
        return filter(is_wanted, records.search(wanted, newest_first=False))
    newest = itertools.islice(filter(is_wanted, records.search(wanted)), limit)
    return iter([*newest][::-1])


def _address(options: argparse.Namespace) -> str | None:
    """Return the address that events must be of, None where they need not be of one."""
    if options.client is None or options.client.num_addresses > 1:
        return None
    return str(options.client.network_address)


def _test(options: argparse.Namespace) -> Callable[[EventRecord], bool]:
    """Return what tells whether an event is asked for."""

    def is_wanted(event: EventRecord) -> bool:
        return (
            options.word in {None, event.word}
            and options.block in {None, event.block}
            and (options.name is None or options.name.matches(event.names))
            and (options.client is None or _is_within(event.client, options.client))
        )

    return is_wanted


def _is_within(client: str, wanted: Any) -> bool:
    try:
        return ipaddress.ip_address(client.partition("%")[0]) in wanted
    except ValueError:  # who sums up others, for instance
        return False


def _follow(
    records: EventRecords,
    found: list[EventRecord],
    is_wanted: Callable[[EventRecord], bool],
    clock: Clock,
    *,
    as_json: bool,
) -> None:
    newest = max((each.id for each in itertools.islice(records.search(EventFilter()), 500)), default="0")
    coming = filter(is_wanted, _coming(records, newest, {each.id for each in found}, clock))
    if as_json:
        for each in itertools.chain(found, coming):
            tell(json.dumps(document(each)))
    else:
        print_rows(COLUMNS, map(row, found), map(row, coming))


def _coming(records: EventRecords, newest: str, shown: set[str], clock: Clock) -> Iterator[EventRecord]:
    """Yield events as they are written, for ever.

    Args:
        records: where they are.
        newest: the greatest id of an event that is there already.
        shown: the ids of those that were shown.
        clock: for the time between two looks.
    """
    place = id_before(newest, _OVERLAP_SECONDS)
    seen = shown | {each.id for each in _pages(records, place)}
    while True:
        clock.sleep(FOLLOW_SECONDS)
        for each in _pages(records, place):
            if each.id not in seen:
                seen.add(each.id)
                newest = max(newest, each.id)
                yield each
        place = id_before(newest, _OVERLAP_SECONDS)
        seen = {each for each in seen if each > place}


def _pages(records: EventRecords, after: str) -> Iterator[EventRecord]:
    while page := records.written_after(after):
        yield from page
        after = page[-1].id


def document(event: EventRecord) -> dict[str, Any]:
    """Return the members of a JSON document; docs/operations.md describes each."""
    return {
        "id": event.id,
        "time": rfc3339(event.at),
        "event": event.word,
        "outcome": event.outcome,
        "client": event.client,
        "block": event.block,
        "names": list(event.names),
        "status": event.status,
        "reason": event.reason,
        "count": event.count,
        "account": event.account,
        "reference": event.reference,
        "node": event.node,
    }


def row(event: EventRecord) -> Row:
    """Return the row of a table."""
    cells = (
        cell(for_person(event.at), whole=rfc3339(event.at)),
        cell(event.word, _COLOURS.get(event.word)),
        cell(event.outcome),
        cell(event.client),
        cell(event.block),
        cell(event.names),
        cell(event.status),
        cell(event.count),
    )
    return Row(cells, event.reason or "")
