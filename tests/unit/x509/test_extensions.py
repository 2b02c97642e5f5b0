"""Requested extensions: read where every parser looks, and refused where some would read others."""

from __future__ import annotations

import pytest
from tests import der
from tests.der import Draft, with_attribute, with_extension

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr

SAN = der.dns_san(b"a.example.org")
OTHER_SAN = der.dns_san(b"evil.example")
KEY_USAGE = der.extension(der.KEY_USAGE, b"\3\2\5\xa0")
FOREIGN = (der.MICROSOFT_EXTENSION_REQUEST, der.VERISIGN_EXTENSION_REQUEST)


def refusal(draft: Draft, rules: csr.Rules = csr.PUBLIC) -> str:
    """Return the reason for which a request is refused."""
    with pytest.raises(PayloadInvalid) as caught:
        csr.parse(draft.pem, rules)
    return str(caught.value)


def enrolment_pair(name: str, value: str = "x") -> bytes:
    """Write a name and a value as Microsoft's programs add them."""
    texts = [der.tlv(0x1E, text.encode("utf-16-be")) for text in (name, value)]
    return der.attribute(der.MICROSOFT_ENROLMENT_PAIR, der.sequence(*texts))


class TestExtension:
    @pytest.mark.parametrize(
        "extension",
        [
            pytest.param(
                der.sequence(der.oid(der.KEY_USAGE), der.FALSE, der.octets(b"\3\2\5\xa0")),
                id="critical FALSE written out",
            ),
            pytest.param(
                der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.FALSE)), id="CA FALSE written out"
            ),
            pytest.param(
                der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.FALSE, der.integer(0))),
                id="CA FALSE and a path length",
            ),
            pytest.param(
                der.extension("1.2.3.4", der.sequence(b"\xbf\x85\x3d\x02\x05\x00")), id="tag above 30"
            ),
        ],
    )
    def test_accepted(self, extension: bytes) -> None:
        """What is encoded in more words than DER wants, or never read, changes nothing."""
        assert csr.parse(with_extension(extension).pem).names == ("a.example.org",)

    @pytest.mark.threat("csr", "extensions that ask for more")
    @pytest.mark.parametrize("kind", [der.EXTENSION_REQUEST, *FOREIGN])
    @pytest.mark.parametrize(
        ("extension", "remove"),
        [
            pytest.param(der.extension(der.KEY_USAGE, b"\3\2\2\x04"), "keyCertSign", id="keyCertSign"),
            pytest.param(der.extension(der.KEY_USAGE, b"\3\2\1\x02"), "cRLSign", id="cRLSign"),
            pytest.param(der.extension(der.KEY_USAGE, b"\3\2\7\x84"), "keyCertSign", id="in unused bits"),
            *(
                pytest.param(
                    der.extension(
                        der.EXTENDED_KEY_USAGE, der.sequence(der.oid("1.3.6.1.5.5.7.3.1"), der.oid(usage))
                    ),
                    usage,
                    id=usage,
                )
                for usage in ("1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.4", "2.5.29.37.0", "1.2.3.4")
            ),
        ],
    )
    def test_more_than_a_leaf_needs(self, kind: str, extension: bytes, remove: str) -> None:
        """Usages of CAs, and others than those of servers and clients, are refused and named."""
        asking = der.attribute(kind, der.sequence(SAN, extension))
        own = () if kind == der.EXTENSION_REQUEST else (der.requested(SAN),)
        reason = refusal(Draft(attributes=(*own, asking)))
        assert "remove " in reason
        assert remove in reason

    def test_usages_of_a_leaf(self) -> None:
        """Usages of servers and clients are accepted, and so are none."""
        usages = [der.oid("1.3.6.1.5.5.7.3.1"), der.oid("1.3.6.1.5.5.7.3.2")]
        for few in ([], usages[:1], usages):
            extension = der.extension(der.EXTENDED_KEY_USAGE, der.sequence(*few))
            assert csr.parse(with_extension(KEY_USAGE, extension).pem).names == ("a.example.org",)

    @pytest.mark.threat("csr", "extensions that ask for more")
    @pytest.mark.parametrize(
        ("extensions", "reason"),
        [
            pytest.param(
                [SAN, SAN], "extension 2.5.29.17 (subjectAltName) is requested twice", id="SAN twice"
            ),
            pytest.param([SAN, OTHER_SAN], "2.5.29.17 (subjectAltName) is requested twice", id="another SAN"),
            pytest.param(
                [SAN, KEY_USAGE, KEY_USAGE], "2.5.29.15 (keyUsage) is requested twice", id="keyUsage"
            ),
            pytest.param(
                [der.extension(der.SUBJECT_ALT_NAME, der.sequence(der.dns(b"a.example.org")) + b"\5\0")],
                "2.5.29.17 (subjectAltName) cannot be read: octets are left over",
                id="bytes after the subjectAltName",
            ),
            pytest.param(
                [SAN, der.extension("1.2.3.4", der.NULL + der.NULL)],
                "extension 1.2.3.4 cannot be read: octets are left over",
                id="bytes after an unknown extension's value",
            ),
            pytest.param(
                [SAN, der.extension("1.2.3.4", b"")], "1.2.3.4 cannot be read: it is empty", id="no value"
            ),
            pytest.param(
                [SAN, der.extension("1.2.3.4", der.sequence(b"\x0c\x05abc"))],
                "1.2.3.4 cannot be read: octets are missing",
                id="broken value within an unknown extension",
            ),
            pytest.param(
                [SAN, der.sequence(der.oid("1.2.3.4"), der.TRUE, der.octets(der.NULL), der.NULL)],
                "other parts than type, critical, and value",
                id="element after an extension's value",
            ),
            pytest.param(
                [SAN, der.sequence(der.oid("1.2.3.4"), der.octets(der.NULL), der.NULL)],
                "1.2.3.4 cannot be read: it holds a BOOLEAN that is neither",
                id="critical behind the value",
            ),
            pytest.param(
                [der.sequence(der.oid(der.SUBJECT_ALT_NAME), der.tlv(1, b"\1"), der.content(SAN)[5:])],
                "neither TRUE nor FALSE",
                id="TRUE that is not FF",
            ),
            pytest.param(
                [der.extension(der.SUBJECT_ALT_NAME, der.set_of(der.dns(b"a.example")))],
                "2.5.29.17 (subjectAltName) cannot be read: its value is of another type",
                id="subjectAltName is a SET",
            ),
            pytest.param(
                [SAN, der.extension(der.KEY_USAGE, der.NULL)],
                "2.5.29.15 (keyUsage) cannot be read: its value is of another type",
                id="keyUsage that is none",
            ),
            pytest.param(
                [SAN, der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.TRUE, der.NULL))],
                "2.5.29.19 (basicConstraints) cannot be read",
                id="element after basicConstraints",
            ),
            pytest.param(
                [SAN, der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.tlv(1, b"\1")))],
                "2.5.29.19 (basicConstraints) cannot be read",
                id="CA neither TRUE nor FALSE",
            ),
            pytest.param([SAN, der.NULL], "other values than it should", id="extension that is none"),
            pytest.param(
                [SAN, der.extension(der.KEY_USAGE, der.tlv(3))],
                "2.5.29.15 (keyUsage) cannot be read",
                id="keyUsage without octets",
            ),
            pytest.param(
                [SAN, der.extension(der.EXTENDED_KEY_USAGE, der.sequence(der.NULL))],
                "2.5.29.37 (extendedKeyUsage) cannot be read",
                id="extended key usage that is none",
            ),
        ],
    )
    def test_refused(self, extensions: list[bytes], reason: str) -> None:
        """An extension that parsers could read differently is refused, and named."""
        assert reason in refusal(Draft(extensions=tuple(extensions)))

    @pytest.mark.parametrize(
        ("extension", "reason"),
        [
            pytest.param(
                der.extension(der.BASIC_CONSTRAINTS, der.sequence(der.TRUE)),
                "remove CA:TRUE from 2.5.29.19 (basicConstraints)",
                id="CA:TRUE",
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
                "critical extension 2.5.29.30 (nameConstraints) is not known",
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
        ],
    )
    @pytest.mark.parametrize("kind", [der.EXTENSION_REQUEST, der.MICROSOFT_EXTENSION_REQUEST])
    def test_other_kinds_of_certificates(self, kind: str, extension: bytes, reason: str) -> None:
        """Extensions that would make another kind of certificate are refused in whichever attribute."""
        own = kind == der.EXTENSION_REQUEST
        foreign = der.attribute(kind, der.sequence(extension))
        attributes = (der.requested(SAN, extension),) if own else (der.requested(SAN), foreign)
        assert reason in refusal(Draft(attributes=attributes))

    def test_how_to_make_it_uncritical(self) -> None:
        """Whoever asks for an unknown critical extension is told how to ask for one that is not critical."""
        reason = refusal(with_extension(der.extension("1.2.3.4", der.NULL, critical=True)))
        assert "leave it out" in reason
        assert "removing the word `critical`" in reason


@pytest.mark.threat("csr", "what parsers read differently")
class TestExtensionRequest:
    @pytest.mark.parametrize(
        ("attributes", "reason"),
        [
            pytest.param(
                [der.requested(SAN), der.requested(OTHER_SAN)],
                "1.2.840.113549.1.9.14 (extensionRequest of PKCS #9) is given twice",
                id="twice",
            ),
            pytest.param([der.requested(SAN)] * 2, "is given twice", id="the same twice"),
            pytest.param([der.requested(SAN), der.requested(KEY_USAGE)], "is given twice", id="in two parts"),
            pytest.param(
                [der.attribute(der.EXTENSION_REQUEST, der.sequence(SAN), der.sequence(OTHER_SAN))],
                "it does not have one value",
                id="two values",
            ),
            pytest.param([der.attribute(der.EXTENSION_REQUEST)], "it does not have one value", id="no value"),
            pytest.param(
                [der.attribute(der.EXTENSION_REQUEST, der.set_of(SAN))],
                "(extensionRequest of PKCS #9) cannot be read",
                id="a SET",
            ),
        ],
    )
    def test_refused(self, attributes: list[bytes], reason: str) -> None:
        """Where some parsers would read the first and others the last, none is read."""
        assert reason in refusal(Draft(attributes=tuple(attributes)))


class TestForeignRequests:
    @pytest.mark.parametrize("kind", FOREIGN)
    @pytest.mark.parametrize(
        "extensions",
        [
            pytest.param([SAN], id="the same names"),
            pytest.param([SAN, KEY_USAGE], id="the same, and more"),
            pytest.param([KEY_USAGE], id="no names"),
            pytest.param([], id="nothing"),
        ],
    )
    def test_agreement(self, kind: str, extensions: list[bytes]) -> None:
        """A second extension request is accepted where it asks for no other names."""
        draft = with_attribute(der.attribute(kind, der.sequence(*extensions)))
        assert csr.parse(draft.pem).names == ("a.example.org",)

    @pytest.mark.parametrize("kind", FOREIGN)
    def test_without_names_and_alone(self, kind: str) -> None:
        """A request of another kind may stand alone where it holds no names."""
        attribute = der.attribute(kind, der.sequence(KEY_USAGE))
        draft = Draft(der.subject(b"a.example.org"), attributes=(attribute,))
        assert csr.parse(draft.pem).names == ("a.example.org",)

    @pytest.mark.threat("csr", "what parsers read differently")
    @pytest.mark.parametrize("kind", FOREIGN)
    @pytest.mark.parametrize(
        ("own", "foreign", "differing"),
        [
            pytest.param([SAN], [OTHER_SAN], "subjectAltName", id="other names"),
            pytest.param(
                [SAN], [SAN, der.extension(der.TLS_FEATURE, der.sequence())], "tlsfeature", id="more"
            ),
            pytest.param(
                [SAN, KEY_USAGE],
                [SAN, der.extension(der.KEY_USAGE, b"\3\2\7\x80")],
                "keyUsage",
                id="keyUsage",
            ),
            pytest.param([KEY_USAGE], [SAN], "subjectAltName", id="names in the other only"),
            pytest.param(None, [SAN], "subjectAltName", id="the other alone"),
        ],
    )
    def test_disagreement(
        self, kind: str, own: list[bytes] | None, foreign: list[bytes], differing: str
    ) -> None:
        """A second extension request that differs where it matters is refused, and the attribute named."""
        attributes = () if own is None else (der.requested(*own),)
        other = der.attribute(kind, der.sequence(*foreign))
        reason = refusal(
            Draft(der.subject(b"a.example.org"), attributes=(*attributes, other)), csr.Rules(must_staple=True)
        )
        assert f"the attribute {kind}" in reason
        assert f"({differing}) otherwise than 1.2.840.113549.1.9.14" in reason

    def test_twice(self) -> None:
        """Two requests of one other kind are refused, as are two of PKCS #9's."""
        attribute = der.attribute(der.MICROSOFT_EXTENSION_REQUEST, der.sequence(KEY_USAGE))
        assert "is given twice" in refusal(with_attribute(attribute, attribute))


class TestOtherAttributes:
    @pytest.mark.parametrize(
        "attributes",
        [
            pytest.param([der.attribute(der.CHALLENGE_PASSWORD, der.utf8(b"s"))] * 2, id="password twice"),
            pytest.param(
                [der.attribute(der.CHALLENGE_PASSWORD, der.utf8(text)) for text in (b"a", b"b")],
                id="two passwords",
            ),
            pytest.param([enrolment_pair("a"), enrolment_pair("b")], id="two enrolment pairs"),
            pytest.param([der.attribute("1.2.3.4")], id="no values"),
            pytest.param([der.attribute("1.2.3.4", der.NULL, der.NULL)], id="several values"),
            pytest.param(
                [der.attribute("1.2.3.4", der.octets(b"\2"), der.octets(b"\1"))], id="values in any order"
            ),
        ],
    )
    def test_accepted(self, attributes: list[bytes]) -> None:
        """What is in other attributes, and how often they are there, changes no name."""
        assert csr.parse(with_attribute(*attributes).pem).names == ("a.example.org",)

    def test_order(self) -> None:
        """Attributes need not be sorted: nobody reads anything in their order."""
        password = der.attribute(der.CHALLENGE_PASSWORD, der.utf8(b"s"))
        sets = [[der.requested(SAN), password], [password, der.requested(SAN)]]
        for attributes in sets:
            draft = Draft()
            info = der.sequence(
                der.integer(0), draft.subject, der.spki(draft.key), der.tlv(0xA0, *attributes)
            )
            assert csr.parse(der.pem(draft.signed(info))).names == ("a.example.org",)

    @pytest.mark.parametrize(
        "attribute",
        [
            pytest.param(
                der.attribute("1.2.3.4", der.sequence(OTHER_SAN)), id="in an attribute that nobody knows"
            ),
            pytest.param(enrolment_pair("SAN", "dns=evil.example"), id="in an enrolment pair"),
            pytest.param(enrolment_pair(" san ", "dns=evil.example"), id="in small letters, with blanks"),
        ],
    )
    def test_names_where_some_look_for_them(self, attribute: bytes) -> None:
        """Names in an attribute that some authorities read are refused, and the attribute named."""
        reason = refusal(with_attribute(attribute))
        assert "holds a subjectAltName" in reason
        assert "1.2.3.4" in reason or "(enrolment name and value of Microsoft)" in reason
