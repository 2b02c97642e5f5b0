"""`acmems account`: show, register or deactivate the ACME account."""

from __future__ import annotations

import argparse

from acmems import logs
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import tell
from acmems.config import Configuration
from acmems.issuers.acme import account
from acmems.manager import ACMEManager

HELP = "show, register or deactivate the ACME account"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    parser.add_argument("action", choices=("show", "register", "deactivate"))


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Do what is asked with the account, and print it.

    Raises:
        AcmeException: it cannot be done.
    """
    logs.configure(options.logging or config.logging)
    manager = ACMEManager(config, connect=False)
    if options.action == "register" and not manager.directory.has_key():
        manager.create_account_key()
    manager.connect(register=options.action == "register")
    if options.action == "deactivate":
        manager.deactivate()
    _show(manager)
    manager.close()
    return ExitCode.DONE


def _show(manager: ACMEManager) -> None:
    registration = manager.registration
    if registration is None:
        return
    rows = {
        "server": manager.config.account.directory_url,
        "account": registration.uri,
        "status": registration.body.status or "valid",
        "key": account.describe_key(manager.account_key),
        "thumbprint": account.thumbprint(manager.account_key),
        "contacts": ", ".join(registration.body.contact) or "none",
        "terms": registration.terms_of_service or "none",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        tell(f"{name:<{width}}  {value}")
