"""`acmems notice`: send a test to where notices go, or show what was told and what waits."""

from __future__ import annotations

import argparse

from acmems.commands.arguments import add_json
from acmems.commands.exit_code import ExitCode
from acmems.commands.notice import listing, trial
from acmems.config import Configuration

HELP = "send a test notice, or show what was told and what waits"


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Declare the actions, and what each takes beside configuration files."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = [
        actions.add_parser(name, help=words, description=f"{words[:1].upper()}{words[1:]}.")
        for name, words in (("test", trial.HELP), ("list", listing.HELP))
    ]
    testing, showing = parsers
    testing.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="NAME",
        help="only to this [notice] section; may be repeated; to all of them unless given",
    )
    for each in (testing, showing):
        add_json(each)
    return parsers


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Do what is asked.

    Raises:
        StateUnavailable: the state cannot be read.
    """
    if options.action == "test":
        return trial.run(config, options)
    return listing.run(config, options)
