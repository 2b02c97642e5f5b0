"""`acmems state`: look at the state, bring it up to date, take chains into it, and copy it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from acmems.commands import preflight
from acmems.commands.exit_code import ExitCode
from acmems.commands.state import checking, copying, importing, migrating
from acmems.commands.state.outcome import Outcome
from acmems.commands.terminal import complain, tell
from acmems.config import Configuration
from acmems.state.engines.sqlite import StateInUse

HELP = "check the state, bring it up to date, take chains into it, or copy it"

_ACTIONS: Mapping[str, str] = {
    "check": "see whether all that the state keeps can be read and is what it should be",
    "migrate": "make the state if there is none, and bring its tables up to date",
    "import": "take the chains of file storages into the state, again and again without harm",
    "backup": "copy the state as it is at one moment, also while a server uses it",
}
_RUN: Mapping[str, Callable[[Configuration, argparse.Namespace], Outcome]] = {
    "check": checking.run,
    "migrate": migrating.run,
    "import": importing.run,
    "backup": copying.run,
}


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Declare the actions, and what each takes beside configuration files."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = {
        name: actions.add_parser(name, help=words, description=f"{words[:1].upper()}{words[1:]}.")
        for name, words in _ACTIONS.items()
    }
    parsers["check"].add_argument(
        "--repair",
        action="store_true",
        help="put right what can be: rows from their certificates, chains from the CA, and what can be "
        "read of a damaged SQLite file into a new one",
    )
    parsers["import"].add_argument(
        "--storage", metavar="NAME", help="the file storage to take chains from; all of them unless given"
    )
    parsers["backup"].add_argument("file", metavar="FILE", help="where the copy goes; must not exist yet")
    for each in parsers.values():
        each.add_argument("--json", action="store_true", help="print one JSON document")
    return list(parsers.values())


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Do what is asked with the state, and print what came of it.

    Raises:
        ConfigurationError: the state cannot be where the configuration says.
        AcmeException: it cannot be done.
        OSError: a file cannot be written.
    """
    is_read = options.action == "backup" or (options.action == "check" and not options.repair)
    preflight.require_state(config, is_read=is_read)
    try:
        outcome = _RUN[options.action](config, options)
    except StateInUse as error:
        complain(
            f"acmems: a server uses {error}: stop it, do 'acmems state {options.action}' again, and start it"
        )
        return ExitCode.FAILED
    if options.json:
        tell(json.dumps(outcome.document))
    else:
        _show(outcome.facts)
        for line in outcome.problems:
            complain(line)
    return outcome.code


def _show(facts: Mapping[str, Any]) -> None:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        tell(f"{name:<{width}}  {value}")
