"""The form of signing requests: PEM and DER that is read in one way only, or not at all."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests import der
from tests.der import Draft, with_attribute, with_extension, with_names

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr

GOOD = Draft()
SAN = der.dns_san(b"a.example.org")


def refusal(body: bytes, rules: csr.Rules = csr.PUBLIC) -> str:
    """Return the reason for which a body is refused."""
    with pytest.raises(PayloadInvalid) as caught:
        csr.parse(body, rules)
    return str(caught.value)


class TestPem:
    @pytest.mark.threat("csr", "anything but one PEM request")
    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            pytest.param(b"", "it is empty", id="nothing"),
            pytest.param(b" \r\n", "it is empty", id="white space"),
            pytest.param(GOOD.der, "not PEM", id="DER"),
            pytest.param(GOOD.pem.decode().encode("utf-16"), "not PEM", id="UTF-16"),
            pytest.param(b"\xef\xbb\xbf" + GOOD.pem, "not PEM", id="byte order mark"),
            pytest.param(b"Certificate Request:\n" + GOOD.pem, "text around", id="text before"),
            pytest.param(GOOD.pem + b"bye", "more than 1 PEM block", id="text after"),
            pytest.param(GOOD.pem.rstrip() + b"bye", "malformed", id="text right after"),
            pytest.param(GOOD.pem + b"\0", "more than 1 PEM block", id="NUL after"),
            pytest.param(GOOD.pem + GOOD.pem, "more than 1 PEM block", id="two requests"),
            pytest.param(
                GOOD.pem + der.pem(b"0\0", "CERTIFICATE"), "more than 1 PEM block", id="certificate after"
            ),
            pytest.param(
                der.pem(GOOD.der, "CERTIFICATE"), "send a PEM certificate request", id="other label"
            ),
            pytest.param(
                GOOD.pem.replace(b"BEGIN CERT", b"BEGIN NEW CERT"), "malformed", id="labels do not agree"
            ),
            pytest.param(
                GOOD.pem.replace(b"CERTIFICATE REQUEST", b"certificate request"), "malformed", id="lower case"
            ),
            pytest.param(GOOD.pem.partition(b"-----END")[0], "END line is missing", id="no END"),
            pytest.param(
                b"-----BEGIN CERTIFICATE REQUEST-----\n" * 1000, "END line is missing", id="1000 BEGINs"
            ),
            pytest.param(GOOD.pem.replace(b"\n", b""), "--data-binary", id="line ends lost"),
            pytest.param(GOOD.pem.replace(b"\n", b"\n\n"), "malformed", id="empty lines within"),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nMI "), "malformed", id="blank in the base64"),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nM-"), "malformed", id="URL-safe base64"),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nMI="), "base64 .* is broken", id="padding within"),
            pytest.param(GOOD.pem.replace(b"\nMI", b"\nMIA"), "base64 .* is broken", id="one character more"),
            pytest.param(
                b"-----BEGIN CERTIFICATE REQUEST-----\nMB==\n-----END CERTIFICATE REQUEST-----\n",
                "base64 .* is broken",
                id="bits left over",
            ),
            pytest.param(
                b"-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n",
                "malformed",
                id="empty block",
            ),
            pytest.param(b"A" * 1_000_000, "larger than 100 names", id="a megabyte of letters"),
            pytest.param(b"\n" * 1_000_000, "larger than 100 names", id="a megabyte of lines"),
            pytest.param(der.pem(bytes(50_000)), "larger than 100 names", id="too much DER"),
        ],
    )
    def test_refused(self, body: bytes, reason: str) -> None:
        """A body is one PEM certificate request and nothing else."""
        assert re.search(reason, refusal(body))

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
            pytest.param(GOOD.der + b"\0", "request cannot be read", id="byte after the request"),
            pytest.param(GOOD.der[:-1], "request cannot be read", id="byte missing"),
            pytest.param(b"0\0", "request cannot be read", id="empty"),
            pytest.param(
                b"\x30\x80" + GOOD.der[4:] + b"\0\0", "request cannot be read", id="indefinite length"
            ),
            pytest.param(
                b"\x30\x83\0" + GOOD.der[2:4] + GOOD.der[4:], "request cannot be read", id="length too long"
            ),
            pytest.param(GOOD.signed(GOOD.info[:-2]), "request cannot be read", id="info cut short"),
            pytest.param(
                GOOD.signed(der.sequence(GOOD.info[3:], der.NULL)),
                "request cannot be read",
                id="element in info",
            ),
            pytest.param(der.sequence(GOOD.der[4:], der.NULL), "request cannot be read", id="fourth element"),
            pytest.param(Draft(version=2).der, "request cannot be read", id="version"),
            pytest.param(
                with_extension(SAN).der, "an extension is requested twice", id="subjectAltName twice"
            ),
            pytest.param(
                Draft(extensions=(SAN, der.dns_san(b"evil.example"))).der,
                "an extension is requested twice",
                id="another subjectAltName",
            ),
            pytest.param(
                with_extension(*[der.extension(der.KEY_USAGE, b"\3\2\5\xa0")] * 2).der,
                "an extension is requested twice",
                id="keyUsage twice",
            ),
            pytest.param(
                with_attribute(der.requested(der.dns_san(b"evil.example"))).der,
                "attribute is given twice",
                id="extensionRequest twice",
            ),
            pytest.param(
                with_attribute(*[der.attribute(der.CHALLENGE_PASSWORD, der.utf8(b"s"))] * 2).der,
                "attribute is given twice",
                id="challengePassword twice",
            ),
            pytest.param(
                Draft(
                    attributes=(
                        der.attribute(
                            der.EXTENSION_REQUEST,
                            der.sequence(SAN),
                            der.sequence(der.dns_san(b"evil.example")),
                        ),
                    )
                ).der,
                "attributes cannot be read",
                id="extensionRequest with two values",
            ),
            pytest.param(
                Draft(attributes=(der.attribute(der.EXTENSION_REQUEST),)).der,
                "attributes cannot be read",
                id="extensionRequest without value",
            ),
            pytest.param(
                with_attribute(
                    der.attribute(der.MICROSOFT_EXTENSION_REQUEST, der.sequence(der.dns_san(b"evil.example")))
                ).der,
                "other than PKCS #9's extensionRequest",
                id="Microsoft's extension request",
            ),
            pytest.param(
                Draft(attributes=(der.attribute(der.MICROSOFT_EXTENSION_REQUEST, der.sequence(SAN)),)).der,
                "other than PKCS #9's extensionRequest",
                id="Microsoft's extension request alone",
            ),
            pytest.param(
                with_attribute(der.attribute(der.VERISIGN_EXTENSION_REQUEST, der.sequence())).der,
                "other than PKCS #9's extensionRequest",
                id="VeriSign's extension request",
            ),
            pytest.param(
                with_attribute(der.attribute("1.2.3.4", der.sequence(der.dns_san(b"evil.example")))).der,
                "other than PKCS #9's extensionRequest",
                id="extensions in an attribute that nobody knows",
            ),
            pytest.param(
                with_attribute(der.attribute(der.CHALLENGE_PASSWORD, b"\x0c\x05abc")).der,
                "request cannot be read",
                id="attribute value cut short",
            ),
            pytest.param(
                with_attribute(
                    der.sequence(der.oid(der.CHALLENGE_PASSWORD), der.set_of(der.utf8(b"s")), der.NULL)
                ).der,
                "attributes cannot be read",
                id="element after an attribute's values",
            ),
            pytest.param(
                Draft(
                    extensions=(
                        der.extension(
                            der.SUBJECT_ALT_NAME, der.sequence(der.dns(b"a.example.org")) + b"\5\0"
                        ),
                    )
                ).der,
                "attributes cannot be read",
                id="bytes after the subjectAltName",
            ),
            pytest.param(
                with_extension(der.extension("1.2.3.4", der.NULL + der.NULL)).der,
                "attributes cannot be read",
                id="bytes after an unknown extension's value",
            ),
            pytest.param(
                with_extension(der.extension("1.2.3.4", b"")).der,
                "attributes cannot be read",
                id="empty value",
            ),
            pytest.param(
                with_extension(der.extension("1.2.3.4", der.sequence(b"\x0c\x05abc"))).der,
                "attributes cannot be read",
                id="broken value within an unknown extension",
            ),
            pytest.param(
                with_extension(der.sequence(der.oid("1.2.3.4"), der.octets(der.NULL), der.NULL)).der,
                "attributes cannot be read",
                id="element after an extension's value",
            ),
            pytest.param(
                with_extension(
                    der.sequence(der.oid(der.KEY_USAGE), b"\1\1\0", der.octets(b"\3\2\5\xa0"))
                ).der,
                "extension cannot be read",
                id="critical FALSE written out",
            ),
            pytest.param(
                Draft(
                    extensions=(der.extension(der.SUBJECT_ALT_NAME, der.set_of(der.dns(b"a.example"))),)
                ).der,
                "subjectAltName cannot be read",
                id="subjectAltName is a SET",
            ),
            pytest.param(
                with_extension(der.extension(der.KEY_USAGE, der.NULL)).der,
                "extension cannot be read",
                id="keyUsage that is none",
            ),
            pytest.param(
                with_extension(der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.TRUE, der.NULL))).der,
                "extension cannot be read",
                id="element after basicConstraints",
            ),
        ],
    )
    def test_refused(self, encoded: bytes, reason: str) -> None:
        """Whatever another parser could read otherwise is refused."""
        assert reason in refusal(der.pem(encoded))

    def test_deep_nesting(self) -> None:
        """Values nested without end are refused, not followed."""
        nested = b""
        for _ in range(5000):
            nested = der.sequence(nested)
        assert "cannot be read" in refusal(der.pem(nested))

    @pytest.mark.parametrize("tag", [0x02, 0x03, 0x04, 0x05, 0x30])
    def test_a_subject_that_is_no_text(self, tag: int) -> None:
        """An attribute of the subject that is no text is refused, whichever it is: others cannot read it."""
        organisation = der.relative_name("2.5.4.10", b"", tag)
        assert "the subject cannot be read" in refusal(Draft(subject=der.sequence(organisation)).pem)
