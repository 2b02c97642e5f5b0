"""The command line: which command is meant, and how it ends."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from acmems import __version__, logs
from acmems.commands import account, check, demo, explain, local_ca, notice, renew, revoke, serve, state
from acmems.commands.arguments import add_configuration, has_configuration
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain
from acmems.commands.views import certificate, certificates, events, limits
from acmems.config import Configuration
from acmems.exceptions import AcmeException, CAUnavailable, ConfigurationError, DirectoryUnusable
from acmems.logs.options import LoggingOptions
from acmems.settings.findings import hint
from acmems.system.interruption import interruptible
from acmems.text import one_line

logger = logging.getLogger(__name__)

_DEBUGGING = LoggingOptions("debug", "stderr", "text")


class Declared(Protocol):
    """What the command line is read by: a module of this package."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> Iterable[argparse.ArgumentParser] | None:
        """Declare what the command takes beside configuration files.

        Configuration files come last, unless they are declared here, before what follows them, or `config` is
        set to none by default.

        Returns:
            the parsers of its actions, if it has actions.
        """


class Command(Declared, Protocol):
    """One command."""

    def run(self, config: Configuration, options: argparse.Namespace, /) -> ExitCode:
        """Run the command; `options.logging` says how to log where the configuration does not count."""


class StandaloneCommand(Declared, Protocol):
    """One command that takes no configuration, because it makes what it needs."""

    def run(self, options: argparse.Namespace, /) -> ExitCode:
        """Run the command; `options.logging` says how to log."""


COMMANDS: Mapping[str, Command] = {
    "serve": serve,
    "check": check,
    "explain": explain,
    "list": certificates,
    "show": certificate,
    "events": events,
    "limits": limits,
    "renew": renew,
    "revoke": revoke,
    "account": account,
    "ca": local_ca,
    "notice": notice,
    "state": state,
}

STANDALONE: Mapping[str, StandaloneCommand] = {"demo": demo}
"""Commands that take no configuration."""

_ALL: Mapping[str, Declared] = {**COMMANDS, **STANDALONE}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed while working, 2 usage or configuration.

    Args:
        arguments: the command line without the program's name; that of the process by default.
    """
    options = _read(list(sys.argv[1:] if arguments is None else arguments))
    logs.mute()
    config: Configuration | None = None
    try:
        with interruptible():
            if options.logging is not None:
                logs.configure(options.logging)
            if options.command in STANDALONE:
                return STANDALONE[options.command].run(options)
            config = _configuration(options.config)
            return COMMANDS[options.command].run(config, options)
    except ConfigurationError as error:
        for finding in error.findings:
            complain(str(finding))
        return ExitCode.UNUSABLE
    except AcmeException as error:
        complain(_words(config, error))
    except BrokenPipeError:
        # Whoever reads has read enough; Python would complain when it writes the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        complain(f"acmems: {place}{error.strerror or error}")
    except KeyboardInterrupt:
        complain("acmems: interrupted")
    except Exception as error:  # noqa: BLE001 - whatever it is, a person is told in one line
        _report_bug(error)
    return ExitCode.FAILED


def _configuration(paths: Sequence[str]) -> Configuration:
    """Read the configuration, and tell what it warns of."""
    config = Configuration.load(*paths)
    for warning in config.warnings:
        complain(str(warning))
    return config


def _words(config: Configuration | None, error: AcmeException) -> str:
    """Return what an error says, with the line that it is about where that is known."""
    where = "" if config is None else config.where("account", None, "acme-server")
    if isinstance(error, DirectoryUnusable):
        return f"{where or 'acmems'}: {error}"
    if type(error) is CAUnavailable:
        return f"acmems: {error}; 'acme-server' of {where} says where the CA is"
    return f"acmems: {error}"


def _read(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; where it is none, say so and exit."""
    parser = make_parser()
    if not words or (words[0] not in _ALL and not words[0].startswith("-")):
        parser.error(_no_command(words))
    return parser.parse_args(words)


def _no_command(words: Sequence[str]) -> str:
    """Say what to write where no command is named, as 0.3 to 0.5 wanted it."""
    if not words:
        return f"name a command: {', '.join(_ALL)}"
    if "." in words[0] or "/" in words[0]:
        files = " ".join(words)
        return (
            f"'{words[0]}' is no command: 'acmems serve {files}' runs it, 'acmems check {files}' looks at it"
        )
    return f"there is no command '{words[0]}'{hint(words[0], _ALL)}"


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
    for name, command in _ALL.items():
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
    if not has_configuration(parser):
        add_configuration(parser)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
