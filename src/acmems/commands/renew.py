"""`acmems renew`: order a certificate anew, whatever is stored."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from acmems import logs
from acmems.commands import acting, preflight
from acmems.commands.arguments import add_configuration
from acmems.commands.exit_code import ExitCode
from acmems.commands.policy import cost_facts
from acmems.commands.terminal import tell
from acmems.config import Configuration
from acmems.issuers.local.options import LOCAL
from acmems.text import one_line

HELP = "order a certificate anew, although one is stored"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes, configuration files included, which stand before the certificate."""
    add_configuration(parser)
    parser.add_argument(
        "certificate",
        metavar="NAME",
        help="one of its names, its serial number or its SHA-256 fingerprint, in hex",
    )
    parser.add_argument(
        "--block",
        metavar="BLOCK",
        help="the auth block that grants it, for a certificate of which that is not known",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would be ordered, and how it would be proved"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Order a certificate anew, or say what that would mean.

    Raises:
        ConfigurationError: the files of the account, or what the configuration names, cannot be used.
        AcmeException: it cannot be done.
    """
    preflight.require_account(config)
    logs.configure(options.logging or config.logging)
    arguments = {"name": options.certificate, "block": options.block, "dry_run": options.dry_run}
    renewed = acting.act(config, "renew", arguments, proves=not options.dry_run)
    if options.json:
        tell(json.dumps(renewed))
    else:
        _print(renewed)
    return ExitCode.DONE


def _print(renewed: Mapping[str, Any]) -> None:
    rows = {
        "names": ", ".join(renewed["names"]),
        "issuer": renewed["issuer"],
        "profile": renewed["profile"] or "the CA's default",
        "block": renewed["block"],
        "storage": renewed["storage"],
        "replaces": f"{renewed['replaces']['serial']}, valid until {renewed['replaces']['not_after']}",
    }
    # Nothing is proved to a local CA.
    proofs = {} if renewed["issuer"].startswith(LOCAL) else renewed["verifications"]
    for name, verifications in proofs.items():
        rows[f"proof of {name}"] = ", ".join(verifications) or "none of the block's verifications can do it"
    rows |= dict(cost_facts(renewed.get("limits") or ()))
    if renewed["is_ordered"]:
        rows["new"] = f"{renewed['serial']}, valid until {renewed['not_after']}"
    else:
        rows["orders"] = f"{renewed['orders']}, not placed"
    width = max(map(len, rows))
    for name, value in rows.items():
        tell(f"{name:<{width}}  {one_line(value)}")
