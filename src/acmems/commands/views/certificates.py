"""`acmems list`: the certificates that are current, and what is being ordered."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
from collections.abc import Iterator

from acmems.commands.arguments import NamePattern, add_json, duration
from acmems.commands.exit_code import ExitCode
from acmems.commands.tables import Cell, Column, Row, cell, print_rows
from acmems.commands.terminal import complain
from acmems.commands.views.documents import distance, for_person, print_list, rfc3339
from acmems.commands.views.standing import CertificateStanding
from acmems.config import Configuration
from acmems.state.opening import view_state
from acmems.state.overview import StateOverview
from acmems.system.clock import SYSTEM, Clock

HELP = "list the certificates that are current, soonest end first"

COLUMNS = (
    Column("names", is_flexible=True),
    Column("block", is_flexible=True, is_cut_first=True),
    Column("issuer", is_flexible=True, is_cut_first=True),
    Column("not after (UTC)"),
    Column("renewal due"),
    Column("last asked"),
    Column("state"),
)
"""What the table has."""

_UNRENEWED = ("due", "failing", "overdue", "expired")
"""The states of which the table says why nothing has changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    parser.add_argument(
        "--name", type=NamePattern.parse, metavar="GLOB", help="only those with such a name, as in 'domain'"
    )
    parser.add_argument("--block", metavar="NAME", help="only those of this auth block")
    parser.add_argument(
        "--expires-within",
        type=duration,
        metavar="TIME",
        help="only those that end in this time or have ended, such as 14d",
    )
    parser.add_argument("--all", action="store_true", help="also those of which there is a newer one")
    add_json(parser)


def run(config: Configuration, options: argparse.Namespace, clock: Clock = SYSTEM) -> ExitCode:
    """List certificates; failed if there are none.

    Raises:
        StateUnavailable: the state cannot be read.
    """
    now = clock.now()
    with contextlib.closing(view_state(config.state, config.home)) as database:
        found = _found(config, StateOverview(database), options, now)
        if options.json:
            count = print_list("certificates", (each.document() for each in found))
            return ExitCode.DONE if count else ExitCode.FAILED
        first = next(found, None)
        if first is None:
            complain("acmems: there is no such certificate")
            return ExitCode.FAILED
        print_rows(COLUMNS, (_row(each, now) for each in itertools.chain([first], found)))
    return ExitCode.DONE


def _found(
    config: Configuration, overview: StateOverview, options: argparse.Namespace, now: datetime.datetime
) -> Iterator[CertificateStanding]:
    """Yield what is asked for: first orders, whose end nobody knows, then certificates."""
    before = None
    if options.expires_within is None:
        for order in overview.new_orders():
            standing = CertificateStanding.of_order(order, config)
            if options.block in {None, order.block} and _has_name(standing, options):
                yield standing
    else:
        before = now + options.expires_within
    for certificate in overview.certificates(superseded=options.all, block=options.block, before=before):
        standing = CertificateStanding.of_certificate(certificate, config, now)
        if _has_name(standing, options):
            yield standing


def _has_name(standing: CertificateStanding, options: argparse.Namespace) -> bool:
    return options.name is None or options.name.matches(standing.names)


def _row(standing: CertificateStanding, now: datetime.datetime) -> Row:
    known = standing.certificate
    end = None if known is None else known.not_after
    asked = None if known is None else known.last_asked
    return Row(
        (
            cell(standing.names or "?"),
            cell(standing.block),
            cell(standing.issuer_host, whole=standing.issuer),
            cell(end and for_person(end)[:16], whole=rfc3339(end)),
            _distance_cell(standing.due, now),
            _distance_cell(asked, now),
            standing.state_cell,
        ),
        standing.renewal_failure if standing.state in _UNRENEWED else None,
    )


def _distance_cell(time: datetime.datetime | None, now: datetime.datetime) -> Cell:
    return cell(None if time is None else distance(time, now), whole=rfc3339(time))
