"""The command line: which command is meant, and how it ends."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from acmems import __version__, logs
from acmems.commands import account, check, explain, serve
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain
from acmems.config import Configuration
from acmems.exceptions import AcmeException, ConfigurationError
from acmems.logs.options import LoggingOptions
from acmems.text import one_line

logger = logging.getLogger(__name__)

_DEBUGGING = LoggingOptions("debug", "stderr", "text")


class Command(Protocol):
    """One command: a module of this package."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> Iterable[argparse.ArgumentParser] | None:
        """Declare what the command takes beside configuration files.

        Returns:
            the parsers of its actions, if it has actions.
        """

    def run(self, config: Configuration, options: argparse.Namespace, /) -> ExitCode:
        """Run the command; `options.logging` says how to log where the configuration does not count."""


COMMANDS: Mapping[str, Command] = {
    "serve": serve,
    "check": check,
    "explain": explain,
    "account": account,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed while working, 2 usage or configuration.

    Args:
        arguments: the command line without the program's name; that of the process by default.
    """
    options = make_parser().parse_args(arguments)
    logs.mute()
    try:
        if options.logging is not None:
            logs.configure(options.logging)
        config = Configuration.load(*options.config)
        for warning in config.warnings:
            complain(str(warning))
        return COMMANDS[options.command].run(config, options)
    except ConfigurationError as error:
        for finding in error.findings:
            complain(str(finding))
        return ExitCode.UNUSABLE
    except AcmeException as error:
        complain(f"acmems: {error}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(f"acmems: {place}{error.strerror or error}")
    except KeyboardInterrupt:
        complain("acmems: interrupted")
    except Exception as error:  # noqa: BLE001 - whatever it is, a person is told in one line
        _report_bug(error)
    return ExitCode.FAILED


def _report_bug(error: Exception) -> None:
    """Put the traceback into the log, and tell a person where it is."""
    logger.error("a bug ended the program", exc_info=error)
    log = logs.destination()
    where = "--debug logs the traceback" if log is None else f"the log ({log}) has the traceback"
    complain(f"acmems: a bug, please report it: {type(error).__name__}: {one_line(error)}; {where}")


def make_parser() -> argparse.ArgumentParser:
    """Return what reads the command line, and what the manual page and the completions are made from."""
    parser = argparse.ArgumentParser(
        prog="acmems",
        description="One server that gets ACME certificates for machines that only have openssl and curl.",
    )
    parser.add_argument("--version", action="version", version=f"acmems {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.HELP, description=f"{_sentence(command.HELP)}.")
        for each in command.add_arguments(one) or [one]:
            _add_common(each)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Declare what every command takes."""
    parser.add_argument(
        "--debug",
        dest="logging",
        action="store_const",
        const=_DEBUGGING,
        help="log everything to stderr, whatever the configuration says",
    )
    parser.add_argument(
        "config", nargs="+", metavar="CONFIG", help="configuration file; several are read as one"
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
