"""A validator of tls-alpn-01 that listens, and clients that shake hands with it."""

from __future__ import annotations

import dataclasses
import hashlib
import socket
import ssl

import pytest
from cryptography import x509
from tests.listening import PATIENCE, Time

from acmems.challenges.contract import Proof
from acmems.challenges.tls_alpn01 import TlsAlpn01
from acmems.net.address import Address
from acmems.net.listening import Listener
from acmems.net.tlsalpn import ChallengeCertificates
from acmems.state.proofs import ProofLookups
from acmems.x509.identifiers import Identifier

LOOPBACK = Address("127.0.0.1", 0)
NAME = Identifier.dns("www.example.org")
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


@dataclasses.dataclass
class Door:
    """A validator that listens, and what its CA has asked for.

    Attributes:
        time: its clock, which stands still.
        requests: the tokens of the proofs that were seen.
        others: looks up what other nodes present.
    """

    time: Time = dataclasses.field(default_factory=Time)
    requests: list[str] = dataclasses.field(default_factory=list)
    others: ProofLookups = dataclasses.field(default_factory=ProofLookups)

    def __post_init__(self) -> None:
        self.validator = TlsAlpn01("tls", [LOOPBACK], ChallengeCertificates(self.time.clock), self.others)
        self.service = Listener.of(self.validator.plan(), self.time.clock).open()
        self.place = ("127.0.0.1", self.service.addresses[0].port)

    def proof(self, token: str, identifier: Identifier = NAME) -> Proof:
        return Proof(identifier, token, f"{token}.thumbprint", lambda: self.requests.append(token))

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(self.place, PATIENCE, (source, 0))

    def shake(
        self,
        name: str | None = NAME.value,
        *,
        alpn: tuple[str, ...] = ("acme-tls/1",),
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> x509.Certificate:
        """Return the certificate that a handshake shows; nothing but its regular end follows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = version
        if alpn:
            context.set_alpn_protocols(list(alpn))
        with self.connect() as sock, self._wrapped(context, sock, name) as tls:
            assert tls.selected_alpn_protocol() == "acme-tls/1"
            assert tls.version() == version.name.replace("v1_", "v1.")
            shown = tls.getpeercert(binary_form=True)
            assert tls.recv(1) == b""
            assert tls.session is None or not tls.session.has_ticket
        assert shown
        return x509.load_der_x509_certificate(shown)

    @staticmethod
    def _wrapped(context: ssl.SSLContext, sock: socket.socket, name: str | None) -> ssl.SSLSocket:
        # An end without close_notify is an error then.
        return context.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)

    @property
    def open(self) -> int:
        return len(self.service.connections)


def hello() -> bytes:
    """Return the beginning of a handshake for a name that is proved, of which nothing follows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which reads no file, unlike a default one
    context.set_alpn_protocols(["acme-tls/1"])
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME.value)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def digest_in(certificate: x509.Certificate) -> bytes:
    found = certificate.extensions.get_extension_for_oid(ACME_IDENTIFIER)
    assert found.critical
    assert isinstance(found.value, x509.UnrecognizedExtension)
    return found.value.value


def digest_of(token: str) -> bytes:
    return b"\4\x20" + hashlib.sha256(f"{token}.thumbprint".encode()).digest()
