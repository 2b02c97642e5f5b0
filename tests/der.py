"""A small writer of DER and of signing requests, good and hostile."""

from __future__ import annotations

import base64
import functools
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
MICROSOFT_EXTENSION_REQUEST = "1.3.6.1.4.1.311.2.1.14"
VERISIGN_EXTENSION_REQUEST = "2.16.840.1.113733.1.9.8"
MICROSOFT_ENROLMENT_PAIR = "1.3.6.1.4.1.311.13.2.1"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"  # noqa: S105 - an object identifier
UNSTRUCTURED_NAME = "1.2.840.113549.1.9.2"

BASIC_CONSTRAINTS = "2.5.29.19"
KEY_USAGE = "2.5.29.15"
EXTENDED_KEY_USAGE = "2.5.29.37"
NAME_CONSTRAINTS = "2.5.29.30"
SUBJECT_ALT_NAME = "2.5.29.17"
SUBJECT_KEY_IDENTIFIER = "2.5.29.14"
TLS_FEATURE = "1.3.6.1.5.5.7.1.24"
ACME_IDENTIFIER = "1.3.6.1.5.5.7.1.31"

COMMON_NAME = "2.5.4.3"
ORGANIZATION = "2.5.4.10"

_SIGNATURES = {  # of ECDSA and of RSA, by hash
    "sha1": ("1.2.840.10045.4.1", "1.2.840.113549.1.1.5", hashes.SHA1),
    "sha256": ("1.2.840.10045.4.3.2", "1.2.840.113549.1.1.11", hashes.SHA256),
    "sha384": ("1.2.840.10045.4.3.3", "1.2.840.113549.1.1.12", hashes.SHA384),
    "sha512": ("1.2.840.10045.4.3.4", "1.2.840.113549.1.1.13", hashes.SHA512),
}


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def content(encoded: bytes) -> bytes:
    """Return what is within a value."""
    octets = encoded[1] & 0x7F if encoded[1] >= 0x80 else 0
    return encoded[2 + octets :]


sequence = functools.partial(tlv, 0x30)
set_of = functools.partial(tlv, 0x31)
octets = functools.partial(tlv, 0x04)
utf8: Callable[[bytes], bytes] = functools.partial(tlv, 0x0C)
NULL = tlv(0x05)
TRUE = tlv(0x01, b"\xff")
FALSE = tlv(0x01, b"\0")


def integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def bits(content: bytes) -> bytes:
    return tlv(0x03, b"\0" + content)


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return tlv(0x06, bytes(content))


def relative_name(kind: str, text: bytes, tag: int = 0x0C) -> bytes:
    return set_of(sequence(oid(kind), tlv(tag, text)))


def subject(*common_names: bytes) -> bytes:
    return sequence(*(relative_name(COMMON_NAME, name) for name in common_names))


def extension(kind: str, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(oid(kind), TRUE if critical else b"", octets(value))


def dns(name: bytes) -> bytes:
    return tlv(0x82, name)


def san(*general_names: bytes, critical: bool = False) -> bytes:
    return extension(SUBJECT_ALT_NAME, sequence(*general_names), critical=critical)


def dns_san(*names: bytes) -> bytes:
    return san(*map(dns, names))


def attribute(kind: str, *values: bytes) -> bytes:
    return sequence(oid(kind), set_of(*values))


def requested(*extensions: bytes) -> bytes:
    return attribute(EXTENSION_REQUEST, sequence(*extensions))


@functools.cache
def ec_key(curve: type[ec.EllipticCurve] = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


@functools.cache
def rsa_key(size: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(exponent, size)


def spki(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_spki(modulus: int, exponent: int = 65537) -> bytes:
    return sequence(
        sequence(oid("1.2.840.113549.1.1.1"), NULL), bits(sequence(integer(modulus), integer(exponent)))
    )


def pem(encoded: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    lines = "\n".join(textwrap.wrap(base64.b64encode(encoded).decode(), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()


@dataclass(frozen=True)
class Draft:
    """A signing request to be written, one for a.example.org unless told otherwise."""

    subject: bytes = sequence()
    extensions: tuple[bytes, ...] = (dns_san(b"a.example.org"),)
    attributes: tuple[bytes, ...] | None = None  # None: one that requests the extensions
    key: Key = field(default_factory=ec_key)
    spki: bytes | None = None  # None: the key's
    hash: str = "sha256"
    parameters: bytes | None = None  # of the signature algorithm; None: those that belong to it
    version: int = 0

    def signed(self, info: bytes) -> bytes:
        ecdsa, with_rsa, algorithm = _SIGNATURES[self.hash]
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(info, padding.PKCS1v15(), algorithm())
            parameters = NULL if self.parameters is None else self.parameters
            return sequence(info, sequence(oid(with_rsa), parameters), bits(signature))
        signature = self.key.sign(info, ec.ECDSA(algorithm()))
        return sequence(info, sequence(oid(ecdsa), self.parameters or b""), bits(signature))

    @property
    def info(self) -> bytes:
        attributes = self.attributes
        if attributes is None:
            attributes = (requested(*self.extensions),)
        return sequence(
            integer(self.version), self.subject, self.spki or spki(self.key), tlv(0xA0, *sorted(attributes))
        )

    @property
    def der(self) -> bytes:
        return self.signed(self.info)

    @property
    def pem(self) -> bytes:
        return pem(self.der)


def with_san(*general_names: bytes) -> Draft:
    return Draft(extensions=(san(*general_names),))


def with_names(*names: bytes) -> Draft:
    return with_san(*map(dns, names))


def with_extension(*extensions: bytes) -> Draft:
    return Draft(extensions=(dns_san(b"a.example.org"), *extensions))


def with_attribute(*attributes: bytes) -> Draft:
    return Draft(attributes=(requested(dns_san(b"a.example.org")), *attributes))
