"""Validations inside against real servers: BIND for the DNS, nginx for HTTP, OpenSSL for tls-alpn-01."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.peers import free_port
from tests.peers.ca import make_tls_certificate
from tests.peers.dns import Bind
from tests.peers.process import Peer, program
from tests.peers.web import Nginx
from tests.strangers import HERE

from acmems.challenges.txt import txt_value
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.checks import challenge_checks
from acmems.frontends.acme.proving.http.url import HttpPorts
from acmems.frontends.acme.proving.options import ProvingOptions
from acmems.frontends.acme.proving.prover import Prover
from acmems.frontends.acme.proving.validation import Validation
from acmems.net.address import Address, parse_network
from acmems.net.tlsalpn.certificate import challenge_certificate
from acmems.x509.identifiers import named

SECONDS = 60.0
TOKEN = "t" * 43
KEY_AUTHORIZATION = f"{TOKEN}.{'k' * 43}"
VALUE = txt_value(KEY_AUTHORIZATION)
RECORDS = f"""
web A {HERE}
both AAAA ::ffff:127.0.0.9
both A {HERE}
alias CNAME web
moved CNAME web
leaves CNAME web.example.com.
self A 127.0.0.1
meta A 169.254.169.254
loop CNAME loop2
loop2 CNAME loop
_acme-challenge.web TXT "{VALUE}"
_acme-challenge.web TXT "another"
_acme-challenge.alias CNAME _acme-challenge.web
_acme-challenge.loop CNAME _acme-challenge.loop2
_acme-challenge.loop2 CNAME _acme-challenge.loop
_acme-challenge.wrong TXT "wrong"
_acme-challenge.huge TXT {" ".join(f'"{"x" * 200}"' for _ in range(100))}
"""
SITES = """
    server {{
        listen {here}:{port};
        server_name web.example.org both.example.org alias.example.org;
        location /.well-known/acme-challenge/ {{ return 200 "{answer}\n"; }}
    }}
    server {{
        listen {here}:{port} default_server;
        location / {{ return 301 https://$host$request_uri; }}
    }}
    server {{
        listen {here}:{tls_port} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{ return 302 http://web.example.org$request_uri; }}
    }}
"""


class Website(Nginx):
    """nginx as it answers challenges: at some names itself, at others by redirects to TLS and back."""

    def __init__(self) -> None:
        super().__init__(free_port(), sites="")
        self.tls_port = free_port()

    def prepare(self) -> None:
        """Write configuration."""
        make_tls_certificate(self.folder / "cert.pem", self.folder / "key.pem")
        self.sites = SITES.format(
            here=HERE, port=self.port, tls_port=self.tls_port, folder=self.folder, answer=KEY_AUTHORIZATION
        )
        super().prepare()

    def ready(self) -> bool:
        """Tell whether it takes connections."""
        socket.create_connection((HERE, self.port), timeout=5).close()
        return True


class OpenSslServer(Peer):
    """`openssl s_server` as it proves web.example.org by tls-alpn-01."""

    name = "openssl"

    def prepare(self) -> None:
        """Choose a port and write the certificate."""
        self.port = free_port()
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        certificate = challenge_certificate(named("web.example.org"), KEY_AUTHORIZATION, key, now)
        (self.folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (self.folder / "key.pem").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        accept = ("-accept", f"{HERE}:{self.port}", "-alpn", "acme-tls/1")
        return [program("openssl"), "s_server", "-quiet", *accept, "-cert", "cert.pem", "-key", "key.pem"]

    def ready(self) -> bool:
        """Tell whether it takes connections."""
        socket.create_connection((HERE, self.port), timeout=5).close()
        return True


@pytest.fixture(scope="module")
def prover() -> Iterator[Prover]:
    """A prover whose resolver is BIND, and that goes to where nginx and OpenSSL are on loopback."""
    with Bind("example.org", records=RECORDS) as bind, Website() as web, OpenSslServer() as openssl:
        options = ProvingOptions((Address("127.0.0.1", bind.port),), (parse_network(HERE),))
        checks = challenge_checks(
            options, lambda: (), http_ports=HttpPorts(web.port, web.tls_port), tls_port=openssl.port
        )
        prover = Prover(checks)
        yield prover
        prover.close()


PROVED = [
    ("http-01", "web.example.org"),
    ("http-01", "alias.example.org"),
    ("http-01", "moved.example.org"),
    ("http-01", "both.example.org"),
    ("dns-01", "web.example.org"),
    ("dns-01", "*.web.example.org"),
    ("dns-01", "alias.example.org"),
    ("tls-alpn-01", "web.example.org"),
]


def test_what_real_servers_present_is_found(prover: Prover) -> None:
    """By each type of challenge, through CNAMEs, redirects and TLS; all at once."""
    outcomes = {
        (kind, name): prover.prove(Validation(kind, named(name), TOKEN, KEY_AUTHORIZATION, "account"))
        for kind, name in PROVED
    }
    assert {key: failure(outcome) for key, outcome in outcomes.items()} == dict.fromkeys(PROVED)


REFUSED = {
    ("http-01", "self.example.org"): ("unauthorized", "loopback"),
    ("http-01", "meta.example.org"): ("unauthorized", "169.254.169.254"),
    ("http-01", "loop.example.org"): ("dns", "the DNS gives no usable answer"),
    ("http-01", "leaves.example.org"): ("dns", "leaves.example.org"),
    ("dns-01", "none.web.example.org"): ("dns", "no TXT records"),
    ("dns-01", "loop.example.org"): ("dns", "the DNS gives no usable answer"),
    ("dns-01", "wrong.example.org"): ("incorrectResponse", "none of the 1 TXT records"),
    ("dns-01", "huge.example.org"): ("incorrectResponse", "none of the 1 TXT records"),
    ("dns-01", "www.example.com"): ("dns", "no usable answer"),
    ("tls-alpn-01", "alias.example.org"): ("incorrectResponse", "another subjectAltName"),
    ("tls-alpn-01", HERE): ("incorrectResponse", "another subjectAltName"),
}


def test_what_real_servers_do_not_present_is_refused_with_what_was_seen(prover: Prover) -> None:
    """Circles of CNAMEs, zones of others, addresses that nobody proves names at."""
    outcomes = {
        (kind, name): prover.prove(Validation(kind, named(name), TOKEN, KEY_AUTHORIZATION, "account"))
        for kind, name in REFUSED
    }
    for key, (kind, words) in REFUSED.items():
        found = failure(outcomes[key])
        assert found is not None, key
        assert found[0] == kind, (key, found)
        assert words in found[1], (key, found)


def failure(outcome: Future[AcmeProblem | None]) -> tuple[str, str] | None:
    found = outcome.result(SECONDS)
    return None if found is None else (found.kind, found.reason)
