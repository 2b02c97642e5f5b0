"""The command line: commands, exit codes, and what a person reads."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from acmems import __version__, app, logs
from acmems.commands import preflight, records
from acmems.config import Configuration
from acmems.exceptions import AcmeException, ConfigurationError
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.net.address import Address, parse_address

logger = logging.getLogger(__name__)

DONE, FAILED, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed while working, 2 usage or configuration.

    Args:
        arguments: the command line without the program's name; that of the process by default.
    """
    options = _parser().parse_args(arguments)
    try:
        config = Configuration.load(*options.config)
        for warning in config.warnings:
            _complain(str(warning))
        return int(options.run(config, options))
    except ConfigurationError as error:
        for finding in error.findings:
            _complain(str(finding))
        return UNUSABLE
    except AcmeException as error:
        _complain(f"acmems: {error}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        _complain(f"acmems: {place}{error.strerror or error}")
    except KeyboardInterrupt:
        _complain("acmems: interrupted")
    except Exception as error:
        _complain(f"acmems: a bug, please report it: {type(error).__name__}: {error}")
        logger.debug("the bug", exc_info=True)
    return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="acmems",
        description="One server that gets ACME certificates for machines that only have openssl and curl.",
    )
    parser.add_argument("--version", action="version", version=f"acmems {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the server until SIGTERM or SIGINT")
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check", help="report every problem of a configuration, change nothing")
    check.set_defaults(run=_check)
    check.add_argument(
        "--records",
        action="store_true",
        help="also print what must stand in DNS for the verifications, and whether it does",
    )
    check.add_argument(
        "--resolver",
        action="append",
        default=[],
        type=_resolver,
        metavar="HOST:PORT",
        help="look the records up here, not where the configuration or the system says; may be repeated",
    )
    acc = commands.add_parser("account", help="show, register or deactivate the ACME account")
    acc.add_argument("action", choices=("show", "register", "deactivate"))
    acc.set_defaults(run=_account)
    for command in (serve, check, acc):
        command.add_argument(
            "config", nargs="+", metavar="CONFIG", help="configuration file; several are read as one"
        )
    return parser


def _serve(config: Configuration, _: argparse.Namespace) -> int:
    _look(config)
    logs.configure(config.logging)
    app.run(config)
    return DONE


def _look(config: Configuration) -> None:
    findings = preflight.check(config)
    if findings:
        raise ConfigurationError(findings)


def _check(config: Configuration, options: argparse.Namespace) -> int:
    if options.resolver and not options.records:
        _complain("acmems: --resolver goes with --records")
        return UNUSABLE
    _look(config)
    blocks = len(config.auth.blocks)
    verdict = f"{_green('ok')}: {', '.join(options.config)}: {blocks} auth block{'' if blocks == 1 else 's'}"
    if not options.records:
        print(verdict)  # noqa: T201 - what a person reads
        return DONE
    terminal = sys.stdout.isatty()
    print(verdict if terminal else f"; {verdict}")  # noqa: T201 - what a person reads
    lines = records.examine(config, options.resolver)
    coloured = terminal and not os.environ.get("NO_COLOR")
    for line in records.table(lines, colour=coloured) if terminal else records.zone_file(lines):
        print(line)  # noqa: T201 - what a person reads
    return DONE if records.is_complete(lines) else FAILED


def _resolver(text: str) -> Address:
    try:
        return parse_address(text, default_port=53)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _account(config: Configuration, options: argparse.Namespace) -> int:
    logs.configure(config.logging)
    issuer = AcmeIssuer(config.account, config.mgmt.request_timeout)
    try:
        if options.action == "register" and not issuer.directory.has_key():
            issuer.create_key()
        account = issuer.open(register=options.action == "register")
        if options.action == "deactivate":
            account = issuer.deactivate()
        _show(issuer, account)
    finally:
        issuer.close()
    return DONE


def _show(issuer: AcmeIssuer, account: Account) -> None:
    key = issuer.client.key
    rows = {
        "server": issuer.options.directory_url,
        "account": account.url,
        "status": account.status,
        "key": key.kind,
        "thumbprint": key.thumbprint,
        "contacts": ", ".join(account.contacts) or "none",
        "terms": account.terms_of_service or "none",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")  # noqa: T201 - what a person reads


def _complain(line: str) -> None:
    print(_red(line) if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else line, file=sys.stderr)  # noqa: T201 - what a person reads


def _red(text: str) -> str:
    return f"\x1b[31m{text}\x1b[0m"


def _green(text: str) -> str:
    return f"\x1b[32m{text}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text
