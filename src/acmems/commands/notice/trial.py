"""`acmems notice test`: send a notice that says it is a test, and print what has become of it."""

from __future__ import annotations

import argparse
import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor

from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain, tell
from acmems.config import Configuration
from acmems.notices.contract import NoticeTarget, NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.settings.findings import hint
from acmems.system.clock import SYSTEM, Clock

HELP = "send a test notice to each [notice] section, and print what has become of it"


def run(config: Configuration, options: argparse.Namespace, clock: Clock = SYSTEM) -> ExitCode:
    """Send a test, and say for each section whether it was taken."""
    if not config.notices:
        complain('acmems: there is no [notice "NAME"] section, so nobody is told anything')
        return ExitCode.UNUSABLE
    unknown = [name for name in options.to if name not in config.notices]
    for name in unknown:
        complain(f'acmems: there is no [notice "{name}"]{hint(name, config.notices)}')
    if unknown:
        return ExitCode.UNUSABLE
    names = list(dict.fromkeys(options.to)) or list(config.notices)
    notice = _test_notice(clock)
    with ThreadPoolExecutor(len(names)) as pool:
        outcomes = dict(
            zip(names, pool.map(lambda name: _failure(config.notices[name], notice), names), strict=True)
        )
    if options.json:
        told = [
            {"name": name, "delivered": reason is None, "reason": reason} for name, reason in outcomes.items()
        ]
        tell(json.dumps({"id": notice.id, "targets": told}))
    for name, reason in outcomes.items():
        if reason is not None:
            complain(f"acmems: notice {name}: {reason}")
        elif not options.json:
            tell(f"notice {name}: delivered")
    return ExitCode.DONE if all(reason is None for reason in outcomes.values()) else ExitCode.FAILED


def _failure(target: NoticeTarget, notice: Notice) -> str | None:
    """Send a notice; return why that has failed, None if it has not."""
    try:
        target.deliver(notice)
    except NoticeUndelivered as error:
        return str(error)
    return None


def _test_notice(clock: Clock) -> Notice:
    identity = secrets.token_hex(16)
    return Notice(
        id=identity,
        cause=f"test {identity}",
        kind="test",
        phase="once",
        severity="info",
        at=clock.now(),
        server=socket.gethostname(),
        subject="this is a test, and nothing is wrong",
        text="Somebody has run 'acmems notice test' to see whether notices get here. They do.",
    )
