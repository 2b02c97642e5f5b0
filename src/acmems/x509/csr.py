"""Certificate signing requests (RFC 2986): from a stranger's bytes to one frozen, checked value.

Whatever asks, orders, finalizes or stores uses that value, so no two parts of the house can read one
request differently. To the same end, everything that other parsers might read otherwise is refused.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import ipaddress
import operator
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from acmems.exceptions import PayloadInvalid
from acmems.x509 import der, extensions, formats, keys, oids, pem, pkcs10, signatures
from acmems.x509.identifiers import Identifier, subject_alt_name_option

T = TypeVar("T")

_LABELS = ("CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
_SEND_ONE = "send a PEM certificate request, as `openssl req -new` makes it"
_MUST_STAPLE = bytes.fromhex("3003020105")  # status_request and no other TLS feature (RFC 7633 section 4.1)

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
_ORDER = operator.attrgetter("type", "value")  # that of identifiers themselves, found faster
_EXAMPLE = Identifier.dns("host.example.org")

_ROOM_BESIDE_NAMES = 16 * 1024  # bytes of DER for key, signature, subject and ordinary extensions
_ROOM_FOR_A_NAME = 256
_TEXT_TO_DER = 4  # how much larger a body may be than its DER: base64, and the text of `openssl req -text`


@dataclass(frozen=True, slots=True)
class Rules:
    """What operators can allow beyond the rules of public CAs.

    Args:
        must_staple: whether requests for a must-staple certificate are accepted (RFC 7633).
        extra_curves: elliptic curves besides P-256 and P-384, as `secp521r1`.
        max_names: how many different names one request can hold.
        subject_names_only: whether a subject that holds more than names is refused.
    """

    must_staple: bool = False
    extra_curves: frozenset[str] = frozenset()
    max_names: int = 100
    subject_names_only: bool = False


PUBLIC = Rules()
LENIENT = Rules(must_staple=True, extra_curves=frozenset(keys.EXTRA_CURVES), max_names=1000)
"""For requests that were accepted once, by whatever rules."""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """One well-formed, acceptable certificate signing request: make it with `parse`.

    Args:
        pem: the bytes that were sent, exactly.
        der: what they encode; what the CA gets.
        identifiers: every name asked for, the subject's common names included; sorted, each once.
        spki: the DER of the public key (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7).
        common_names_only: the names that a common name alone asks for, which some CAs do not read.
        must_staple: whether a must-staple certificate is asked for.
        content_digest: SHA-256 of what is signed, in hex: requests that are made alike have the same, though
            their signatures may differ.
        subject: what the subject holds beside common names: of each attribute the dotted identifier and the
            text.
        further_extensions: the dotted identifiers of the extensions asked for that a leaf does not need.

    Attributes:
        names: the texts of all identifiers.
        key_digest: SHA-256 of the public key, in hex.
        body_digest: SHA-384 of the bytes that were sent, in hex; the file storage's folders are named so.
    """

    pem: bytes = field(repr=False)
    der: bytes = field(repr=False)
    identifiers: tuple[Identifier, ...]
    spki: bytes = field(repr=False)
    common_names_only: frozenset[Identifier] = field(repr=False)
    must_staple: bool
    content_digest: str = field(repr=False, compare=False)
    subject: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False, compare=False)
    further_extensions: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    key_digest: str = field(init=False, repr=False, compare=False)
    body_digest: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once, because requests are kept and asked for these again and again.
        object.__setattr__(self, "names", tuple([identifier.value for identifier in self.identifiers]))
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
    return _checked(body, _unwrap(body, rules), rules)


def parse_der(encoded: bytes, rules: Rules = PUBLIC) -> CertificateRequest:
    """Read and check a certificate signing request that comes without PEM around it, as by ACME.

    Args:
        encoded: its DER.
        rules: what is allowed beyond the rules of public CAs.

    Raises:
        PayloadInvalid: as `parse`.
    """
    if len(encoded) > _room(rules):
        raise PayloadInvalid(f"{_too_large(rules)}: split the names over several requests")
    return _checked(pem.encoded(_LABELS[0], encoded), encoded, rules)


def _checked(body: bytes, encoded: bytes, rules: Rules) -> CertificateRequest:
    """Read a request from its DER; `body` is kept as what was sent."""
    request = pkcs10.read(encoded)
    requested = extensions.requested(request.attributes)
    key = _key(request.spki, rules)
    subject = _subject(request, rules)
    alternative, common = _names(request, requested.get(oids.SUBJECT_ALT_NAME), rules)
    must_staple = _must_staple(requested.get(oids.TLS_FEATURE), rules)
    signatures.check(request, key)
    return CertificateRequest(
        pem=body,
        der=encoded,
        identifiers=tuple(sorted(alternative | common, key=_ORDER)),
        spki=request.spki,
        common_names_only=frozenset(common - alternative),
        must_staple=must_staple,
        content_digest=hashlib.sha256(request.info).hexdigest(),
        subject=subject,
        further_extensions=extensions.beyond_leaf(requested),
    )


def _unwrap(body: bytes, rules: Rules) -> bytes:
    """Take the DER out of the PEM."""
    room, too_large = _room(rules), _too_large(rules)
    if len(body) > _TEXT_TO_DER * room:
        raise PayloadInvalid(f"{too_large}: send the request alone")
    text = pem.plain_text(body)
    if b"PRIVATE KEY-----" in text or b"PRIVATE KEY-----" in body:
        raise PayloadInvalid(
            "there is a private key in it: keep that secret, send the certificate request only"
        )
    try:
        block = pem.only_block(text)
    except ValueError as error:
        form = formats.recognise(text)
        fault = f"it is {form.name}; {form.remedy}" if form else str(error)
        raise PayloadInvalid(f"{_SEND_ONE}: {fault}") from None
    if formats.is_multipart(text):
        raise PayloadInvalid(f"{_SEND_ONE}: it is {formats.MULTIPART.name}; {formats.MULTIPART.remedy}")
    if block.label not in _LABELS:
        raise PayloadInvalid(f"{_SEND_ONE}, not a {block.label}")
    if len(block.der) > room:
        raise PayloadInvalid(f"{too_large}: split the names over several requests")
    return block.der


def _room(rules: Rules) -> int:
    """Return how many bytes of DER a request may have."""
    return _ROOM_BESIDE_NAMES + _ROOM_FOR_A_NAME * rules.max_names


def _too_large(rules: Rules) -> str:
    return f"the certificate request is larger than {rules.max_names} names can make it"


def _key(spki: bytes, rules: Rules) -> keys.PublicKey:
    try:
        key = keys.load(spki)
    except ValueError as error:
        raise PayloadInvalid(str(error)) from None
    weakness = keys.weakness(key, rules.extra_curves)
    if weakness is not None:
        raise PayloadInvalid(weakness)
    return key


def _subject(request: pkcs10.CertificationRequest, rules: Rules) -> frozenset[tuple[str, str]]:
    """Return what the subject holds beside common names, which count as names.

    Raises:
        PayloadInvalid: there is something, and the rules want names only.
    """
    further = [(kind, text) for kind, text in request.subject if kind != oids.COMMON_NAME]
    if further and rules.subject_names_only:
        raise PayloadInvalid(
            f"the subject holds {oids.display(further[0][0])}, and only names are certified here: make the "
            "request with -subj /"
        )
    return frozenset((der.dotted(kind), text) for kind, text in further)


def _names(
    request: pkcs10.CertificationRequest, extension: extensions.Extension | None, rules: Rules
) -> tuple[set[Identifier], set[Identifier]]:
    """Normalise the names of the subjectAltName, and the common names.

    Raises:
        PayloadInvalid: there are none, too many, or some that cannot be certified.
    """
    faults: list[str] = []
    entries = der.elements(extension.value.content) if extension else []
    if extension and not entries:
        faults.append("the subjectAltName is empty")
    alternative = _normal(entries, _identifier, faults, rules)
    # An empty common name names nothing; some tools write one beside a subjectAltName.
    common_name = functools.partial(_common_name, alternative=alternative)
    common = _normal(filter(None, request.common_names), common_name, faults, rules)
    names = alternative | common
    if len(names) > rules.max_names:
        raise _too_many(rules)
    if not names and not faults:
        faults.append("no names are requested: they belong in a subjectAltName")
    if faults:
        option = subject_alt_name_option(sorted(names, key=_ORDER) or [_EXAMPLE])
        raise PayloadInvalid(f"{faults[0]}; make the request with -subj / {option}")
    return alternative, common


def _normal(
    written: Iterable[T], reading: Callable[[T], Identifier], faults: list[str], rules: Rules
) -> set[Identifier]:
    """Return names in normal form; what is wrong with others is added to the faults."""
    found: set[Identifier] = set()
    for name in dict.fromkeys(written):
        try:
            found.add(reading(name))
        except ValueError as error:
            faults.append(str(error))
        if len(found) + len(faults) > rules.max_names:
            raise _too_many(rules)
    return found


def _too_many(rules: Rules) -> PayloadInvalid:
    return PayloadInvalid(
        f"more than {rules.max_names} names are requested: split them over several requests"
    )


def _identifier(name: der.Element) -> Identifier:
    """Read one GeneralName (RFC 5280 section 4.2.1.6)."""
    if name.tag == _DNS_NAME:
        return Identifier.dns(name.content.decode("latin-1"))  # other than ASCII is refused there
    if name.tag == _IP_ADDRESS and len(name.content) in (4, 16):
        return Identifier.ip(str(ipaddress.ip_address(name.content)))
    if name.tag == _IP_ADDRESS:
        raise ValueError("an IP address in the subjectAltName has neither 4 nor 16 bytes")
    kind = _NAME_KINDS.get(name.tag, "a name of an unknown kind")
    raise ValueError(f"the subjectAltName holds {kind}: only DNS names and IP addresses can be certified")


def _common_name(text: str, alternative: Container[Identifier]) -> Identifier:
    """Read a common name: a DNS name, or an address that the subjectAltName holds as well.

    Raises:
        ValueError: it is neither.
    """
    with contextlib.suppress(ValueError):
        address = Identifier.ip(text)
        if address in alternative:
            return address
    try:
        return Identifier.dns(text)
    except ValueError as error:
        raise ValueError(f"the CN counts as a name, and {error}: leave the CN out") from None


def _must_staple(extension: extensions.Extension | None, rules: Rules) -> bool:
    if extension is None:
        return False
    if not rules.must_staple or extension.value.encoded != _MUST_STAPLE:
        raise PayloadInvalid("must-staple is not accepted: remove tlsfeature (1.3.6.1.5.5.7.1.24)")
    return True
