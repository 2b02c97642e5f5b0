"""`acmems notice list`: what was told and is not over, and what waits to be delivered."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from acmems.commands.exit_code import ExitCode
from acmems.commands.tables import Column, Row, cell, print_rows
from acmems.commands.terminal import tell
from acmems.commands.views.documents import for_person, rfc3339
from acmems.config import Configuration
from acmems.notices.notice import Notice
from acmems.state.notices.causes import CauseRecord, CauseRecords
from acmems.state.notices.outbox import NoticeRecord, NoticeRecords
from acmems.state.opening import view_state

HELP = "show what operators were told that is not over, and notices that wait to be delivered"

_CAUSES = (
    Column("kind"),
    Column("severity"),
    Column("since (UTC)"),
    Column("told (UTC)"),
    Column("times", is_number=True),
    Column("reason", is_flexible=True),
)
_WAITING = (
    Column("waits for"),
    Column("since (UTC)"),
    Column("tries", is_number=True),
    Column("next (UTC)"),
    Column("subject", is_flexible=True),
)


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Show it.

    Raises:
        StateUnavailable: the state cannot be read.
    """
    with contextlib.closing(view_state(config.state, config.home)) as database:
        causes, waiting = CauseRecords(database).all(), NoticeRecords(database).all()
    if options.json:
        told = [_cause_document(each) for each in causes]
        tell(json.dumps({"causes": told, "waiting": [_waiting_document(each) for each in waiting]}))
        return ExitCode.DONE
    is_terminal = sys.stdout.isatty()
    if causes:
        print_rows(_CAUSES, map(_cause_row, causes), kind="cause")
    if waiting:
        if causes and is_terminal:
            tell("")
        print_rows(_WAITING, map(_waiting_row, waiting), kind="waiting")
    if not causes and not waiting and is_terminal:
        tell("nothing was told that is not over, and nothing waits")
    return ExitCode.DONE


def _cause_row(cause: CauseRecord) -> Row:
    return Row(
        (
            cell(cause.kind),
            cell(cause.severity),
            cell(for_person(cause.began)),
            cell(for_person(cause.told)),
            cell(cause.times),
            cell(cause.reason),
        )
    )


def _waiting_row(record: NoticeRecord) -> Row:
    return Row(
        (
            cell(record.target),
            cell(for_person(record.made)),
            cell(record.tries),
            cell(for_person(record.next_try)),
            cell(_subject(record)),
        ),
        record.reason,
    )


def _cause_document(cause: CauseRecord) -> dict[str, Any]:
    return {
        "kind": cause.kind,
        "severity": cause.severity,
        "since": rfc3339(cause.began),
        "told": rfc3339(cause.told),
        "times": cause.times,
        "number": cause.number,
        "directory": cause.directory or None,
        "reason": cause.reason,
    }


def _waiting_document(record: NoticeRecord) -> dict[str, Any]:
    return {
        "target": record.target,
        "id": record.id,
        "since": rfc3339(record.made),
        "tries": record.tries,
        "next_try": rfc3339(record.next_try),
        "subject": _subject(record),
        "reason": record.reason,
    }


def _subject(record: NoticeRecord) -> str | None:
    try:
        return Notice.from_json(record.notice).subject
    except (ValueError, KeyError, TypeError):
        return None
