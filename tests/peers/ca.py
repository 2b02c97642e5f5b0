"""Pebble, the CA to test against, and the DNS server that it asks."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import dns.exception
import dns.message
import dns.query
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.peers.process import Peer, free_port, program

FAST = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
"""Pebble without delays and dice, so that a test's outcome is its own."""
CALM = {"GOMAXPROCS": "1", "GODEBUG": "asyncpreemptoff=1"}
"""Go's switches that let one piece of Pebble run at a time.

In a crowd Pebble 2.10 locks itself up: a look at an authorization and a new order can each hold a lock that
the other waits for. So this happens much less often.
"""


def fetch(url: str, ca_file: Path | None = None, data: bytes | None = None) -> bytes:
    """Return what a peer on loopback answers, past all proxies.

    Raises:
        OSError: it does not, or answers with an error status.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if ca_file is not None:
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca_file)))
    with urllib.request.build_opener(*handlers).open(url, data, timeout=10) as answer:
        content: bytes = answer.read()
    return content


def make_tls_certificate(certificate: Path, key: Path) -> None:
    """Write a key and a certificate for itself, for HTTPS on loopback."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    identifier = x509.SubjectKeyIdentifier.from_public_key(private_key.public_key())
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(private_key, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


class ChallTestSrv(Peer):
    """A DNS server in which every name has the address 127.0.0.1, until told otherwise.

    Attributes:
        address: `host:port` of its DNS, for Pebble.
    """

    name = "pebble-challtestsrv"

    def prepare(self) -> None:
        """Choose ports."""
        self.port = free_port()
        self.management_port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        off = [
            argument
            for service in ("http01", "https01", "tlsalpn01", "doh")
            for argument in (f"-{service}", "")
        ]
        return [
            program(self.name),
            *("-management", f"127.0.0.1:{self.management_port}"),
            *("-dnsserver", self.address),
            *("-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""),
            *off,
        ]

    def ready(self) -> bool:
        """Tell whether it answers."""
        try:
            dns.query.udp(dns.message.make_query("ready.example", "A"), "127.0.0.1", 1, self.port)
        except dns.exception.DNSException:
            return False
        socket.create_connection(("127.0.0.1", self.management_port), timeout=5).close()
        return True

    def post(self, action: str, **arguments: Any) -> Any:
        """Ask its management for an action such as `add-a`; return the JSON that it answers."""
        url = f"http://127.0.0.1:{self.management_port}/{action}"
        answer = fetch(url, data=json.dumps(arguments).encode())
        return json.loads(answer) if answer else None


class Pebble(Peer):
    """A CA that speaks RFC 8555, forgets everything when it ends, and has switches for odd behaviour.

    Args:
        dns_server: `host:port` of the DNS server that it asks; None for the machine's.
        http_port: where it fetches http-01 challenges; None for a free port.
        tls_port: where it makes the handshakes of tls-alpn-01; None for a free port.
        env: Pebble's own variables, over those of `FAST`.
        options: keys of its configuration, over those written here.

    Attributes:
        directory_url: the ACME directory.
        ca_file: the certificate that its HTTPS is to be checked with.
        management_url: the root of its management interface.
        http_port: where it fetches http-01 challenges.
        tls_port: where it makes the handshakes of tls-alpn-01.
        running: all that run in this process.
        lockups: how many have locked themselves up.
    """

    name = "pebble"
    running: ClassVar[set[Pebble]] = set()
    lockups: ClassVar[int] = 0

    def __init__(
        self,
        dns_server: str | None = None,
        *,
        http_port: int | None = None,
        tls_port: int | None = None,
        env: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__({**FAST, **(env or {})})
        self.dns_server = dns_server
        self.http_port = http_port or free_port()
        self.tls_port = tls_port or free_port()
        self.options = dict(options or {})

    def prepare(self) -> None:
        """Choose ports and write configuration."""
        port, management_port = free_port(), free_port()
        self.port = port
        self.directory_url = f"https://127.0.0.1:{port}/dir"
        self.management_url = f"https://127.0.0.1:{management_port}"
        self.ca_file = self.folder / "tls.pem"
        make_tls_certificate(self.ca_file, self.folder / "tls.key")
        options = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{management_port}",
            "certificate": "tls.pem",
            "privateKey": "tls.key",
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "retryAfter": {"authz": 0, "order": 0},
            **self.options,
        }
        (self.folder / "pebble.json").write_text(json.dumps({"pebble": options}), encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        server = ["-dnsserver", self.dns_server] if self.dns_server else []
        return [program(self.name), "-config", "pebble.json", *server]

    def ready(self) -> bool:
        """Tell whether it answers."""
        return bool(fetch(self.directory_url, self.ca_file)) and bool(self.root_pem())

    def management(self, path: str, data: bytes | None = None) -> bytes:
        """Return what its management answers at a path such as `/roots/0`."""
        return fetch(self.management_url + path, self.ca_file, data)

    @property
    def is_locked_up(self) -> bool:
        """Whether it runs, and does not even answer a look-up at its management; that takes seconds then."""
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            self.management("/cert-status-by-serial/1")
        except urllib.error.HTTPError:
            return False
        except OSError:
            return True
        return False

    def __enter__(self) -> Self:
        super().__enter__()
        Pebble.running.add(self)
        return self

    def __exit__(self, *raised: object) -> None:
        Pebble.running.discard(self)
        if any(raised) and self.is_locked_up:
            Pebble.lockups += 1
            self.process.kill()
        super().__exit__(*raised)

    def root_pem(self) -> str:
        """Return the root certificate that its chains end at, as PEM."""
        return self.management("/roots/0").decode()
