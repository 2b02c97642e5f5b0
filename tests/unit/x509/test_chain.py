"""Certificate chains: reading, verifying, and when they are to be replaced."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import ipaddress
import itertools
import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests import der

from acmems.exceptions import CertificateUnusable
from acmems.x509 import chain, csr
from acmems.x509.chain import Chain
from acmems.x509.identifiers import Identifier

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
DAY = timedelta(days=1)
KEY = der.ec_key()
CA_KEY, ROOT_KEY, STRANGER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
REQUEST = csr.parse(der.with_names(b"a.example.org", b"*.example.org").pem)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    sans: list[x509.GeneralName] | None = None,
    *,
    lifetime: timedelta = 90 * DAY,
    starts: datetime.datetime = NOW - timedelta(hours=1),
) -> bytes:
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), 0x1234)
        .not_valid_before(starts)
        .not_valid_after(starts + lifetime)
    )
    if sans is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def leaf(
    names: tuple[str, ...] = ("*.example.org", "A.example.org"),
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    issuer_key: ec.EllipticCurvePrivateKey = CA_KEY,
    lifetime: timedelta = 90 * DAY,
    starts: datetime.datetime = NOW - timedelta(hours=1),
) -> bytes:
    sans: list[x509.GeneralName] = [x509.DNSName(text) for text in names]
    return certificate("", "CA", key, issuer_key, sans, lifetime=lifetime, starts=starts)


LEAF = leaf()
INTERMEDIATE = certificate("CA", "Root", CA_KEY, ROOT_KEY)
ROOT = certificate("Root", "Root", ROOT_KEY, ROOT_KEY)
CROSS = certificate("Root", "Stranger", ROOT_KEY, STRANGER_KEY)
OTHER = certificate("Stranger", "Stranger", STRANGER_KEY, STRANGER_KEY)


def unusable(pem: bytes) -> str:
    """Return the reason for which a chain is not what `REQUEST` asked for."""
    with pytest.raises(CertificateUnusable) as caught:
        chain.read_issued(pem, REQUEST)
    return str(caught.value)


class TestParse:
    def test_values(self) -> None:
        """A chain tells whose key and which names its leaf has, from when to when, and by whom."""
        parsed = chain.parse(LEAF + INTERMEDIATE)
        assert parsed == Chain(
            pem=LEAF + INTERMEDIATE,
            spki=REQUEST.spki,
            identifiers=REQUEST.identifiers,
            not_before=NOW - timedelta(hours=1),
            not_after=NOW - timedelta(hours=1) + 90 * DAY,
            serial=0x1234,
            issuer="CN=CA",
            fingerprint=hashlib.sha256(ssl.PEM_cert_to_DER_cert(LEAF.decode())).hexdigest(),
        )

    @pytest.mark.parametrize(
        "text",
        [
            b"\n" + LEAF + b"\n\n" + INTERMEDIATE + b"\n ",
            (LEAF + INTERMEDIATE).replace(b"\n", b"\r\n"),
            (LEAF + INTERMEDIATE).rstrip(),
        ],
        ids=["empty lines", "CRLF", "no line end"],
    )
    def test_normal_form(self, text: bytes) -> None:
        """However a CA spaces its PEM, a chain is kept in one form."""
        assert chain.parse(text).pem == LEAF + INTERMEDIATE

    def test_ip_addresses(self) -> None:
        """IP addresses in the leaf are identifiers."""
        sans: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address("2001:db8::1"))]
        [identifier] = chain.parse(certificate("", "CA", KEY, CA_KEY, sans)).identifiers
        assert (identifier.type, identifier.value) == ("ip", "2001:db8::1")

    def test_issuer_is_one_printable_line(self) -> None:
        """An issuer's name cannot break the lines of a log."""
        parsed = chain.parse(certificate("", "a\r\nb\x1b", KEY, CA_KEY, [x509.DNSName("a.example")]))
        assert parsed.issuer.isprintable()

    def test_is_kept(self) -> None:
        """Reading the same bytes again costs nothing."""
        assert chain.parse(bytes(LEAF)) is chain.parse(bytes(bytearray(LEAF)))

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            pytest.param(b"", "it is empty", id="nothing"),
            pytest.param(b"leaf:\n" + LEAF, "text around", id="text before"),
            pytest.param(LEAF + b"issuer:\n" + INTERMEDIATE, "text around", id="text between"),
            pytest.param(LEAF + INTERMEDIATE[:-40], "malformed|missing", id="truncated"),
            pytest.param(LEAF + der.pem(b"0\0", "PRIVATE KEY"), "other than certificates", id="key within"),
            pytest.param(der.pem(b"0\0", "CERTIFICATE"), "cannot be read|error", id="no certificate"),
            pytest.param(LEAF * 17, "more than 16", id="17 certificates"),
            pytest.param(b"\n" * 300_000, "too long", id="300 kB"),
            pytest.param(INTERMEDIATE, "cannot be read", id="no subjectAltName"),
            pytest.param(
                certificate("", "CA", KEY, CA_KEY, [x509.RFC822Name("a@example.org")]),
                "something other than DNS names",
                id="e-mail address",
            ),
            pytest.param(leaf(("a_b.example.org",)), "letters, digits", id="underscore"),
        ],
    )
    def test_refused(self, text: bytes, reason: str) -> None:
        """What is not certificates and nothing else, for names as we ask for them, is no chain."""
        with pytest.raises(ValueError, match=reason):
            chain.parse(text)


class TestReadIssued:
    @pytest.mark.parametrize(
        "text",
        [LEAF, LEAF + INTERMEDIATE, LEAF + INTERMEDIATE + ROOT],
        ids=["leaf alone", "as CAs send it", "root included"],
    )
    def test_good(self, text: bytes) -> None:
        """A chain for the key and the names of the request is fine, with or without the root."""
        assert chain.read_issued(text, REQUEST) == chain.parse(text)

    @pytest.mark.threat("ca", "another certificate")
    def test_other_key(self) -> None:
        """A certificate for another public key is refused."""
        assert "another public key" in unusable(leaf(key=STRANGER_KEY) + INTERMEDIATE)

    @pytest.mark.threat("ca", "another certificate")
    @pytest.mark.parametrize(
        "names",
        [
            ("a.example.org",),
            ("*.example.org", "b.example.org"),
            tuple(f"{n}.example.org" for n in range(7)),
        ],
        ids=["one missing", "another", "many"],
    )
    def test_other_names(self, names: tuple[str, ...]) -> None:
        """A certificate for fewer or other names than asked for is refused."""
        assert "other names" in unusable(leaf(names) + INTERMEDIATE)

    @pytest.mark.threat("ca", "another certificate")
    def test_added_name(self) -> None:
        """A name that the CA adds is refused for long unless the block grants it."""
        pem = leaf(("*.example.org", "a.example.org", "www.a.example.org"))
        added = Identifier.dns("www.a.example.org")
        with pytest.raises(CertificateUnusable, match=r"the CA added www\.a\.example\.org,") as caught:
            chain.read_issued(pem, REQUEST, grants=lambda name: name != added)
        assert caught.value.retry_after == chain.LONG_PAUSE
        read = chain.read_issued(pem, REQUEST, grants=lambda name: name == added)
        assert added in read.identifiers
        assert chain.matches(read, REQUEST)

    def test_reason_lists_few_names(self) -> None:
        """A reason names what the certificate is for, but not without end."""
        reason = unusable(leaf(tuple(f"{n}.example.org" for n in range(7))))
        assert reason.endswith(
            "0.example.org, 1.example.org, 2.example.org, 3.example.org, 4.example.org, ..."
        )

    @pytest.mark.threat("ca", "a wrong clock")
    @pytest.mark.parametrize("days", [-900, 900], ids=["expired", "not valid yet"])
    def test_dates_are_not_looked_at(self, days: int) -> None:
        """A certificate that fails by its dates alone is what was asked for; `is_valid` tells."""
        read = chain.read_issued(leaf(starts=NOW + days * DAY), REQUEST)
        assert not read.is_valid(NOW)
        assert read.has_expired(NOW) == (days < 0)

    @pytest.mark.parametrize("order", list(itertools.permutations([LEAF, INTERMEDIATE, ROOT])), ids=range(6))
    @pytest.mark.parametrize(
        "again", [b"", LEAF, INTERMEDIATE, ROOT], ids=["none", "leaf", "intermediate", "root"]
    )
    def test_any_order_and_any_certificate_twice(self, order: tuple[bytes, ...], again: bytes) -> None:
        """What a CA sends in any order, or twice, is one chain: leaf first, each certified by the next."""
        issued = chain.read_issued(b"".join(order) + again, REQUEST)
        assert issued.pem == LEAF + INTERMEDIATE + ROOT

    def test_another_certificate_of_an_issuer_in_the_chain(self) -> None:
        """A second certificate of the root, signed by another CA, leads elsewhere and is left out."""
        issued = chain.read_issued(LEAF + INTERMEDIATE + ROOT + CROSS, REQUEST)
        assert issued.pem == LEAF + INTERMEDIATE + ROOT

    @pytest.mark.threat("ca", "another certificate")
    @pytest.mark.parametrize(
        "text",
        [
            leaf(issuer_key=STRANGER_KEY) + INTERMEDIATE,
            LEAF + ROOT,
            LEAF + INTERMEDIATE + OTHER,
        ],
        ids=["forged signature", "one missing", "a stranger"],
    )
    def test_broken_chain(self, text: bytes) -> None:
        """A chain in which a certificate was not issued by the next is refused."""
        assert "broken chain" in unusable(text)


class TestMatches:
    def test_key_and_names(self) -> None:
        """A chain matches a request of the same key and exactly the same names, whatever the time."""
        assert chain.matches(chain.parse(leaf(starts=NOW - 900 * DAY)), REQUEST)

    @pytest.mark.parametrize(
        "text", [leaf(key=STRANGER_KEY), leaf(("a.example.org",))], ids=["other key", "fewer names"]
    )
    def test_others(self, text: bytes) -> None:
        """A chain of another key or of other names does not match."""
        assert not chain.matches(chain.parse(text), REQUEST)


def lasting(lifetime: timedelta) -> Chain:
    """Return a chain that became valid just now."""
    return dataclasses.replace(chain.parse(LEAF), not_before=NOW, not_after=NOW + lifetime)


class TestRenewal:
    @pytest.mark.parametrize(
        ("lifetime", "renew_within", "left"),
        [
            pytest.param(90 * DAY, None, 30 * DAY, id="a third"),
            pytest.param(10 * DAY, None, 10 * DAY / 3, id="a third of ten days"),
            pytest.param(9 * DAY, None, 4.5 * DAY, id="half of less than ten days"),
            pytest.param(6 * DAY, None, 3 * DAY, id="half of six days"),
            pytest.param(90 * DAY, 14 * DAY, 14 * DAY, id="as configured"),
            pytest.param(90 * DAY, 30 * DAY, 30 * DAY, id="as configured, just the share"),
            pytest.param(90 * DAY, 31 * DAY, 30 * DAY, id="no more than a third"),
            pytest.param(6 * DAY, 14 * DAY, 3 * DAY, id="no more than half of a short one"),
            pytest.param(90 * DAY, 0 * DAY, 0 * DAY, id="only at its end"),
        ],
    )
    def test_time(self, lifetime: timedelta, renew_within: timedelta | None, left: timedelta) -> None:
        """A chain is replaced when its share of the lifetime is left, or later if configured so."""
        assert lasting(lifetime).renewal_time(renew_within) == NOW + lifetime - left

    def test_fresh_until_renewal(self) -> None:
        """A chain is fresh up to its renewal, and valid up to its end."""
        parsed = lasting(90 * DAY)
        renewal = parsed.renewal_time(None)
        second = timedelta(seconds=1)
        assert parsed.is_fresh(NOW, None)
        assert parsed.is_fresh(renewal - second, None)
        assert not parsed.is_fresh(renewal, None)
        assert parsed.is_valid(renewal)
        assert parsed.is_valid(parsed.not_after)
        assert not parsed.is_valid(parsed.not_after + second)

    def test_clock_skew(self) -> None:
        """A chain from a CA whose clock is a little ahead is fresh at once, one from the future is not."""
        parsed = lasting(90 * DAY)
        assert parsed.is_fresh(NOW - timedelta(minutes=9), None)
        assert not parsed.is_fresh(NOW - timedelta(minutes=11), None)
        assert not parsed.is_valid(NOW - timedelta(minutes=11))
