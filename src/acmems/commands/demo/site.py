"""What the demonstration serves: a directory with a CA, a configuration, and the server's own certificate."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from acmems.issuers.local.authority import RootAuthority
from acmems.issuers.local.files import LocalCaDirectory
from acmems.issuers.local.permits import parse_permit, together
from acmems.system import files
from acmems.system.clock import SYSTEM, Clock
from acmems.x509 import csr
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier, IdentifierType, named

HOST = "localhost"
PERMITS = ("internal", "printer", HOST, "127.0.0.0/8", "::1")
LIFETIME = datetime.timedelta(days=7)

_ADDRESSES = ("127.0.0.1", "::1")
_TEXT = """\
# Made by `acmems demo`.

[local-ca "demo"]
dir = {path}/ca
common-name = acmems demo
{permits}

[mgmt]
listener = 127.0.0.1:{sign_port}

[acme]
listener = 127.0.0.1:{acme_port}
url = https://{host}:{acme_port}
tls-certificate = {path}/server.pem
tls-key = {path}/server.key

[storage "state"]
type = sql

[logging]
level = error

[auth "this machine"]
ip = 127.0.0.0/8
domain = **.internal
domain = printer
address = 127.0.0.0/8
"""


@dataclass(frozen=True, slots=True)
class DemoSite:
    """A place to serve: make it with `make`.

    Args:
        path: the directory.
        sign_port: where `/sign` is.
        acme_port: where ACME clients ask.
    """

    path: Path
    sign_port: int
    acme_port: int

    @classmethod
    def make(cls, path: Path, clock: Clock = SYSTEM) -> Self:
        """Make all that a server needs.

        Args:
            path: an empty directory.
            clock: for dates.

        Raises:
            LocalCaUnusable, OSError: it cannot be written.
        """
        site = cls(path, _free_port(), _free_port())
        permits = together(map(parse_permit, PERMITS))
        root = RootAuthority.make("acmems demo", permits, clock.now())
        issuing = root.intermediate(clock.now())
        LocalCaDirectory(path / "ca").save_new(root, issuing)
        key, request = make_request([HOST, *_ADDRESSES])
        chain = issuing.issue(request, clock.now(), permits=permits, lifetime=LIFETIME)
        files.write_together(
            path, {"server.key": key, "server.pem": chain, site.config_file.name: site._text().encode()}
        )
        return site

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.path / "acmems.ini"

    @property
    def root_file(self) -> Path:
        """The certificate of the root."""
        return self.path / "ca" / "root.pem"

    @property
    def sign_url(self) -> str:
        """Where machines with openssl and curl ask."""
        return f"http://127.0.0.1:{self.sign_port}/sign"

    @property
    def directory_url(self) -> str:
        """Where ACME clients begin."""
        return f"https://{HOST}:{self.acme_port}/directory"

    def _text(self) -> str:
        permits = "\n".join(f"permit = {each}" for each in PERMITS)
        return _TEXT.format(
            path=self.path,
            permits=permits,
            host=HOST,
            sign_port=self.sign_port,
            acme_port=self.acme_port,
        )


def make_request(names: list[str]) -> tuple[bytes, CertificateRequest]:
    """Return a new private key in PEM, and a certificate request for some names."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = x509.SubjectAlternativeName([_general_name(named(each)) for each in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, csr.parse(signed.public_bytes(Encoding.PEM))


def _general_name(identifier: Identifier) -> x509.GeneralName:
    if identifier.type is IdentifierType.DNS:
        return x509.DNSName(identifier.value)
    return x509.IPAddress(ipaddress.ip_address(identifier.value))


def _free_port() -> int:
    """Return a port that nothing listens on: an own server may have those that are usual."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
        return found
