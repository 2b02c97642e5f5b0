"""What holds for whatever is sent as a signing request."""

from __future__ import annotations

import ipaddress
import re
import warnings

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st
from tests import der
from tests.der import Draft

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr, formats
from acmems.x509.identifiers import Identifier

RULES = csr.Rules(must_staple=True, extra_curves=frozenset({"secp521r1"}))

RICH = Draft(
    der.subject(b"a.example.org"),
    attributes=(
        der.requested(
            der.san(der.dns(b"a.example.org"), der.dns(b"*.example.org"), der.tlv(0x87, b"\xc0\0\2\1")),
            der.extension(der.KEY_USAGE, b"\3\2\5\xa0", critical=True),
            der.extension(der.BASIC_CONSTRAINTS, der.sequence()),
            der.extension(der.TLS_FEATURE, der.sequence(der.integer(5))),
        ),
        der.attribute(der.CHALLENGE_PASSWORD, der.utf8(b"password")),
    ),
)
SEEDS = [RICH.der, Draft(key=der.rsa_key()).der]

LABEL = st.from_regex(r"[A-Za-z]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda label: not label.lower().startswith("xn--")
)
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
OIDS = [
    der.SUBJECT_ALT_NAME,
    der.KEY_USAGE,
    der.BASIC_CONSTRAINTS,
    der.TLS_FEATURE,
    der.SUBJECT_KEY_IDENTIFIER,
    der.NAME_CONSTRAINTS,
    "1.2.3.4",
]
# Values of DER of any shape.
VALUES = st.recursive(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 12, 19, 22, 0x82, 0x87, 0x86]), st.binary(max_size=6)).map(
        lambda parts: der.tlv(*parts)
    ),
    lambda inner: st.tuples(
        st.sampled_from([0x30, 0x31, 0xA0, 0xA4]), st.lists(inner, max_size=3).map(b"".join)
    ).map(lambda parts: der.tlv(*parts)),
    max_leaves=6,
)
EXTENSIONS = st.builds(der.extension, st.sampled_from(OIDS), VALUES, critical=st.booleans())


def check(body: bytes) -> csr.CertificateRequest | None:
    """Parse a body as the server would, and see that what comes out is one of two things."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            request = csr.parse(body, RULES)
        except PayloadInvalid as refusal:
            request, reason = None, str(refusal)
        else:
            reason = "accepted"
    assert not warned  # a warning would be a line on stderr that a stranger wrote
    assert reason
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) < 30_000  # with a hundred long names in an option of openssl
    if request is None:
        return None
    assert request.identifiers
    assert list(request.identifiers) == sorted(set(request.identifiers))
    assert len(request.identifiers) <= RULES.max_names
    return request


def names_by_cryptography(encoded: bytes) -> set[str] | None:
    """Return the names that cryptography reads in a request, None if its version reads no such request."""
    try:
        read = x509.load_der_x509_csr(encoded)
        found = {str(name.value) for name in read.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)}
        for extension in read.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                found |= {str(name.value) for name in extension.value}
    except Exception:  # noqa: BLE001 - its errors are of many classes
        return None
    return {name.lower() for name in found} - {""}


def mutated(encoded: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace some bytes, each change as position, how many, and by what."""
    data = bytearray(encoded)
    for position, length, replacement in changes:
        start = position % (len(data) + 1)
        data[start : start + length] = replacement
    return bytes(data)


CHANGES = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4
)


@pytest.mark.threat("csr", "a parser that fails")
@given(st.binary())
@example(b"")
def test_any_bytes(body: bytes) -> None:
    """Whatever the bytes, they are refused with a safe reason."""
    assert check(body) is None


@pytest.mark.threat("csr", "a wrong signature")
@given(st.sampled_from(SEEDS), CHANGES)
def test_mutated_der(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """A request with some bytes changed is refused: its signature covers all of them."""
    changed = mutated(seed, changes)
    if changed != seed and check(der.pem(changed)) is not None:
        # An ECDSA signature has a twin; nothing else may have changed.
        assert changed[:100] == seed[:100]


@given(st.sampled_from(SEEDS).map(der.pem), CHANGES)
def test_mutated_pem(seed: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """A text with some bytes changed is refused, or still holds the same request."""
    request = check(mutated(seed, changes))
    assert request is None or request.der in SEEDS


@given(CHANGES)
def test_mutated_and_signed(changes: list[tuple[int, int, bytes]]) -> None:
    """A request that was odd before it was signed is refused, or read, but breaks nothing."""
    check(der.pem(RICH.signed(mutated(RICH.info, changes))))


@pytest.mark.threat("csr", "a parser that fails")
@given(st.lists(EXTENSIONS, max_size=4), st.lists(VALUES, max_size=2))
def test_odd_extensions(extensions: list[bytes], attributes: list[bytes]) -> None:
    """Well-formed DER of any shape in extensions and attributes breaks nothing."""
    others = [der.attribute(f"1.2.3.{n}", value) for n, value in enumerate(attributes)]
    check(Draft(attributes=(der.requested(*extensions), *others)).pem)


@pytest.mark.threat("csr", "common names beside the SAN")
@given(st.lists(NAME, min_size=1, max_size=8), st.lists(NAME, max_size=2))
def test_names_round_trip(alternative: list[str], common: list[str]) -> None:
    """Exactly the names that were written are read, in normal form."""
    draft = Draft(
        der.subject(*(name.encode() for name in common)),
        extensions=(der.dns_san(*(name.encode() for name in alternative)),),
    )
    request = check(draft.pem)
    assert request is not None
    assert set(request.identifiers) == {Identifier.dns(name) for name in (*alternative, *common)}


SUBJECTS = st.lists(
    st.tuples(
        st.sampled_from([x509.NameOID.ORGANIZATION_NAME, x509.NameOID.LOCALITY_NAME]),
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    ),
    max_size=3,
).map(lambda parts: [x509.NameAttribute(kind, text) for kind, text in parts])
ADDRESSES = st.ip_addresses().filter(lambda address: not getattr(address, "ipv4_mapped", None))
USAGES = st.sampled_from(
    [
        None,
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.BasicConstraints(ca=False, path_length=None),
    ]
)


@given(
    st.lists(NAME, min_size=1, max_size=5),
    st.lists(ADDRESSES, max_size=2),
    st.lists(NAME, max_size=2),
    SUBJECTS,
    USAGES,
    st.booleans(),
    st.sampled_from([der.ec_key(), der.rsa_key()]),
)
def test_what_cryptography_writes(
    alternative: list[str],
    addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
    common: list[str],
    subject: list[x509.NameAttribute[str]],
    usage: x509.ExtensionType | None,
    critical: bool,
    key: der.Key,
) -> None:
    """A request that cryptography's builder writes is read with the names and the key that it was given."""
    commons = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in common]
    names = [*map(x509.DNSName, alternative), *map(x509.IPAddress, addresses)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([*subject, *commons]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    if usage is not None:
        builder = builder.add_extension(usage, critical=critical)
    written = builder.sign(key, hashes.SHA256())
    request = check(written.public_bytes(Encoding.PEM))
    assert request is not None
    assert set(request.identifiers) == {
        *map(Identifier.dns, (*alternative, *common)),
        *(Identifier.ip(str(address)) for address in addresses),
    }
    assert request.spki == key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert request.der == written.public_bytes(Encoding.DER)


@pytest.mark.threat("csr", "what parsers read differently")
@given(CHANGES)
def test_no_other_reading(changes: list[tuple[int, int, bytes]]) -> None:
    """What was odd before it was signed and is read has the names that cryptography reads, if it reads it."""
    request = check(der.pem(RICH.signed(mutated(RICH.info, changes))))
    if request is not None:
        assert names_by_cryptography(request.der) in (None, set(request.names))


TEXTS = st.binary(max_size=60).filter(lambda text: not re.search(rb"-----|\A(?:\xff\xfe|\xfe\xff)", text))


@given(TEXTS, TEXTS, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.text(" \t", max_size=3))
def test_text_around(before: bytes, after: bytes, end: bytes, indentation: str) -> None:
    """Whatever stands before and after the lines of a block, the same request is read."""
    block = der.pem(SEEDS[0]).replace(b"\n", end + indentation.encode())
    request = check(before + end + block + end + after)
    assert request is not None
    assert request.der == SEEDS[0]


@given(st.binary() | st.sampled_from(SEEDS).map(der.pem), CHANGES)
def test_recognition_breaks_on_nothing(body: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """A body whose HMAC is wrong is looked at, whatever it is, and what is said of it can be logged."""
    form = formats.recognise(mutated(body, changes))
    assert form is None or f"{form.name}{form.remedy}".isprintable()
