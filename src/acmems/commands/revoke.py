"""`acmems revoke`: revoke a certificate at the CA; it is never delivered again."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from acmems import logs
from acmems.commands import acting, preflight
from acmems.commands.arguments import add_configuration
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain, confirmed, tell
from acmems.config import Configuration
from acmems.exceptions import ActFailed
from acmems.issuers.acme.certificates.revocation import REASONS
from acmems.system import files
from acmems.text import one_line

HELP = "revoke a certificate at the CA; it is never delivered again"

_LARGEST = 256 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes, configuration files included, which stand before the certificate."""
    add_configuration(parser)
    parser.add_argument(
        "certificate",
        metavar="NAME",
        help="one of its names, its serial number or its SHA-256 fingerprint, in hex; or a PEM file, as a "
        "path with a slash: ./cert.pem",
    )
    parser.add_argument(
        "--reason",
        choices=tuple(REASONS),
        metavar="REASON",
        help=f"why: {', '.join(REASONS)}; unspecified, or that of an earlier try, unless given; "
        f"after keyCompromise, its public key gets no certificate any more",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Revoke a certificate, once a person has said yes.

    Raises:
        ConfigurationError: the files of the account cannot be used.
        AcmeException: it cannot be done.
    """
    preflight.require_account(config)
    if not options.yes and not sys.stdin.isatty():
        complain("acmems: revoke asks at a terminal, and there is none: give --yes to do it anyway")
        return ExitCode.UNUSABLE
    arguments: dict[str, Any] = {"reason": options.reason} | _named(options.certificate)
    logs.configure(options.logging or config.logging)
    question = f"Revoke the certificate of {one_line(options.certificate, 300)}? This cannot be undone."
    if not options.yes and not confirmed(question):
        complain("acmems: nothing was changed")
        return ExitCode.FAILED
    revoked = acting.act(config, "revoke", arguments)
    if options.json:
        tell(json.dumps(revoked))
        return ExitCode.DONE
    words = "was revoked before" if revoked["was_revoked_before"] else "is revoked"
    tell(f"the certificate {revoked['serial']} of {one_line(', '.join(revoked['names']))} {words}")
    return ExitCode.DONE


def _named(certificate: str) -> dict[str, str]:
    """Return how an act is told which certificate is meant.

    Raises:
        ActFailed: the file cannot be read.
    """
    if "/" not in certificate:
        return {"name": certificate}
    try:
        return {"certificate": files.read(Path(certificate), _LARGEST).decode("ascii")}
    except OSError as error:
        raise ActFailed(f"{certificate}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise ActFailed(f"{certificate} is no certificate in PEM") from None
