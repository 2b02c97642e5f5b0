"""Certificate signing requests (RFC 2986): from a stranger's bytes to one frozen, checked value.

Whatever asks, orders, finalizes or stores uses that value, so no two parts of the house can read one
request differently. To the same end, everything that other parsers might read otherwise is refused.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

from acmems.exceptions import PayloadInvalid
from acmems.x509 import der, keys, pem
from acmems.x509.identifiers import Identifier

_LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")

# Object identifiers as the contents octets of their DER.
_COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
_SUBJECT_ALT_NAME = bytes.fromhex("551d11")  # 2.5.29.17
_EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")  # 1.2.840.113549.1.9.14
_FOREIGN_EXTENSION_REQUESTS = (
    bytes.fromhex("2b06010401823702010e"),  # 1.3.6.1.4.1.311.2.1.14, Microsoft
    bytes.fromhex("6086480186f845010908"),  # 2.16.840.1.113733.1.9.8, VeriSign
)

_ACME_IDENTIFIER = ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 section 6.1
_KNOWN_EXTENSIONS = frozenset(
    {
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.TLS_FEATURE,
    }
)
_MUST_STAPLE = x509.TLSFeature([x509.TLSFeatureType.status_request])
_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

_STRING_CODECS = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "ascii",
    0x16: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_NAME_KINDS = {
    0xA0: "an otherName",
    0x81: "an e-mail address",
    0xA3: "an x400Address",
    0xA4: "a directoryName",
    0xA5: "an ediPartyName",
    0x86: "a URI",
    0x88: "a registeredID",
}

_reading = functools.partial(der.reading, refusal=PayloadInvalid)

_ROOM_BESIDE_NAMES = 16 * 1024  # bytes of DER for key, signature, subject and ordinary extensions
_ROOM_FOR_A_NAME = 256


@dataclass(frozen=True, slots=True)
class Rules:
    """What operators can allow beyond the rules of public CAs.

    Args:
        must_staple: whether requests for a must-staple certificate are accepted (RFC 7633).
        extra_curves: elliptic curves besides P-256 and P-384, as `secp521r1`.
        max_names: how many different names one request can hold.
    """

    must_staple: bool = False
    extra_curves: frozenset[str] = frozenset()
    max_names: int = 100


PUBLIC = Rules()


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """One well-formed, acceptable certificate signing request: make it with `parse`.

    Args:
        pem: the bytes that were sent, exactly.
        der: what they encode; what the CA gets.
        identifiers: every name asked for, the subject's common names included; sorted, each once.
        spki: the DER of the public key (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7).
        san: the DER of the subjectAltName's value, for a second reading; None if there is none.
        must_staple: whether a must-staple certificate is asked for.

    Attributes:
        names: the texts of all identifiers.
        key_digest: SHA-256 of the public key, in hex.
        body_digest: SHA-384 of the bytes that were sent, in hex; the file storage's folders are named so.
    """

    pem: bytes = field(repr=False)
    der: bytes = field(repr=False)
    identifiers: tuple[Identifier, ...]
    spki: bytes = field(repr=False)
    san: bytes | None = field(repr=False)
    must_staple: bool
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    key_digest: str = field(init=False, repr=False, compare=False)
    body_digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once, because requests are kept and asked for these again and again.
        object.__setattr__(self, "names", tuple(identifier.value for identifier in self.identifiers))
        object.__setattr__(self, "key_digest", hashlib.sha256(self.spki).hexdigest())
        object.__setattr__(self, "body_digest", hashlib.sha384(self.pem).hexdigest())


def parse(body: bytes, rules: Rules = PUBLIC) -> CertificateRequest:
    """Read and check a certificate signing request.

    Args:
        body: the bytes that a client sent.
        rules: what is allowed beyond the rules of public CAs.

    Raises:
        PayloadInvalid: it is not exactly one well-formed, acceptable request; the reason tells the
            client what to do and holds nothing that must not be logged.
    """
    encoded = _unwrap(body, rules)
    form = _Form.read(encoded)
    request = _load(encoded)
    spki = _check_key(request, form, rules)
    identifiers = _identifiers(form, rules)
    must_staple = _check_extensions(request, rules)
    _check_signature(request)
    return CertificateRequest(
        pem=body, der=encoded, identifiers=identifiers, spki=spki, san=form.san, must_staple=must_staple
    )


def _unwrap(body: bytes, rules: Rules) -> bytes:
    """Take the DER out of the PEM."""
    room = _ROOM_BESIDE_NAMES + _ROOM_FOR_A_NAME * rules.max_names
    if len(body) > 2 * room:
        raise PayloadInvalid(f"the certificate request is larger than {rules.max_names} names can make it")
    if b"PRIVATE KEY-----" in body:
        raise PayloadInvalid(
            "there is a private key in it: keep that secret, send the certificate request only"
        )
    try:
        [block] = pem.blocks(body, most=1)
    except ValueError as error:
        raise PayloadInvalid(f"send one PEM certificate request and nothing else: {error}") from None
    if block.label not in _LABELS:
        raise PayloadInvalid("send a PEM certificate request, as `openssl req -new` makes it")
    if len(block.der) > room:
        raise PayloadInvalid(f"the certificate request is larger than {rules.max_names} names can make it")
    return block.der


@dataclass(frozen=True, slots=True)
class _Form:
    """The parts of a request that the library does not hand out as they are encoded."""

    common_names: tuple[str, ...]
    spki: bytes
    san: bytes | None
    alternative_names: tuple[der.Element, ...]

    @classmethod
    def read(cls, encoded: bytes) -> _Form:
        with _reading("the certificate request"):
            der.check(encoded)
            info, _algorithm, _signature = der.elements(der.only(encoded, der.SEQUENCE))
            _version, subject, spki, attributes = der.elements(info.content)
        with _reading("the subject"):
            common_names = tuple(_common_names(subject))
        with _reading("the attributes"):
            san = _alternative_name(_requested_extensions(attributes))
        with _reading("the subjectAltName"):
            alternative_names = tuple(der.elements(der.only(san, der.SEQUENCE))) if san is not None else ()
        if san is not None and not alternative_names:
            raise PayloadInvalid("the subjectAltName is empty: name what is to be certified")
        return cls(common_names, spki.encoded, san, alternative_names)


def _common_names(subject: der.Element) -> Iterator[str]:
    for relative_name in der.elements(subject.content):
        for attribute in der.elements(relative_name.content):
            kind, value = der.elements(attribute.content)
            codec = _STRING_CODECS[value.tag]  # whatever it is: other parsers choke on what is no text
            if kind.content == _COMMON_NAME:
                yield value.content.decode(codec)


def _requested_extensions(attributes: der.Element) -> bytes:
    """Find the extensions that the attributes ask for (RFC 2985 section 5.4.2).

    Other ways to ask for them, or asking twice, would let a CA see names that we do not.
    """
    found = b""
    seen: set[bytes] = set()
    for attribute in der.elements(attributes.content):
        kind, values = der.elements(der.only(attribute.encoded, der.SEQUENCE))
        if kind.content in seen:
            raise PayloadInvalid("a request attribute is given twice")
        seen.add(kind.content)
        if kind.content == _EXTENSION_REQUEST:
            [value] = der.elements(der.only(values.encoded, der.SET))
            found = der.only(value.encoded, der.SEQUENCE)
        elif kind.content in _FOREIGN_EXTENSION_REQUESTS or _SUBJECT_ALT_NAME in values.content:
            raise PayloadInvalid(
                "extensions are requested in an attribute other than PKCS #9's extensionRequest"
            )
    return found


def _alternative_name(extensions: bytes) -> bytes | None:
    """Find the value of the subjectAltName, and see that every value is one piece of DER."""
    san: bytes | None = None
    seen: set[bytes] = set()
    for extension in der.elements(extensions):
        kind, *_critical, value = der.elements(der.only(extension.encoded, der.SEQUENCE))
        if kind.content in seen:
            raise PayloadInvalid("an extension is requested twice")
        seen.add(kind.content)
        content = der.only(value.encoded, der.OCTET_STRING)
        der.check(content)
        [_one] = der.elements(content)
        if kind.content == _SUBJECT_ALT_NAME:
            san = content
    return san


def _load(encoded: bytes) -> x509.CertificateSigningRequest:
    with _reading("the certificate request"):
        return x509.load_der_x509_csr(encoded)


def _check_key(request: x509.CertificateSigningRequest, form: _Form, rules: Rules) -> bytes:
    with _reading("the public key"):
        key = request.public_key()
        weakness = keys.weakness(key, rules.extra_curves)
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if weakness is not None:
        raise PayloadInvalid(weakness)
    if spki != form.spki:  # compressed points, keys bound to RSASSA-PSS
        raise PayloadInvalid(
            "the public key is encoded in an unusual way; make the request with openssl's defaults"
        )
    return spki


def _check_extensions(request: x509.CertificateSigningRequest, rules: Rules) -> bool:
    """Check everything asked for beside names; return whether must-staple is."""
    with _reading("a requested extension"):
        extensions = list(request.extensions)
    must_staple = False
    for extension in extensions:
        if extension.oid == _ACME_IDENTIFIER:
            raise PayloadInvalid("the acmeIdentifier extension belongs in tls-alpn-01 challenges only")
        if extension.critical and extension.oid not in _KNOWN_EXTENSIONS:
            raise PayloadInvalid(f"the critical extension {extension.oid.dotted_string} is not known here")
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise PayloadInvalid("certificates of CAs are not issued: remove CA:TRUE from basicConstraints")
        if isinstance(extension.value, x509.TLSFeature):
            if not rules.must_staple or extension.value != _MUST_STAPLE:
                raise PayloadInvalid("must-staple is not accepted: remove tlsfeature from the request")
            must_staple = True
    return must_staple


def _identifiers(form: _Form, rules: Rules) -> tuple[Identifier, ...]:
    """Normalise, fold and sort all names."""
    try:
        found = {Identifier.dns(name) for name in form.common_names}
        found.update(map(_identifier, form.alternative_names))
    except ValueError as error:
        raise PayloadInvalid(str(error)) from None
    if not found:
        raise PayloadInvalid("no names are requested: put them in a subjectAltName")
    if len(found) > rules.max_names:
        raise PayloadInvalid(
            f"more than {rules.max_names} names are requested: split them over several requests"
        )
    return tuple(sorted(found))


def _identifier(name: der.Element) -> Identifier:
    """Read one GeneralName (RFC 5280 section 4.2.1.6)."""
    if name.tag == _DNS_NAME:
        return Identifier.dns(name.content.decode("latin-1"))  # other than ASCII is refused there
    if name.tag == _IP_ADDRESS:
        if len(name.content) not in (4, 16):
            raise ValueError("an IP address in the subjectAltName has neither 4 nor 16 bytes")
        return Identifier.ip(str(ipaddress.ip_address(name.content)))
    kind = _NAME_KINDS.get(name.tag, "a name of an unknown kind")
    raise ValueError(f"the subjectAltName holds {kind}: only DNS names and IP addresses can be certified")


def _check_signature(request: x509.CertificateSigningRequest) -> None:
    """See that whoever asks has the private key: parsing alone does not check it."""
    with _reading("the signature"):
        algorithm = request.signature_hash_algorithm
        valid = isinstance(algorithm, _HASHES) and request.is_signature_valid
    if not isinstance(algorithm, _HASHES):
        raise PayloadInvalid(
            "the request is not signed with SHA-256, SHA-384 or SHA-512: make it with -sha256"
        )
    if not valid:
        raise PayloadInvalid("the signature of the certificate request is wrong: make the request again")
