"""`acmems check`: report every problem of a configuration, and change nothing."""

from __future__ import annotations

import argparse
import sys

from acmems.commands import preflight, records
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain, tell
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.net.address import Address, parse_address
from acmems.system.terminal import Colour, coloured, wants_colour

HELP = "report every problem of a configuration, change nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    parser.add_argument(
        "--records",
        action="store_true",
        help="also print what must stand in DNS for the verifications and for the CA, and whether it does",
    )
    parser.add_argument(
        "--resolver",
        action="append",
        default=[],
        type=_resolver,
        metavar="HOST:PORT",
        help="look the records up here, not where the configuration or the system says; may be repeated",
    )


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Say that a configuration is good, and with `--records` what DNS lacks.

    Raises:
        ConfigurationError: something that the configuration names is missing on this machine.
        AccountError: the registration cannot be read.
    """
    if options.resolver and not options.records:
        complain("acmems: --resolver goes with --records")
        return ExitCode.UNUSABLE
    findings = preflight.check(config)
    if any(not finding.warning for finding in findings):
        raise ConfigurationError(findings)
    for warning in findings:
        complain(str(warning))
    colour = wants_colour(sys.stdout)
    ok = coloured("ok", Colour.GREEN) if colour else "ok"
    blocks = len(config.auth.blocks)
    verdict = f"{ok}: {', '.join(options.config)}: {blocks} auth block{'' if blocks == 1 else 's'}"
    if not options.records:
        tell(verdict)
        return ExitCode.DONE
    # What does not go to a terminal can be put into a zone file, where this line is a comment.
    terminal = sys.stdout.isatty()
    tell(verdict if terminal else f"; {verdict}")
    lines = records.examine(config, options.resolver) + records.caa_lines(config, options.resolver)
    for line in records.table(lines, colour=colour) if terminal else records.zone_file(lines):
        tell(line)
    return ExitCode.DONE if records.is_complete(lines) else ExitCode.FAILED


def _resolver(text: str) -> Address:
    try:
        return parse_address(text, default_port=53)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
