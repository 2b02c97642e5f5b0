"""Certificate signing requests: what is read from them, and every reason to refuse one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from tests import der
from tests.der import Draft, with_attribute, with_extension, with_names, with_san

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr

GOOD = Draft()
SAN = der.dns_san(b"a.example.org")
MUST_STAPLE = der.extension(der.TLS_FEATURE, der.sequence(der.integer(5)))


def refusal(body: bytes, rules: csr.Rules = csr.PUBLIC) -> str:
    """Return the reason for which a body is refused."""
    with pytest.raises(PayloadInvalid) as caught:
        csr.parse(body, rules)
    return str(caught.value)


class TestAccepted:
    @pytest.mark.threat(
        "csr",
        "a SAN and no common name",
        "common names beside the SAN",
        "capital letters",
        "too many names, or one twice",
    )
    @pytest.mark.parametrize(
        ("draft", "names"),
        [
            pytest.param(GOOD, ["a.example.org"], id="one name in the SAN"),
            pytest.param(
                Draft(der.subject(b"a.example.org"), attributes=()), ["a.example.org"], id="CN, no attributes"
            ),
            pytest.param(
                Draft(der.subject(b"a.example.org"), extensions=()), ["a.example.org"], id="CN, no extensions"
            ),
            pytest.param(
                Draft(der.subject(b"b.example.org")),
                ["a.example.org", "b.example.org"],
                id="CN not in the SAN",
            ),
            pytest.param(
                Draft(der.subject(b"c.example.org", b"b.example.org", b"a.example.org")),
                ["a.example.org", "b.example.org", "c.example.org"],
                id="several CNs",
            ),
            pytest.param(
                Draft(
                    der.sequence(
                        der.set_of(
                            der.sequence(der.oid(der.ORGANIZATION), der.utf8(b"\xc3\x9cber")),
                            der.sequence(der.oid(der.COMMON_NAME), der.utf8(b"b.example.org")),
                        )
                    )
                ),
                ["a.example.org", "b.example.org"],
                id="CN beside another attribute in one relative name",
            ),
            pytest.param(
                with_names(b"A.Example.ORG", b"a.example.org"),
                ["a.example.org"],
                id="case and duplicates fold",
            ),
            pytest.param(
                with_names(b"*.example.org", b"example.org"), ["*.example.org", "example.org"], id="wildcard"
            ),
            pytest.param(
                with_san(der.tlv(0x87, b"\xc0\0\2\1"), der.tlv(0x87, bytes(15) + b"\1")),
                ["192.0.2.1", "::1"],
                id="IP addresses, for policy to decide on",
            ),
            pytest.param(with_names(b"xn--bcher-kva.example"), ["xn--bcher-kva.example"], id="A-label"),
            pytest.param(
                with_names(*(b"n%d.example.org" % n for n in range(100)), b"n7.example.org"),
                sorted(f"n{n}.example.org" for n in range(100)),
                id="a hundred names, one twice",
            ),
        ],
    )
    def test_names(self, draft: Draft, names: list[str]) -> None:
        """Every name of a request is read, normalised, folded and sorted."""
        assert list(csr.parse(draft.pem).names) == names

    @pytest.mark.parametrize(
        ("tag", "encoded"),
        [
            (0x0C, b"b.example.org"),
            (0x13, b"b.example.org"),
            (0x14, b"b.example.org"),
            (0x16, b"b.example.org"),
            (0x1E, "b.example.org".encode("utf-16-be")),
        ],
    )
    def test_string_types(self, tag: int, encoded: bytes) -> None:
        """A common name counts in whichever string type it is written."""
        subject = der.sequence(der.relative_name(der.COMMON_NAME, encoded, tag))
        assert csr.parse(Draft(subject).pem).names == ("a.example.org", "b.example.org")

    @pytest.mark.parametrize(
        "draft",
        [
            pytest.param(
                with_extension(der.extension(der.KEY_USAGE, b"\3\2\5\xa0", critical=True)), id="keyUsage"
            ),
            pytest.param(
                with_extension(
                    der.extension(der.EXTENDED_KEY_USAGE, der.sequence(der.oid("1.3.6.1.5.5.7.3.1")))
                ),
                id="extendedKeyUsage",
            ),
            pytest.param(
                with_extension(der.extension(der.BASIC_CONSTRAINTS, der.sequence(), critical=True)),
                id="CA:FALSE",
            ),
            pytest.param(
                with_extension(der.extension(der.SUBJECT_KEY_IDENTIFIER, der.octets(b"k" * 20))),
                id="subjectKeyIdentifier",
            ),
            pytest.param(
                with_extension(der.extension("2.16.840.1.113730.1.13", der.tlv(0x16, b"comment"))),
                id="unknown extension that is not critical",
            ),
            pytest.param(
                Draft(extensions=(der.san(der.dns(b"a.example.org"), critical=True),)), id="critical SAN"
            ),
            pytest.param(
                with_attribute(der.attribute(der.CHALLENGE_PASSWORD, der.utf8(b"secret"))),
                id="challengePassword",
            ),
            pytest.param(
                with_attribute(der.attribute(der.UNSTRUCTURED_NAME, der.utf8(b"Company"))),
                id="unstructuredName",
            ),
            pytest.param(Draft(key=der.rsa_key()), id="RSA"),
            pytest.param(Draft(key=der.ec_key(ec.SECP384R1)), id="P-384"),
            pytest.param(Draft(hash="sha512"), id="SHA-512"),
        ],
    )
    def test_ordinary_requests(self, draft: Draft) -> None:
        """Extensions, attributes, keys and hashes as openssl makes them are fine."""
        assert csr.parse(draft.pem).names == ("a.example.org",)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda body: body.replace(b"\n", b"\r\n"), id="CRLF"),
            pytest.param(lambda body: b"\n \t\r\n" + body + b"\r\n\n  ", id="white space around"),
            pytest.param(bytes.strip, id="no line end at the end"),
            pytest.param(
                lambda body: body.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"), id="NEW label"
            ),
        ],
    )
    def test_spellings_of_pem(self, change: Callable[[bytes], bytes]) -> None:
        """Line ends, white space around and the older label make no difference to what is finalized."""
        body = change(GOOD.pem)
        request = csr.parse(body)
        assert request.der == base64.b64decode(body.replace(b"NEW ", b"").strip()[35:-33])
        assert request.pem == body

    def test_values(self) -> None:
        """A request holds the bytes that were sent, the DER, the key and the SAN, all unchanged."""
        draft = with_names(b"a.example.org")
        body, encoded = der.pem(written := draft.der), written
        request = csr.parse(body)
        assert request.pem == body
        assert request.der == encoded
        assert request.spki == der.spki(draft.key)
        assert request.san == der.sequence(der.dns(b"a.example.org"))
        assert not request.must_staple
        assert request.key_digest == hashlib.sha256(request.spki).hexdigest()
        assert request.body_digest == hashlib.sha384(body).hexdigest()

    @pytest.mark.threat("csr", "a common name and no SAN")
    def test_no_san(self) -> None:
        """A request without a subjectAltName says so."""
        assert csr.parse(Draft(der.subject(b"a.example.org"), extensions=()).pem).san is None

    def test_repr(self) -> None:
        """The repr of a request shows names, and neither the request nor its key."""
        request = csr.parse(GOOD.pem)
        assert "a.example.org" in repr(request)
        assert len(repr(request)) < 200


class TestNames:
    @pytest.mark.threat(
        "csr",
        "no names",
        "names other than DNS names",
        "names that are no host names",
        "a star elsewhere than in front",
        "too many names, or one twice",
    )
    @pytest.mark.parametrize(
        ("draft", "reason"),
        [
            pytest.param(Draft(extensions=()), "no names are requested", id="no names at all"),
            pytest.param(Draft(attributes=()), "no names are requested", id="no attributes"),
            pytest.param(with_names(), "subjectAltName is empty", id="empty SAN"),
            pytest.param(
                Draft(der.subject(b"a.example.org"), extensions=(der.san(),)),
                "subjectAltName is empty",
                id="empty SAN beside a CN",
            ),
            pytest.param(
                Draft(der.sequence(der.relative_name(der.ORGANIZATION, b"a.example.org")), extensions=()),
                "no names are requested",
                id="organization is no name",
            ),
            pytest.param(with_san(der.tlv(0x81, b"a@example.org")), "an e-mail address", id="e-mail"),
            pytest.param(with_san(der.tlv(0x86, b"https://example.org/")), "a URI", id="URI"),
            pytest.param(
                with_san(der.tlv(0xA4, der.subject(b"a.example.org"))), "a directoryName", id="directoryName"
            ),
            pytest.param(with_san(der.tlv(0x88, b"\x2a\3\4")), "a registeredID", id="registeredID"),
            pytest.param(
                with_san(der.tlv(0xA0, der.oid("1.2.3.4"), der.tlv(0xA0, der.utf8(b"a.example.org")))),
                "an otherName",
                id="otherName",
            ),
            pytest.param(with_san(der.tlv(0xA3, der.sequence())), "an x400Address", id="x400Address"),
            pytest.param(
                with_san(der.tlv(0xA5, der.tlv(0xA1, der.utf8(b"x")))), "an ediPartyName", id="ediPartyName"
            ),
            pytest.param(
                with_san(der.utf8(b"a.example.org")), "a name of an unknown kind", id="not a GeneralName"
            ),
            pytest.param(
                with_san(der.dns(b"a.example.org"), der.tlv(0x81, b"a@example.org")),
                "an e-mail address",
                id="e-mail behind a good name",
            ),
            pytest.param(
                with_san(der.tlv(0x87, b"\xc0\0\2")), "neither 4 nor 16 bytes", id="short IP address"
            ),
            pytest.param(
                with_san(der.tlv(0x87, b"\xc0\0\2\0\xff\xff\xff\0")), "neither 4 nor 16", id="IP network"
            ),
            pytest.param(
                with_san(der.tlv(0x87, bytes(10) + b"\xff\xff\xc0\0\2\1")),
                "write it as IPv4",
                id="mapped IPv4",
            ),
            pytest.param(Draft(der.subject(b"192.0.2.1")), "ends in a number", id="IPv4 address as CN"),
            pytest.param(
                Draft(der.subject(b"2001:db8::1")), "letters, digits and hyphens", id="IPv6 address as CN"
            ),
            pytest.param(
                Draft(der.subject(b"My Web Server")), "letters, digits and hyphens", id="words as CN"
            ),
            pytest.param(Draft(der.subject(b"")), "a label is empty", id="empty CN"),
            pytest.param(Draft(der.subject("bücher.example".encode())), "not ASCII", id="Unicode in the CN"),
            pytest.param(Draft(der.subject(b"\xff.example")), "subject cannot be read", id="CN is not UTF-8"),
            pytest.param(
                Draft(der.sequence(der.relative_name(der.COMMON_NAME, b"a", 0x04))),
                "subject cannot be read",
                id="CN of no string type",
            ),
            pytest.param(with_names(b"b\xfccher.example"), "not ASCII", id="Latin-1"),
            pytest.param(with_names(b"a.example.org."), "a label is empty", id="trailing dot"),
            pytest.param(with_names(b""), "a label is empty", id="empty name"),
            pytest.param(with_names(b"a..example.org"), "a label is empty", id="empty label"),
            pytest.param(with_names(b"a" * 64 + b".example.org"), "longer than 63", id="long label"),
            pytest.param(with_names(b"a." * 125 + b"long"), "longer than 253", id="long name"),
            pytest.param(with_names(b"a_b.example.org"), "letters, digits and hyphens", id="underscore"),
            pytest.param(with_names(b"a b.example.org"), "letters, digits and hyphens", id="blank"),
            pytest.param(
                with_names(b"a.example.org\0.evil.example"), "letters, digits and hyphens", id="NUL"
            ),
            pytest.param(with_names(b"a.example.org\n"), "letters, digits and hyphens", id="newline"),
            pytest.param(with_names(b"xn--a.example"), "does not decode", id="A-label that does not decode"),
            pytest.param(with_names(b"a.*.example.org"), "whole first label", id="star within"),
            pytest.param(with_names(b"*.*.example.org"), "whole first label", id="two stars"),
            pytest.param(
                with_names(*(b"n%d.example.org" % n for n in range(101))),
                "more than 100 names",
                id="101 names",
            ),
            pytest.param(
                Draft(
                    der.subject(b"cn.example.org"),
                    extensions=(der.dns_san(*(b"n%d.example.org" % n for n in range(100))),),
                ),
                "more than 100 names",
                id="100 names and another in the CN",
            ),
            pytest.param(with_names(*[b"x"] * 20_000), "larger than 100 names", id="20000 times one name"),
        ],
    )
    def test_refused(self, draft: Draft, reason: str) -> None:
        """Names that cannot be certified are refused, and none is passed over."""
        assert reason in refusal(draft.pem)


class TestExtensions:
    @pytest.mark.threat("csr", "extensions that ask for more")
    @pytest.mark.parametrize(
        ("extension", "reason"),
        [
            pytest.param(
                der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.TRUE)), "remove CA:TRUE", id="CA:TRUE"
            ),
            pytest.param(
                der.extension("1.2.3.4", der.NULL, critical=True),
                "critical extension 1.2.3.4 is not known",
                id="unknown critical extension",
            ),
            pytest.param(
                der.extension(
                    der.NAME_CONSTRAINTS,
                    der.sequence(der.tlv(0xA0, der.sequence(der.dns(b"a")))),
                    critical=True,
                ),
                "critical extension 2.5.29.30 is not known",
                id="critical nameConstraints",
            ),
            pytest.param(
                der.extension(der.ACME_IDENTIFIER, der.octets(bytes(32)), critical=True),
                "tls-alpn-01",
                id="acmeIdentifier",
            ),
            pytest.param(
                der.extension(der.ACME_IDENTIFIER, der.octets(bytes(32))),
                "tls-alpn-01",
                id="acmeIdentifier that is not critical",
            ),
            pytest.param(MUST_STAPLE, "must-staple is not accepted", id="must-staple"),
        ],
    )
    def test_refused(self, extension: bytes, reason: str) -> None:
        """Extensions that would make another kind of certificate are refused."""
        assert reason in refusal(with_extension(extension).pem)

    @pytest.mark.threat("csr", "extensions that ask for more")
    def test_must_staple_by_option(self) -> None:
        """Must-staple is accepted where the operator allows it, and kept in the request."""
        assert csr.parse(with_extension(MUST_STAPLE).pem, csr.Rules(must_staple=True)).must_staple

    def test_other_tls_features(self) -> None:
        """Other TLS features are refused even where must-staple is allowed."""
        draft = with_extension(der.extension(der.TLS_FEATURE, der.sequence(der.integer(17))))
        assert "must-staple is not accepted" in refusal(draft.pem, csr.Rules(must_staple=True))


class TestKey:
    @pytest.mark.threat("csr", "weak keys")
    def test_weak_key(self) -> None:
        """A request for a key that the rules of `keys` refuse is refused with their reason."""
        assert "RSA keys of 1024 bits" in refusal(Draft(key=der.rsa_key(1024)).pem)

    @pytest.mark.threat("csr", "weak keys")
    def test_curves_by_option(self) -> None:
        """A curve besides P-256 and P-384 is accepted where the operator allows it."""
        body = Draft(key=der.ec_key(ec.SECP521R1)).pem
        assert "secp521r1" in refusal(body)
        assert csr.parse(body, csr.Rules(extra_curves=frozenset({"secp521r1"}))).names == ("a.example.org",)

    @pytest.mark.parametrize(
        "spki",
        [
            pytest.param(
                der.sequence(
                    der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7")),
                    der.bits(
                        der.ec_key().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
                    ),
                ),
                id="compressed point",
            ),
        ],
    )
    def test_unusual_encodings(self, spki: bytes) -> None:
        """One key has one encoding, so that keys can be compared by their bytes."""
        assert "encoded in an unusual way" in refusal(Draft(spki=spki).pem)

    @pytest.mark.parametrize(
        "spki",
        [
            pytest.param(der.sequence(), id="empty"),
            pytest.param(
                der.sequence(
                    der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7")),
                    der.bits(b"\4" + b"\1" * 64),
                ),
                id="point off the curve",
            ),
            pytest.param(
                der.sequence(der.sequence(der.oid("1.2.3.4")), der.bits(b"k")), id="unknown algorithm"
            ),
        ],
    )
    def test_broken_keys(self, spki: bytes) -> None:
        """A key that is none is refused."""
        assert "cannot be read" in refusal(Draft(spki=spki).pem)

    def test_other_key_types(self) -> None:
        """Keys other than RSA and EC are refused."""
        spki = (
            Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        assert "keys of this type" in refusal(Draft(spki=spki).pem)


class TestSignature:
    @pytest.mark.threat("csr", "a wrong signature")
    def test_of_another_key(self) -> None:
        """A request for a key that its sender does not have is refused."""
        assert "signature" in refusal(Draft(spki=der.spki(ec.generate_private_key(ec.SECP256R1()))).pem)

    def test_of_another_type_of_key(self) -> None:
        """A signature that cannot even be one by this key is refused."""
        assert "signature" in refusal(Draft(spki=der.spki(der.rsa_key())).pem)

    @pytest.mark.threat("csr", "a wrong signature")
    def test_of_other_names(self) -> None:
        """A name changed after signing is refused."""
        assert "signature" in refusal(der.pem(GOOD.der.replace(b"a.example", b"b.example")))

    def test_sha1(self) -> None:
        """SHA-1 is refused as public CAs do, with the option that helps."""
        assert "make it with -sha256" in refusal(Draft(hash="sha1").pem)


class Panic(BaseException):
    """As the Rust part of cryptography raises, beyond Exception."""


class TestParserErrors:
    @pytest.mark.threat("csr", "a parser that fails")
    @pytest.mark.parametrize("error", [ValueError, TypeError, x509.DuplicateExtension, RecursionError, Panic])
    def test_any_class_is_a_refusal(self, error: type[BaseException]) -> None:
        """Whatever the library raises, the client learns that its request is malformed, and no more."""
        raised = error("secret", None) if error is x509.DuplicateExtension else error("secret")  # type: ignore[arg-type] # each its own arguments
        with mock.patch.object(x509, "load_der_x509_csr", side_effect=raised):
            assert "secret" not in refusal(GOOD.pem)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_what_is_not_a_parsers_passes(self, error: type[BaseException]) -> None:
        """A process that is told to stop, or is out of memory, is not held up by a refusal."""
        with mock.patch.object(x509, "load_der_x509_csr", side_effect=error), pytest.raises(error):
            csr.parse(GOOD.pem)
