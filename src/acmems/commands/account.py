"""`acmems account`: show, register or deactivate the ACME account, or give it another key."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from acmems import logs
from acmems.commands import acting, preflight
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain, confirmed, tell
from acmems.config import Configuration
from acmems.frontends.acts.rotation import described
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import KEY_TYPES
from acmems.issuers.acme.options import AccountOptions
from acmems.settings.findings import hint
from acmems.text import one_line

HELP = "show, register or deactivate the ACME account, or give it another key"

_ACTIONS: Mapping[str, str] = {
    "show": "print the account as the CA knows it",
    "register": "create the account key if there is none, and register the account",
    "deactivate": "deactivate the account at the CA, for ever; asks first",
    "rotate-key": "give the account another key; a running server goes on with that",
}


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Declare the actions, and what each takes beside configuration files."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = {
        name: actions.add_parser(name, help=words, description=f"{words[:1].upper()}{words[1:]}.")
        for name, words in _ACTIONS.items()
    }
    parsers["deactivate"].add_argument("--yes", action="store_true", help="do not ask")
    parsers["rotate-key"].add_argument(
        "--key-type",
        choices=KEY_TYPES,
        metavar="T",
        help=f"type of the new key: {', '.join(KEY_TYPES)}; 'key-type' in [account] unless given",
    )
    for each in parsers.values():
        each.add_argument(
            "--account", metavar="NAME", default="", help='that of [account "NAME"], not of [account]'
        )
        each.add_argument("--json", action="store_true", help="print one JSON document")
    return list(parsers.values())


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Do what is asked with the account, and print it.

    Raises:
        ConfigurationError: its files cannot be used.
        AcmeException: it cannot be done.
    """
    preflight.require_account(config)
    if options.account not in config.accounts:
        section = f"[account {json.dumps(options.account)}]" if options.account else "[account]"
        complain(
            f"acmems: there is no {section} in the configuration{hint(options.account, config.accounts)}"
        )
        return ExitCode.UNUSABLE
    account_options = config.accounts[options.account]
    ending = options.action == "deactivate"
    if ending and not options.yes and not sys.stdin.isatty():
        complain(
            "acmems: account deactivate asks at a terminal, and there is none: give --yes to do it anyway"
        )
        return ExitCode.UNUSABLE
    logs.configure(options.logging or config.logging)
    if options.action == "rotate-key":
        account = acting.act(config, "rotate-key", {"account": options.account, "key_type": options.key_type})
    elif ending and not options.yes and not _may_end(config, account_options):
        complain("acmems: nothing was changed")
        return ExitCode.FAILED
    elif ending:
        account = acting.act(config, "deactivate", {"account": options.account})
    else:
        with contextlib.closing(AcmeIssuer(account_options, config.mgmt.request_timeout)) as issuer:
            found = _register(issuer) if options.action == "register" else issuer.open(register=False)
            account = described(issuer, found)
    _print(account, as_json=options.json)
    return ExitCode.DONE


def _may_end(config: Configuration, account: AccountOptions) -> bool:
    """Ask a person whether the account is to end."""
    with contextlib.closing(AcmeIssuer(account, config.mgmt.request_timeout)) as issuer:
        url = issuer.open(register=False).url
    return confirmed(f"Deactivate {one_line(url)} for ever? Nothing more can be ordered with it.")


def _register(issuer: AcmeIssuer) -> Account:
    with issuer.directory.founding():
        if not issuer.directory.has_key():
            issuer.create_key()
        return issuer.open()


def _print(account: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        tell(json.dumps(account))
        return
    width = max(map(len, account))
    for name, value in account.items():
        words = ", ".join(value) if isinstance(value, list) else value
        tell(f"{name:<{width}}  {one_line(words or 'none')}")
