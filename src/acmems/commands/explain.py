"""`acmems explain`: what the policy says to a request, block by block, and why; nothing is ordered."""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from acmems.commands import policy, records
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain, tell
from acmems.config import Configuration
from acmems.net.address import IPAddress
from acmems.system.terminal import wants_colour
from acmems.x509.identifiers import Identifier, IdentifierType

HELP = "say what the policy answers to a request, block by block, and why"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files."""
    parser.add_argument(
        "--address", required=True, type=_address, metavar="A", help="the address that the request comes from"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--name",
        action="append",
        default=[],
        type=_identifier,
        metavar="N",
        help="a name or IP address that the CSR asks for; may be repeated",
    )
    asked.add_argument(
        "--csr", metavar="FILE", help="the CSR itself, '-' for standard input: its form is examined as well"
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        choices=policy.METHODS,
        help="what the client can show beside its address: 'hmac' means the right HMAC, 'token' a token, "
        "'client-certificate' a client certificate that is accepted, 'external-account' an ACME account that "
        "is bound to the external one; may be repeated",
    )
    parser.add_argument(
        "--dns",
        action="store_true",
        help="also look up whether the DNS lets the CA issue for the names of a request that is granted",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Say what the policy answers, and why; done if the request would be granted.

    Raises:
        AccountError: the registration cannot be read, which `--dns` needs.
    """
    try:
        body = _body(options)
    except OSError as error:
        complain(f"acmems: {options.csr}: {error.strerror or error}")
        return ExitCode.UNUSABLE
    question = policy.Question(options.address, body, tuple(dict.fromkeys(options.method)))
    explanation = policy.explain(config, question)
    costs = policy.costs_of(config, explanation)
    found = _forecasts(config, explanation) if options.dns else []
    if options.json:
        shown: dict[str, object] = dict(policy.document(explanation, costs))
        shown["dns"] = [each.document for each in found] if options.dns else None
        tell(json.dumps(shown))
    elif sys.stdout.isatty():
        for line in policy.table(explanation, costs, colour=wants_colour(sys.stdout)):
            tell(line)
    else:
        for line in policy.plain(explanation, costs):
            tell(line)
    if not options.json:
        for each in found:
            tell(f"dns {each.words}")
    is_good = explanation.is_granted and not records.is_hopeless(found)
    return ExitCode.DONE if is_good else ExitCode.FAILED


def _forecasts(config: Configuration, explanation: policy.Explanation) -> list[records.NameForecast]:
    if explanation.deciding is None:
        return []
    block = explanation.deciding.block
    return records.forecasts(config, [(each, block) for each in explanation.identifiers])


def _body(options: argparse.Namespace) -> bytes | None:
    """Return the CSR that is asked about, made here where names are given.

    Raises:
        OSError: it cannot be read.
    """
    if options.csr is not None:
        return sys.stdin.buffer.read() if options.csr == "-" else Path(options.csr).read_bytes()
    return _csr(options.name) if options.name else None


def _csr(identifiers: Sequence[Identifier]) -> bytes:
    """Return a CSR for some names, with a key that nobody keeps."""
    names = [
        x509.DNSName(each.value)
        if each.type is IdentifierType.DNS
        else x509.IPAddress(ipaddress.ip_address(each.value))
        for each in identifiers
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    csr = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM)


def _address(text: str) -> IPAddress:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _identifier(text: str) -> Identifier:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        read = Identifier.dns
    else:
        read = Identifier.ip
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
