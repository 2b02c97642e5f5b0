"""`acmems show`: one certificate or open order, whole."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from acmems.commands.arguments import add_configuration
from acmems.commands.exit_code import ExitCode
from acmems.commands.tables import Cell, Column, Row, cell, print_facts, print_rows
from acmems.commands.terminal import complain, tell
from acmems.commands.views import events, pauses
from acmems.commands.views.documents import distance, for_person, rfc3339
from acmems.commands.views.finding import CertificateFinder, ShownCertificate
from acmems.commands.views.standing import CertificateStanding
from acmems.config import Configuration
from acmems.state.chains import ChainRecord
from acmems.state.chains.renewals import RenewalRecord
from acmems.state.opening import view_state
from acmems.system.clock import SYSTEM, Clock
from acmems.x509 import keys
from acmems.x509.chain import Chain

HELP = "show one certificate or open order, whole: history, who asked, and why it failed"

_HISTORY = (
    Column("serial", is_flexible=True),
    Column("not before (UTC)"),
    Column("not after (UTC)"),
    Column("state"),
    Column("since (UTC)"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes, configuration files included, which stand before the name."""
    add_configuration(parser)
    parser.add_argument(
        "name", metavar="NAME", help="one of its names, its serial number or its SHA-256 fingerprint, in hex"
    )
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print one JSON document")
    printed.add_argument("--pem", action="store_true", help="print the chain, leaf first")


def run(config: Configuration, options: argparse.Namespace, clock: Clock = SYSTEM) -> ExitCode:
    """Show what is known of a name; failed if nothing is.

    Raises:
        StateUnavailable: the state cannot be read.
    """
    now = clock.now()
    with contextlib.closing(view_state(config.state, config.home)) as database:
        found = list(CertificateFinder(config, database, now).find(options.name))
    if options.json:
        tell(json.dumps({"found": [_document(each) for each in found]}))
    elif not found:
        complain(f"acmems: there is no certificate and no open order of '{options.name}'")
    elif options.pem:
        return _print_pem(found, options.name)
    else:
        for number, each in enumerate(found):
            if len(found) > 1 and sys.stdout.isatty():
                if number:
                    tell("")
                tell(f"{number + 1} of {len(found)} with that name:")
            _print(each, now)
    is_there = any(each.record is not None or each.order is not None for each in found)
    return ExitCode.DONE if is_there else ExitCode.FAILED


def _print_pem(found: Sequence[ShownCertificate], name: str) -> ExitCode:
    """Print the chain that a person means, if there is no doubt which one."""
    records = [each.record for each in found if each.record is not None]
    if len(records) != 1:
        complain(
            f"acmems: there is no certificate of '{name}' yet"
            if not records
            else f"acmems: there are {len(records)} certificates of '{name}' with different keys or names: "
            f"give a serial number instead ({', '.join(each.serial for each in records)})"
        )
        return ExitCode.FAILED
    sys.stdout.write(records[0].pem.decode("ascii"))
    return ExitCode.DONE


def _document(shown: ShownCertificate) -> dict[str, Any]:
    """Return the members of a JSON document; docs/operations.md describes each."""
    record, order, chain, plan = shown.record, shown.order, shown.chain, shown.plan
    return {
        **shown.standing.document(),
        "subject_key": None if chain is None else _key(chain),
        "key_digest": record and record.key_digest,
        "leaf_issuer": chain and chain.issuer,
        "profile": record and record.profile,
        "issued": None if record is None else rfc3339(record.issued),
        "requested_by": record and record.client,
        "reference": record and record.reference,
        "acme_accounts": list(shown.acme_accounts),
        "asked": record and record.asked,
        "order_of_chain": record and record.order_url,
        "order_begun": None if order is None else rfc3339(order.begun),
        "order_expires": None if order is None else rfc3339(order.expires),
        "renewal_planned": plan and rfc3339(plan.due),
        "window_start": plan and rfc3339(plan.starts),
        "window_end": plan and rfc3339(plan.ends),
        "explanation": plan and plan.explanation,
        "history": [each.document() for each in shown.history],
        "pauses": [each.document() for each in shown.pauses],
        "events": [events.document(each) for each in shown.events],
    }


def _print(shown: ShownCertificate, now: datetime.datetime) -> None:
    is_terminal = sys.stdout.isatty()
    print_facts(_facts(shown, now))
    tables = (
        ("Not ordered for now", pauses.COLUMNS, [each.row() for each in shown.pauses], "pause"),
        ("Others of the same names and key", _HISTORY, list(map(_history, shown.history)), "history"),
        ("What happened last", events.COLUMNS, list(map(events.row, shown.events)), "event"),
    )
    for title, columns, rows, kind in tables:
        if is_terminal and rows:
            tell("")
            tell(f"{title}:")
        print_rows(columns, rows, kind=kind)


def _facts(shown: ShownCertificate, now: datetime.datetime) -> Iterator[tuple[str, Cell]]:
    standing, record, order = shown.standing, shown.record, shown.order
    yield "names", cell(standing.names or "?")
    yield "state", standing.state_cell
    yield "block", cell(standing.block or "unknown")
    yield "issuer", cell(standing.issuer)
    if record is not None:
        yield from _certificate(shown, now)
    if order is not None:
        yield "open order", cell(order.url or "not placed yet")
        yield "begun", _time(order.begun, now)
        if order.expires is not None:
            yield "expires", _time(order.expires, now)


def _certificate(shown: ShownCertificate, now: datetime.datetime) -> Iterator[tuple[str, Cell]]:
    record, chain, due = shown.record, shown.chain, shown.standing.due
    if record is None or due is None:
        return
    if record.profile is not None:
        yield "profile", cell(record.profile)
    if chain is not None:
        yield "issued by", cell(chain.issuer)
        yield "key", cell(_key(chain))
    yield "key digest", cell(record.key_digest)
    yield "serial", cell(record.serial)
    yield "fingerprint", cell(record.fingerprint)
    yield "not before", _time(record.not_before, now)
    yield "not after", _time(record.not_after, now)
    yield "renewal due", _time(due, now)
    if shown.plan is not None:
        yield from _plan(shown.plan, now)
    yield "issued", _time(record.issued, now)
    yield "storage", cell(record.storage or "unknown")
    yield from _clients(record, shown.acme_accounts, now)
    if record.superseded is not None:
        yield "superseded", _time(record.superseded, now)
    if record.revoked is not None:
        yield "revoked", _time(record.revoked, now)
    if record.reason is not None:
        yield "reason", cell(record.reason if record.revoked else f"{record.reason}; being revoked")
    if record.order_url is not None:
        yield "order", cell(record.order_url)


def _clients(
    record: ChainRecord, accounts: Sequence[str], now: datetime.datetime
) -> Iterator[tuple[str, Cell]]:
    yield "requested by", cell(_by(record.client or "unknown", record.reference))
    if accounts:
        yield "for account", cell(", ".join(accounts))
    if record.last_asked is not None:
        yield "last asked", _time(record.last_asked, now)
        yield "asked by", cell(f"{record.asked_by}; delivered {_times(record.asked)} in all")


def _plan(plan: RenewalRecord, now: datetime.datetime) -> Iterator[tuple[str, Cell]]:
    yield "planned for", _time(plan.due, now)
    if plan.starts is not None and plan.ends is not None:
        yield "wanted by CA", cell(f"{for_person(plan.starts)} to {for_person(plan.ends)} UTC")
    if plan.explanation is not None:
        yield "which says", cell(plan.explanation)
    if plan.reason is not None:
        yield "not renewed", cell(plan.reason)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _by(client: str, reference: str | None) -> str:
    return client if reference in {None, "-"} else f"{client}, reference {reference} in the log"


def _time(time: datetime.datetime, now: datetime.datetime) -> Cell:
    return cell(f"{for_person(time)} UTC, {distance(time, now)}", whole=rfc3339(time))


def _key(chain: Chain) -> str:
    """Return the kind of the leaf's key."""
    try:
        key = keys.load(chain.spki)
    except ValueError:
        return "unknown"
    return f"RSA {key.key_size}" if isinstance(key, rsa.RSAPublicKey) else f"EC {key.curve.name}"


def _history(standing: CertificateStanding) -> Row:
    known = standing.certificate
    if known is None:
        raise ValueError("history has certificates only")
    since = known.revoked or known.superseded
    return Row(
        (
            cell(known.serial),
            *(cell(for_person(each), whole=rfc3339(each)) for each in (known.not_before, known.not_after)),
            standing.state_cell,
            cell(since and for_person(since), whole=rfc3339(since)),
        )
    )
