"""A chain and its private key, checked, and the context that connections are encrypted by."""

from __future__ import annotations

import datetime
import os
import ssl
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from acmems.system.openssl import words_of

_PROTOCOL = "http/1.1"


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """A chain and its private key.

    Args:
        chain: leaf and intermediates, PEM, leaf first.
        key: the private key, PEM.
        not_before: since when the leaf is valid.
        not_after: until when the leaf is valid.
        fingerprint: the SHA-256 of the leaf, in hexadecimal digits.
        is_self_signed: whether no CA has issued the leaf.
    """

    chain: bytes = field(repr=False)
    key: bytes = field(repr=False)
    not_before: datetime.datetime
    not_after: datetime.datetime
    fingerprint: str
    is_self_signed: bool

    @classmethod
    def parse(cls, chain: bytes, key: bytes) -> TlsMaterial:
        """Read a chain and its key.

        Args:
            chain: PEM, leaf first.
            key: PEM, without a passphrase.

        Raises:
            ValueError: one of them cannot be read, or they do not belong together; the words quote neither.
        """
        try:
            certificates = x509.load_pem_x509_certificates(chain)
        except ValueError:
            raise ValueError("the certificate file holds no certificate in PEM") from None
        leaf = certificates[0]
        try:
            private = serialization.load_pem_private_key(key, None)
        except TypeError:
            raise ValueError("the key is encrypted: remove its passphrase with 'openssl pkey'") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("the key file holds no private key in PEM") from None
        if _spki(private.public_key()) != _spki(leaf.public_key()):
            raise ValueError("the key is not that of the first certificate: its chain must begin with it")
        return cls(
            chain,
            key,
            leaf.not_valid_before_utc,
            leaf.not_valid_after_utc,
            leaf.fingerprint(hashes.SHA256()).hex(),
            leaf.issuer == leaf.subject,
        )


def server_context(material: TlsMaterial, client_ca: bytes | None = None) -> ssl.SSLContext:
    """Return what the connections of a server are encrypted by: TLS 1.2 or newer, for HTTP/1.1.

    Where client certificates are asked for, nothing is resumed: each connection shows its certificate anew.

    Args:
        material: the server's certificate.
        client_ca: who signs client certificates, PEM; None: clients are not asked for any.

    Raises:
        ValueError: OpenSSL does not take one of them; the words quote neither.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols([_PROTOCOL])
    try:
        _load(context, material)
    except ssl.SSLError as error:
        raise ValueError(f"OpenSSL does not take the certificate: {words_of(error)}") from None
    context.num_tickets = 1
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=client_ca.decode("ascii"))
        except (ssl.SSLError, UnicodeDecodeError):
            raise ValueError("the file of client CAs holds no certificates in PEM") from None
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= (
            ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
        )  # an intermediate alone may be named
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, material: TlsMaterial) -> None:
    # `ssl` reads certificates from files only: from one in memory, so that the key gets to no disk.
    number = os.memfd_create("tls", os.MFD_CLOEXEC)
    with os.fdopen(number, "wb") as file:
        file.write(material.chain + b"\n" + material.key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{number}")


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
