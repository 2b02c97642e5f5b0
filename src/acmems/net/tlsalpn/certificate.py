"""Certificates that prove a name by tls-alpn-01, and how the CA names them (RFC 8737 section 3, RFC 8738)."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from acmems.x509.identifiers import Identifier, IdentifierType

PROTOCOL = "acme-tls/1"
ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
OCTET_STRING = b"\x04\x20"  # DER: an OCTET STRING of 32 octets
_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tls-alpn-01")])
_SLACK = datetime.timedelta(days=1)  # before, for clocks that differ
_LIFE = datetime.timedelta(days=7)  # longer than orders are pending, by any CA


def server_name(identifier: Identifier) -> str:
    """Return the SNI by which the CA asks for a name, an address by its reverse name (RFC 8738 section 6)."""
    if identifier.type is IdentifierType.IP:
        return ipaddress.ip_address(identifier.value).reverse_pointer
    return identifier.value.lower()


def challenge_certificate(
    identifier: Identifier, key_authorization: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> x509.Certificate:
    """Make the self-signed certificate that proves a name (RFC 8737 section 3).

    Args:
        identifier: the name; no wildcard.
        key_authorization: what is proved; its SHA-256 becomes acmeIdentifier.
        key: the certificate's own key.
        now: the wall clock (aware).
    """
    alternative: x509.GeneralName
    if identifier.type is IdentifierType.IP:
        alternative = x509.IPAddress(ipaddress.ip_address(identifier.value))
    else:
        alternative = x509.DNSName(identifier.value)
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    proof = x509.UnrecognizedExtension(ACME_IDENTIFIER, OCTET_STRING + digest)
    return (
        x509.CertificateBuilder()
        .subject_name(_SUBJECT)
        .issuer_name(_SUBJECT)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLACK)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(proof, critical=True)
        .sign(key, hashes.SHA256())
    )


def challenge_context(
    identifier: Identifier, key_authorization: str, now: datetime.datetime
) -> ssl.SSLContext:
    """Return what makes handshakes with the certificate for a name, which has a fresh key.

    Args:
        identifier: the name; no wildcard.
        key_authorization: what is proved.
        now: the wall clock (aware).
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = challenge_certificate(identifier, key_authorization, key, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0  # nothing follows a handshake
    context.set_alpn_protocols([PROTOCOL])
    _load(
        context,
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    # `ssl` reads certificates from files only: from one in memory, so that the key gets to no disk.
    number = os.memfd_create("tls-alpn-01", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")
