"""Certificate signing requests: what is read from them, and every reason to refuse one."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests import der
from tests.der import Draft, with_attribute, with_extension, with_names, with_san

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr
from acmems.x509.identifiers import Identifier

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
            pytest.param(with_names(b"xn--ls8h.example"), ["xn--ls8h.example"], id="emoji"),
            pytest.param(Draft(der.subject(b"")), ["a.example.org"], id="empty CN"),
            pytest.param(
                Draft(der.subject(b"", b"b.example.org")),
                ["a.example.org", "b.example.org"],
                id="empty CN and CN",
            ),
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
            (0x12, b"b.example.org"),
            (0x13, b"b.example.org"),
            (0x14, b"b.example.org"),
            (0x16, b"b.example.org"),
            (0x1A, b"b.example.org"),
            (0x1C, "b.example.org".encode("utf-32-be")),
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

    def test_values(self) -> None:
        """A request holds the bytes that were sent, the DER, the key and the SAN, all unchanged."""
        draft = with_names(b"a.example.org")
        body, encoded = der.pem(written := draft.der), written
        request = csr.parse(body)
        assert request.pem == body
        assert request.der == encoded
        assert request.spki == der.spki(draft.key)
        assert not request.common_names_only
        assert not request.must_staple
        assert request.key_digest == hashlib.sha256(request.spki).hexdigest()
        assert request.body_digest == hashlib.sha384(body).hexdigest()

    @pytest.mark.threat("csr", "a common name and no SAN")
    @pytest.mark.parametrize(
        ("draft", "names"),
        [
            pytest.param(Draft(der.subject(b"a.example.org"), extensions=()), ["a.example.org"], id="no SAN"),
            pytest.param(Draft(der.subject(b"b.example.org")), ["b.example.org"], id="CN not in the SAN"),
            pytest.param(Draft(der.subject(b"A.example.org")), [], id="CN in the SAN"),
        ],
    )
    def test_no_san(self, draft: Draft, names: list[str]) -> None:
        """A request tells which names stand in a common name only, where some CAs do not look."""
        assert csr.parse(draft.pem).common_names_only == set(map(Identifier.dns, names))

    def test_repr(self) -> None:
        """The repr of a request shows names, and neither the request nor its key."""
        request = csr.parse(GOOD.pem)
        assert "a.example.org" in repr(request)
        assert len(repr(request)) < 200

    @pytest.mark.parametrize(
        ("cn", "address"),
        [(b"192.0.2.1", b"\xc0\0\2\1"), (b"2001:DB8:0::1", b"\x20\x01\x0d\xb8" + bytes(11) + b"\1")],
    )
    def test_an_address_as_common_name(self, cn: bytes, address: bytes) -> None:
        """It names nothing more where the subjectAltName holds it; some clients write it for addresses."""
        draft = Draft(der.subject(cn), extensions=(der.san(der.tlv(0x87, address)),))
        read = csr.parse(draft.pem)
        assert [each.type.value for each in read.identifiers] == ["ip"]
        assert not read.common_names_only

    def test_an_address_in_the_common_name_alone(self) -> None:
        """It is refused: addresses are asked for in the subjectAltName."""
        draft = Draft(der.subject(b"192.0.2.1"), extensions=(der.dns_san(b"a.example"),))
        assert "as only IP addresses do: leave the CN out" in refusal(draft.pem)


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
            pytest.param(
                Draft(der.subject(b""), extensions=()), "no names are requested", id="empty CN and no SAN"
            ),
            pytest.param(Draft(der.subject(b" ")), "letters, digits and hyphens", id="CN of a blank"),
            pytest.param(Draft(der.subject("bücher.example".encode())), "not ASCII", id="Unicode in the CN"),
            pytest.param(Draft(der.subject(b"\xff.example")), "its text is not UTF-8", id="CN is not UTF-8"),
            pytest.param(
                Draft(der.sequence(der.relative_name(der.COMMON_NAME, b"a", 0x04))),
                "(commonName) of the subject cannot be read: it is no text",
                id="CN of no string type",
            ),
            pytest.param(
                Draft(der.sequence(der.relative_name(der.COMMON_NAME, b"b\xfccher.example", 0x14))),
                "not ASCII",
                id="Latin-1 in the CN",
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

    @pytest.mark.parametrize(
        ("draft", "words", "option"),
        [
            pytest.param(
                Draft(der.subject(b"My Web Server"), extensions=(der.dns_san(b"b.example", b"A.example"),)),
                "the CN counts as a name, and 'My Web Server' is not a DNS name",
                "-subj / -addext 'subjectAltName=DNS:a.example,DNS:b.example'",
                id="CN that is no name",
            ),
            pytest.param(
                Draft(der.subject(b"My Web Server"), extensions=()),
                "leave the CN out",
                "-subj / -addext 'subjectAltName=DNS:host.example.org'",
                id="CN that is no name, alone",
            ),
            pytest.param(
                Draft(
                    der.subject(b"*.a.example"),
                    extensions=(
                        der.san(
                            der.tlv(0x81, b"a@a.example"), der.tlv(0x87, b"\xc0\0\2\1"), der.dns(b"b.example")
                        ),
                    ),
                ),
                "the subjectAltName holds an e-mail address",
                "-addext 'subjectAltName=DNS:*.a.example,DNS:b.example,IP:192.0.2.1'",
                id="e-mail address beside names of all kinds",
            ),
            pytest.param(
                with_names(*(b"n%02d.example.org" % n for n in range(99)), b"a b"),
                "'a b' is not a DNS name",
                ",".join(f"DNS:n{n:02}.example.org" for n in range(99)),
                id="a blank beside 99 names",
            ),
        ],
    )
    def test_advice(self, draft: Draft, words: str, option: str) -> None:
        """What is wrong is said, and the option that asks for all good names is there to be copied."""
        reason = refusal(draft.pem)
        assert words in reason
        assert option in reason


@pytest.mark.threat("csr", "extensions that ask for more")
class TestMustStaple:
    def test_refused(self) -> None:
        """Must-staple is refused unless the operator allows it, with the extension to remove."""
        assert "remove tlsfeature (1.3.6.1.5.5.7.1.24)" in refusal(with_extension(MUST_STAPLE).pem)

    def test_must_staple_by_option(self) -> None:
        """Must-staple is accepted where the operator allows it, and kept in the request."""
        assert csr.parse(with_extension(MUST_STAPLE).pem, csr.Rules(must_staple=True)).must_staple

    def test_other_tls_features(self) -> None:
        """Other TLS features are refused even where must-staple is allowed."""
        draft = with_extension(der.extension(der.TLS_FEATURE, der.sequence(der.integer(17))))
        assert "must-staple is not accepted" in refusal(draft.pem, csr.Rules(must_staple=True))


class TestWithoutPem:
    """Requests that come as DER alone."""

    def test_it_is_read_as_in_pem(self) -> None:
        """The PEM that is kept is the one that OpenSSL writes, so that it is found again in a storage."""
        read = csr.parse(GOOD.pem)
        bare = csr.parse_der(read.der)
        assert (bare.der, bare.identifiers, bare.spki) == (read.der, read.identifiers, read.spki)
        assert csr.parse(bare.pem) == bare
        lines = bare.pem.decode().splitlines()
        assert (lines[0], lines[-1]) == (
            "-----BEGIN CERTIFICATE REQUEST-----",
            "-----END CERTIFICATE REQUEST-----",
        )
        assert {len(line) for line in lines[1:-2]} == {64}

    @pytest.mark.parametrize("body", [b"", b"\x30\x00", b"\x30\x80\x00\x00", bytes(50_000)])
    def test_what_is_no_request_is_refused(self, body: bytes) -> None:
        """By words, whatever it is."""
        with pytest.raises(PayloadInvalid):
            csr.parse_der(body)
        with pytest.raises(PayloadInvalid):
            csr.parse_der(csr.parse(GOOD.pem).der + b"\0")
