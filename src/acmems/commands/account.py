"""`acmems account`: show, register or deactivate the ACME account."""

from __future__ import annotations

import argparse

from acmems import logs
from acmems.commands import preflight
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import tell
from acmems.config import Configuration
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.text import one_line

HELP = "show, register or deactivate the ACME account"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    parser.add_argument("action", choices=("show", "register", "deactivate"))


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Do what is asked with the account, and print it.

    Raises:
        ConfigurationError: its files cannot be used.
        AcmeException: it cannot be done.
    """
    preflight.require_account(config)
    logs.configure(options.logging or config.logging)
    issuer = AcmeIssuer(config.account, config.mgmt.request_timeout)
    try:
        account = _register(issuer) if options.action == "register" else issuer.open(register=False)
        if options.action == "deactivate":
            account = issuer.deactivate()
        _show(issuer, account)
    finally:
        issuer.close()
    return ExitCode.DONE


def _register(issuer: AcmeIssuer) -> Account:
    with issuer.directory.founding():
        if not issuer.directory.has_key():
            issuer.create_key()
        return issuer.open()


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
        tell(f"{name:<{width}}  {one_line(value)}")
