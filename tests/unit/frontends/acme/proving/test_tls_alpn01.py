"""What is accepted as proof by tls-alpn-01: one certificate, and nothing that only looks like it."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import socket
import ssl
from collections.abc import Callable, Sequence

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.strangers import HERE, Names, Stranger

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.connecting import Connector
from acmems.frontends.acme.proving.reach import Reach
from acmems.frontends.acme.proving.tls_alpn01 import TlsAlpn01Check, certificate_fault
from acmems.frontends.acme.proving.validation import Validation
from acmems.net.address import parse_network
from acmems.net.tlsalpn.certificate import (
    ACME_IDENTIFIER,
    challenge_certificate,
    challenge_context,
    server_name,
)
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier, named

KEY = ec.generate_private_key(ec.SECP256R1())
KEY_AUTHORIZATION = f"{'t' * 43}.{'k' * 43}"
DIGEST = hashlib.sha256(KEY_AUTHORIZATION.encode()).digest()
NAME = x509.DNSName("a.example.org")
NOW = datetime.datetime.now(datetime.UTC)


def certificate(names: Sequence[x509.GeneralName], value: bytes | None, *, critical: bool = True) -> bytes:
    subject = x509.Name([])
    builder = (
        x509.CertificateBuilder(subject, subject, KEY.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if value is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(ACME_IDENTIFIER, value), critical=critical)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.threat("proving inside", "certificates that are nearly right")
@pytest.mark.parametrize(
    ("der", "words"),
    [
        (certificate([], b"\x04\x20" + DIGEST), "no subjectAltName"),
        (certificate([NAME, NAME], b"\x04\x20" + DIGEST), "another subjectAltName"),
        (certificate([x509.DNSName("b.example.org")], b"\x04\x20" + DIGEST), "another subjectAltName"),
        (
            certificate([NAME, x509.RFC822Name("a@example.org")], b"\x04\x20" + DIGEST),
            "another subjectAltName",
        ),
        (certificate([x509.UniformResourceIdentifier("a.example.org")], b"\x04\x20" + DIGEST), "another"),
        (certificate([NAME], None), "no acmeIdentifier"),
        (certificate([NAME], b"\x04\x20" + DIGEST, critical=False), "not critical"),
        (certificate([NAME], b"\x04\x20" + bytes(32)), "another key authorization"),
        (certificate([NAME], DIGEST), "another key authorization"),
        (certificate([NAME], b"\x04\x20" + DIGEST + b"\x05\x00"), "another key authorization"),
        (b"", "cannot be read"),
        (certificate([NAME], b"\x04\x20" + DIGEST)[:-5], "cannot be read"),
    ],
    ids=itertools.count(),
)
def test_other_certificates_are_no_proof(der: bytes, words: str) -> None:
    """RFC 8737 section 3 says what must stand in it, and that nothing else may."""
    fault = certificate_fault(der, named("a.example.org"), KEY_AUTHORIZATION)
    assert fault is not None
    assert words in fault


@pytest.mark.parametrize(
    "identifier", [named("a.example.org"), Identifier.ip("192.0.2.1"), Identifier.ip("2001:db8::1")]
)
def test_the_certificate_for_the_challenge_is_proof(identifier: Identifier) -> None:
    """For a name as for an address."""
    made = challenge_certificate(identifier, KEY_AUTHORIZATION, KEY, NOW)
    der = made.public_bytes(serialization.Encoding.DER)
    assert certificate_fault(der, identifier, KEY_AUTHORIZATION) is None
    assert certificate_fault(der, named("b.example.org"), KEY_AUTHORIZATION) is not None


def handshakes(
    context: ssl.SSLContext, seen: list[str | None] | None = None
) -> Callable[[socket.socket], socket.socket]:
    if seen is not None:
        context.sni_callback = lambda _sock, name, _context: seen.append(name)
    return lambda sock: context.wrap_socket(sock, server_side=True)


@pytest.mark.parametrize("target", ["a.example.org", HERE])
def test_a_handshake_by_name_or_reverse_name_proves(target: str) -> None:
    """Addresses are asked for by their reverse name (RFC 8738 section 6)."""
    identifier, seen = named(target), list[str | None]()
    context = challenge_context(identifier, KEY_AUTHORIZATION, NOW)
    with Stranger(lambda *_: None, handshakes(context, seen)) as server:
        check = TlsAlpn01Check(Connector(Names(), Reach((parse_network(HERE),))), server.port)
        check.check(Validation("tls-alpn-01", identifier, "", KEY_AUTHORIZATION), SYSTEM.deadline(30))
    assert seen == [server_name(identifier)]


def without_alpn() -> ssl.SSLContext:
    context = challenge_context(named("a.example.org"), KEY_AUTHORIZATION, NOW)
    context.set_alpn_protocols([])
    return context


def silent(sock: socket.socket) -> socket.socket:
    sock.recv(65536)
    while sock.recv(65536):
        pass
    return sock


def no_tls(sock: socket.socket) -> socket.socket:
    sock.sendall(b"220 mail.example.org ESMTP\r\n")
    return sock


def cut_off(sock: socket.socket) -> socket.socket:
    sock.recv(65536)
    sock.close()
    return sock


def no_such_protocol(sock: socket.socket) -> socket.socket:
    """Refuse the protocol as RFC 7301 section 3.2 says, by an alert."""
    sock.recv(65536)
    sock.sendall(b"\x15\x03\x03\x00\x02\x02\x78")
    return sock


def other_name(sock: socket.socket) -> socket.socket:
    return handshakes(challenge_context(named("b.example.org"), KEY_AUTHORIZATION, NOW))(sock)


@pytest.mark.parametrize(
    ("secured", "kind", "words"),
    [
        (handshakes(without_alpn()), "tls", "does not choose the protocol acme-tls/1"),
        (no_such_protocol, "tls", "fails: tlsv1 alert no application protocol"),
        (silent, "connection", "takes too long"),
        (no_tls, "tls", "the handshake with a.example.org fails"),
        (cut_off, "tls", "the handshake with a.example.org fails"),
        (other_name, "incorrectResponse", "another subjectAltName"),
    ],
)
def test_a_server_that_does_something_else_proves_nothing(
    secured: Callable[[socket.socket], socket.socket], kind: str, words: str
) -> None:
    """And the client is told what was seen."""
    with Stranger(lambda *_: None, secured) as server:
        check = TlsAlpn01Check(Connector(Names(), Reach((parse_network(HERE),))), server.port)
        validation = Validation("tls-alpn-01", named("a.example.org"), "", KEY_AUTHORIZATION)
        with pytest.raises(AcmeProblem) as caught:
            check.check(validation, SYSTEM.deadline(2.0 if kind == "connection" else 30))
    assert caught.value.kind == kind
    assert words in caught.value.reason
