"""The form of signing requests: PEM and DER that is read in one way only, or not at all."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests import der
from tests.der import Draft, with_attribute, with_extension, with_names

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr

GOOD = Draft()
GOOD_DER = GOOD.der
GOOD_PEM = der.pem(GOOD_DER)


def refusal(body: bytes, rules: csr.Rules = csr.PUBLIC) -> str:
    """Return the reason for which a body is refused."""
    with pytest.raises(PayloadInvalid) as caught:
        csr.parse(body, rules)
    return str(caught.value)


def one_long_line(body: bytes) -> bytes:
    """Write the base64 of a block on one line."""
    begin, *base64, end = body.splitlines()
    return b"\n".join((begin, b"".join(base64), end))


class TestPem:
    @pytest.mark.threat("csr", "anything but one PEM request")
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            pytest.param(b"", "it is empty", id="nothing"),
            pytest.param(b" \r\n", "it is empty", id="white space"),
            pytest.param(GOOD.der, "it is DER, not PEM", id="DER"),
            pytest.param(b"garbage", "no BEGIN line", id="anything"),
            pytest.param(GOOD.pem.rstrip() + b"bye", "END line must stand alone", id="text right after"),
            pytest.param(
                GOOD.pem.replace(b"\n-----END", b"-----END"), "END line must stand alone", id="END on a line"
            ),
            pytest.param(b"CSR: " + GOOD.pem, "BEGIN line must stand alone", id="text right before"),
            pytest.param(GOOD.pem + GOOD.pem, "more than 1 PEM block", id="two requests"),
            pytest.param(
                GOOD.pem + der.pem(b"0\0", "CERTIFICATE"), "more than 1 PEM block", id="certificate after"
            ),
            pytest.param(GOOD.pem + GOOD.pem.partition(b"\n")[2], "more than 1 PEM block", id="two ENDs"),
            pytest.param(
                b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + GOOD.pem,
                "more than 1 PEM block",
                id="parameters before",
            ),
            pytest.param(der.pem(GOOD.der, "CERTIFICATE"), "makes it, not a CERTIFICATE$", id="other label"),
            pytest.param(
                GOOD.pem.replace(b"BEGIN CERT", b"BEGIN NEW CERT"),
                "say the same as the BEGIN line",
                id="labels do not agree",
            ),
            pytest.param(
                GOOD.pem.replace(b"CERTIFICATE REQUEST", b"certificate request"), "malformed", id="lower case"
            ),
            pytest.param(GOOD.pem.partition(b"-----END")[0], "END line is missing", id="no END"),
            pytest.param(
                b"-----BEGIN CERTIFICATE REQUEST-----\n" * 1000, "END line is missing", id="1000 BEGINs"
            ),
            pytest.param(GOOD.pem.replace(b"\n", b""), "--data-binary", id="line ends lost"),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nM-"), "other than base64", id="URL-safe base64"),
            pytest.param(
                GOOD.pem.replace(b"\nMI", b"\nProc-Type: 4,ENCRYPTED\n\nMI"),
                "other than base64",
                id="headers",
            ),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nMI="), "base64 .* is broken", id="padding within"),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nMIA"), "base64 .* is broken", id="one character more"),
            pytest.param(
                b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
                "request cannot be read: it is empty",
                id="empty block",
            ),
            pytest.param(b"A" * 1_000_000, "larger than 100 names", id="a megabyte of letters"),
            pytest.param(b"\n" * 1_000_000, "larger than 100 names", id="a megabyte of lines"),
            pytest.param(der.pem(bytes(50_000)), "larger than 100 names", id="too much DER"),
        ],
    )
    def test_refused(self, body: bytes, reason: str) -> None:
        """A body holds one PEM certificate request, and nothing else that could be meant."""
        assert re.search(reason, refusal(body))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda body: body.replace(b"\n", b"\r\n"), id="CRLF"),
            pytest.param(lambda body: body.replace(b"\n", b"\r"), id="CR"),
            pytest.param(lambda body: b"\n \t\r\n" + body + b"\r\n\n  ", id="white space around"),
            pytest.param(bytes.strip, id="no line end at the end"),
            pytest.param(
                lambda body: body.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"), id="NEW label"
            ),
            pytest.param(lambda body: b"Certificate Request:\n    Data:\n" + body, id="text before"),
            pytest.param(lambda body: b"Generated\r\n" + body.replace(b"\n", b"\r\n"), id="text and CRLF"),
            pytest.param(lambda body: body + b"Fingerprint:\nc4:01 (sha1)\n", id="text after"),
            pytest.param(lambda body: body.rstrip() + b" \t\nbye", id="blanks and text after"),
            pytest.param(lambda body: "M\u00fcller\n".encode("latin-1") + body, id="text in Latin-1"),
            pytest.param(lambda body: b"\xef\xbb\xbf" + body, id="byte order mark"),
            pytest.param(lambda body: body + b"\0", id="NUL after"),
            pytest.param(lambda body: body.rstrip() + bytes(100), id="NULs right after"),
            pytest.param(lambda body: body.rstrip() + b"\0\r\n", id="NUL before the last line end"),
            pytest.param(lambda body: body.replace(b"\n", b"\n\n"), id="empty lines within"),
            pytest.param(lambda body: b"  " + body.replace(b"\n", b"\n\t "), id="indented"),
            pytest.param(lambda body: body.replace(b"\n", b" \t\n"), id="blanks at the ends of lines"),
            pytest.param(lambda body: body.replace(b"\nMI", b"\nMI "), id="blank in the base64"),
            pytest.param(one_long_line, id="one long line"),
            pytest.param(lambda body: body.decode().encode("utf-16"), id="UTF-16"),
            pytest.param(lambda body: body.decode().encode("utf-16-le"), id="UTF-16, no byte order mark"),
            pytest.param(
                lambda body: ("\ufeff" + body.decode()).encode("utf-16-be"), id="UTF-16, big end first"
            ),
            pytest.param(
                lambda body: ("M\u00fcller\r\n" + body.decode()).encode("utf-16") + b"\n",
                id="UTF-16 with text, and half a character",
            ),
        ],
    )
    def test_accepted(self, change: Callable[[bytes], bytes]) -> None:
        """What is around the one block, and where its lines end, makes no difference to what is finalized."""
        body = change(GOOD_PEM)
        assert body != GOOD_PEM
        request = csr.parse(body)
        assert request.der == GOOD_DER
        assert request.pem == body

    def test_bits_left_over(self) -> None:
        """Bits that the last character of base64 has too many are passed over, as base64 decoders do."""
        body = der.pem(next(encoded for encoded in iter(lambda: GOOD.der, b"") if len(encoded) % 3 == 1))
        last = body[body.index(b"==") - 1 :][:1]
        odd = body.replace(last + b"==", bytes([last[0] + 1]) + b"==")
        assert csr.parse(odd).der == csr.parse(body).der

    @pytest.mark.threat("csr", "anything but one PEM request")
    def test_private_key(self) -> None:
        """A private key in the body is refused with the advice to keep it secret, and is not repeated."""
        key = der.ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        reason = refusal(key + GOOD.pem)
        assert "keep that secret" in reason
        assert key.splitlines()[1].decode() not in reason

    def test_size_follows_the_names_allowed(self) -> None:
        """Where more names are allowed, requests can be larger."""
        names = [b"n%d." % n + b"x" * 60 + b".example.org" for n in range(1000)]
        body = with_names(*names).pem
        assert len(csr.parse(body, csr.Rules(max_names=1000)).names) == 1000
        assert "larger than 100 names" in refusal(body)


class TestForm:
    @pytest.mark.threat("csr", "what parsers read differently")
    @pytest.mark.parametrize(
        ("encoded", "reason"),
        [
            pytest.param(GOOD.der + b"\0", "request cannot be read: octets are missing", id="byte after it"),
            pytest.param(GOOD.der + der.NULL, "octets are left over after it", id="value after it"),
            pytest.param(GOOD.der[:-1], "octets are missing", id="byte missing"),
            pytest.param(b"0\0", "does not hold what is signed", id="empty"),
            pytest.param(b"\x30\x80" + der.content(GOOD.der) + b"\0\0", "indefinite", id="indefinite length"),
            pytest.param(
                b"\x30\x83" + len(der.content(GOOD_DER)).to_bytes(3) + der.content(GOOD_DER),
                "more octets than it needs",
                id="long length",
            ),
            pytest.param(der.sequence(GOOD.info[:-2]), "octets are missing", id="info cut short"),
            pytest.param(
                GOOD.signed(der.sequence(der.content(GOOD.info), der.NULL)),
                "does not hold version, subject, public key, and attributes",
                id="element in info",
            ),
            pytest.param(
                der.sequence(der.content(GOOD.der), der.NULL),
                "does not hold what is signed",
                id="fourth element",
            ),
            pytest.param(Draft(version=3).der, "its version is none of PKCS #10", id="version 4"),
            pytest.param(Draft(version=-1).der, "its version is none of PKCS #10", id="negative version"),
            pytest.param(
                Draft(version=256).der, "its version is none of PKCS #10", id="version of two octets"
            ),
            pytest.param(
                GOOD.signed(der.sequence(der.integer(0), der.subject(b"a.example.org"), der.spki(GOOD.key))),
                "its attributes are left out",
                id="no attributes at all",
            ),
            pytest.param(
                der.sequence(
                    GOOD.info, der.sequence(der.oid("1.2.840.10045.4.3.2")), der.tlv(3, b"\1" + bytes(70))
                ),
                "its signature is not whole octets",
                id="seven bits",
            ),
            pytest.param(
                Draft(der.sequence(der.sequence())).der,
                "the subject cannot be read",
                id="subject of sequences",
            ),
            pytest.param(
                Draft(der.sequence(der.set_of(der.sequence(der.oid(der.COMMON_NAME))))).der,
                "the subject cannot be read",
                id="attribute of the subject without value",
            ),
            pytest.param(
                Draft(der.sequence(der.set_of(der.sequence(der.NULL, der.NULL)))).der,
                "the subject cannot be read: it holds something else where an object identifier should be",
                id="attribute of the subject without type",
            ),
            pytest.param(
                Draft(
                    der.sequence(der.set_of(der.sequence(b"\6\4\x55\x80\4\3", der.utf8(b"b.example.org"))))
                ).der,
                "something else where an object identifier should be",
                id="CN by an object identifier with padding",
            ),
            pytest.param(
                with_attribute(der.attribute(der.CHALLENGE_PASSWORD, b"\x0c\x05abc")).der,
                "attribute 1.2.840.113549.1.9.7 cannot be read: octets are missing",
                id="attribute value cut short",
            ),
            pytest.param(
                with_attribute(der.attribute("1.2.3.4", der.sequence(b"\x0c\x05abc"))).der,
                "attribute 1.2.3.4 cannot be read: octets are missing",
                id="value within an attribute cut short",
            ),
            pytest.param(
                with_attribute(
                    der.sequence(der.oid(der.CHALLENGE_PASSWORD), der.set_of(der.utf8(b"s")), der.NULL)
                ).der,
                "the attributes cannot be read: an attribute in it is not a type",
                id="element after an attribute's values",
            ),
            pytest.param(
                with_attribute(der.sequence(der.oid(der.CHALLENGE_PASSWORD), der.utf8(b"s"))).der,
                "attribute 1.2.840.113549.1.9.7 cannot be read: it holds a value of another type",
                id="attribute whose values are no set",
            ),
        ],
    )
    def test_refused(self, encoded: bytes, reason: str) -> None:
        """Whatever another parser could read otherwise is refused, and the part named."""
        assert reason in refusal(der.pem(encoded))

    @pytest.mark.parametrize("version", [1, 2])
    def test_versions(self, version: int) -> None:
        """Versions 2 and 3, which PKCS #10 does not have, are what old libraries wrote."""
        assert csr.parse(Draft(version=version).pem).names == ("a.example.org",)

    @pytest.mark.parametrize("depth", [20, 5000])
    def test_deep_nesting(self, depth: int) -> None:
        """Values nested without end are refused, not followed, wherever they are."""
        nested = functools.reduce(lambda inner, _: der.sequence(inner), range(depth), b"")
        for body in (
            der.pem(nested),
            with_attribute(der.attribute("1.2.3.4", nested)).pem,
            with_extension(der.extension("1.2.3.4", nested)).pem,
            Draft(subject=der.sequence(der.set_of(der.sequence(der.oid("1.2.3.4"), nested)))).pem,
        ):
            assert "cannot be read" in refusal(body) or "larger than" in refusal(body)


class TestSubject:
    @pytest.mark.parametrize(
        ("tag", "value"),
        [
            pytest.param(0x13, b"A & B * C @ D", id="PrintableString with what it should not hold"),
            pytest.param(0x13, b"M\xfcller", id="PrintableString in Latin-1"),
            pytest.param(0x16, b"M\xfcller", id="IA5String in Latin-1"),
            pytest.param(0x14, b"M\xfcller", id="T61String"),
            pytest.param(0x12, b"12 34", id="NumericString"),
            pytest.param(0x1A, b"visible", id="VisibleString"),
            pytest.param(0x1C, "M\u00fcller".encode("utf-32-be"), id="UniversalString"),
            pytest.param(0x1E, "M\u00fcller".encode("utf-16-be"), id="BMPString"),
            pytest.param(0x0C, b"", id="empty"),
            pytest.param(0x03, b"\0\1", id="BIT STRING"),
            pytest.param(0x02, b"\1", id="INTEGER"),
            pytest.param(0x04, b"\1", id="OCTET STRING"),
            pytest.param(0x05, b"", id="NULL"),
            pytest.param(0x18, b"20000101000000Z", id="GeneralizedTime"),
            pytest.param(0x30, der.utf8(b"a street"), id="SEQUENCE, as of a postal address"),
        ],
    )
    def test_odd_values(self, tag: int, value: bytes) -> None:
        """What is in a subject beside common names changes no name: it may be anything in DER."""
        subject = der.sequence(der.relative_name(der.ORGANIZATION, value, tag))
        assert csr.parse(Draft(subject).pem).names == ("a.example.org",)

    @pytest.mark.parametrize(
        "relative_names",
        [
            pytest.param([der.relative_name(der.ORGANIZATION, b"O")] * 2, id="organization twice"),
            pytest.param([der.relative_name(der.COMMON_NAME, b"a.example.org")] * 2, id="CN twice"),
            pytest.param([der.set_of()], id="relative name without attributes"),
            pytest.param([der.relative_name(der.COMMON_NAME, b"")], id="empty CN"),
            pytest.param([der.relative_name(der.COMMON_NAME, b"", 0x1E)], id="empty CN in another type"),
            pytest.param(
                [
                    der.set_of(
                        der.sequence(der.oid("2.5.4.11"), der.utf8(b"Z")),
                        der.sequence(der.oid("2.5.4.10"), der.utf8(b"A")),
                    )
                ],
                id="set that is not sorted",
            ),
        ],
    )
    def test_odd_structure(self, relative_names: list[bytes]) -> None:
        """Names given twice, empty or unsorted are read in one way only."""
        assert csr.parse(Draft(der.sequence(*relative_names)).pem).names == ("a.example.org",)

    def test_names_only(self) -> None:
        """Where rules say so, more than names in a subject is refused, and named; names are not."""
        rules = csr.Rules(subject_names_only=True)
        organization = der.relative_name(der.ORGANIZATION, b"system:masters")
        for subject in (der.sequence(), der.subject(b"a.example.org", b"")):
            assert csr.parse(Draft(subject).pem, rules).names == ("a.example.org",)
        reason = refusal(Draft(der.sequence(organization)).pem, rules)
        assert "the subject holds 2.5.4.10 (organizationName)" in reason
        assert csr.parse(Draft(der.sequence(organization)).pem).names == ("a.example.org",)

    @pytest.mark.parametrize(
        ("tag", "value"),
        [
            pytest.param(0x0C, b"\xff", id="UTF8String that is none"),
            pytest.param(0x1E, b"\0a\0", id="BMPString cut short"),
            pytest.param(0x1C, b"\0\0\0a\0", id="UniversalString cut short"),
            pytest.param(0x30, b"\x0c\x05abc", id="SEQUENCE cut short"),
        ],
    )
    def test_broken_values(self, tag: int, value: bytes) -> None:
        """An attribute that nobody can read is refused, and named."""
        subject = der.sequence(der.relative_name(der.ORGANIZATION, value, tag))
        assert "the attribute 2.5.4.10 (organizationName) of the subject cannot be read" in refusal(
            Draft(subject).pem
        )

    @pytest.mark.parametrize("tag", [0x02, 0x03, 0x04, 0x05, 0x06, 0x1B, 0x30])
    def test_a_common_name_that_is_no_text(self, tag: int) -> None:
        """A common name counts as a name, so that it must be text."""
        subject = der.sequence(der.relative_name(der.COMMON_NAME, b"", tag))
        assert "2.5.4.3 (commonName) of the subject cannot be read" in refusal(Draft(subject).pem)
