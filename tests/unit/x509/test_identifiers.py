"""Identifiers and globs."""

from __future__ import annotations

import pytest

from acmems.x509.identifiers import Glob, Identifier, IdentifierType, subject_alt_name_option

LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])


class TestDns:
    @pytest.mark.threat("csr", "capital letters")
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("example.org", "example.org"),
            ("WWW.Example.ORG", "www.example.org"),
            ("*.Example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("1and1.example", "1and1.example"),
            ("0.0.0.0.example", "0.0.0.0.example"),
            ("a--b.example", "a--b.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
            ("xn--n3h.example", "xn--n3h.example"),  # a snowman, which IDNA 2008 disallows and CAs take
            ("*.xn--ls8h.example", "*.xn--ls8h.example"),  # an emoji
            ("xn--1ug96u.example", "xn--1ug96u.example"),  # a snowman and a joiner
            (f"{LABEL_63}.example", f"{LABEL_63}.example"),
            (NAME_253, NAME_253),
        ],
    )
    def test_normal_form(self, text: str, value: str) -> None:
        """A DNS name is kept in lower case and otherwise as it is."""
        assert Identifier.dns(text) == Identifier(IdentifierType.DNS, value)

    @pytest.mark.threat("csr", "names that are no host names")
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "a label is empty"),
            (".", "a label is empty"),
            ("example.org.", "a label is empty"),
            (".example.org", "a label is empty"),
            ("a..example.org", "a label is empty"),
            ("*.", "a label is empty"),
            (f"{LABEL_63}a.example", "longer than 63"),
            (NAME_253 + "a", "longer than 253"),
            (f"*.{NAME_253}", "longer than 253"),
            ("a_b.example.org", "only letters, digits and hyphens"),
            ("a b.example.org", "only letters, digits and hyphens"),
            (" example.org", "only letters, digits and hyphens"),
            ("example.org\n", "only letters, digits and hyphens"),
            ("example.org\0.evil.example", "only letters, digits and hyphens"),
            ("a/b.example.org", "only letters, digits and hyphens"),
            ("a@example.org", "only letters, digits and hyphens"),
            ("example.org:443", "only letters, digits and hyphens"),
            ("2001:db8::1", "only letters, digits and hyphens"),
            ("-a.example.org", "starts or ends with a hyphen"),
            ("a-.example.org", "starts or ends with a hyphen"),
            ("*", "whole first label"),
            ("a.*.example.org", "whole first label"),
            ("*.*.example.org", "whole first label"),
            ("a*.example.org", "whole first label"),
            ("**.example.org", "whole first label"),
            ("bücher.example", "not ASCII"),
            ("\N{KELVIN SIGN}.example", "not ASCII"),
            ("a\N{IDEOGRAPHIC FULL STOP}example", "not ASCII"),
            ("xn--.example", "starts or ends with a hyphen"),
            ("xn--a.example", "does not decode"),  # to a control character
            ("xn--99999999999.example", "does not decode"),  # beyond Unicode
            ("xn---bbk.example", "does not decode"),  # a second spelling of xn--bbk
            ("xn--u-ccb.example", "does not decode to text in NFC"),  # u and a diaeresis on its own
            ("xn--abc-.example", "starts or ends with a hyphen"),  # ASCII
            ("xn--ib9b.example", "does not decode"),  # to a surrogate
            ("192.0.2.1", "ends in a number"),
            ("*.example.1", "ends in a number"),
            ("7", "ends in a number"),
        ],
    )
    def test_refused(self, text: str, reason: str) -> None:
        """Anything but a host or wildcard name is refused with a reason."""
        with pytest.raises(ValueError, match=reason):
            Identifier.dns(text)

    @pytest.mark.threat("http", "line ends in words of others")
    def test_reason_is_safe_to_print(self) -> None:
        """A reason holds no raw control characters and is not endless, whatever the name is."""
        with pytest.raises(ValueError) as caught:
            Identifier.dns("\r\n\x1b[2J" + "x" * 10_000)
        assert str(caught.value).isprintable()
        assert str(caught.value).isascii()
        assert len(str(caught.value)) < 300

    def test_wildcard(self) -> None:
        """A wildcard name knows its base, which is what the CA looks up."""
        wildcard = Identifier.dns("*.example.org")
        assert wildcard.is_wildcard
        assert wildcard.base == "example.org"

    def test_base_of_plain_name(self) -> None:
        """A name without a wildcard is its own base."""
        plain = Identifier.dns("www.example.org")
        assert not plain.is_wildcard
        assert plain.base == "www.example.org"

    def test_text(self) -> None:
        """An identifier prints as its name."""
        assert str(Identifier.dns("A.example")) == "a.example"


class TestIp:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::1", "::1"),
        ],
    )
    def test_normal_form(self, text: str, value: str) -> None:
        """An IP address is kept in its shortest form."""
        assert Identifier.ip(text) == Identifier(IdentifierType.IP, value)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "not an IP address"),
            ("example.org", "not an IP address"),
            ("192.0.2.0/24", "not an IP address"),
            ("192.0.2.01", "not an IP address"),
            ("[::1]", "not an IP address"),
            ("fe80::1%eth0", "has a scope"),
            ("::ffff:192.0.2.1", "write it as IPv4"),
        ],
    )
    def test_refused(self, text: str, reason: str) -> None:
        """Anything but one address with one spelling is refused with a reason."""
        with pytest.raises(ValueError, match=reason):
            Identifier.ip(text)

    def test_is_no_wildcard(self) -> None:
        """An IP address is never a wildcard and is its own base."""
        assert not Identifier.ip("::1").is_wildcard
        assert Identifier.ip("::1").base == "::1"


class TestGlobMatches:
    @pytest.mark.parametrize(
        ("glob", "name"),
        [
            ("www.example.org", "www.example.org"),
            ("WWW.EXAMPLE.ORG", "www.example.org"),
            ("*.example.org", "www.example.org"),
            ("w*.example.org", "www.example.org"),
            ("*w.example.org", "www.example.org"),
            ("w*w.example.org", "ww.example.org"),
            ("w?w.example.org", "wxw.example.org"),
            ("www.*.org", "www.example.org"),
            ("*.*.org", "www.example.org"),
            ("*", "localhost"),
            ("**.example.org", "www.example.org"),
            ("**.example.org", "a.b.c.example.org"),
            ("**.*.org", "a.example.org"),
            ("**", "localhost"),
            ("**", "a.b.example.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example", "a.xn--bcher-kva.example"),
            ("*.example.org", "*.example.org"),
            ("**.example.org", "*.example.org"),
            ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
            ("☃.example", "xn--n3h.example"),
            ("*.💩.example", "a.xn--ls8h.example"),
            ("xn--ls8h.example", "xn--ls8h.example"),
            ("*.dns.example.org", "*.dns.example.org"),
            ("**.dns.example.org", "*.dns.example.org"),
            ("**.example.org", "*.dns.example.org"),
            ("**.org", "*.a.b.example.org"),
            ("**", "*.example.org"),
            ("**", "*.a.b.example.org"),
        ],
    )
    def test_grants(self, glob: str, name: str) -> None:
        """A glob grants the names that match it label by label."""
        assert Glob.parse(glob).matches(Identifier.dns(name))

    @pytest.mark.threat("csr", "wildcards")
    @pytest.mark.parametrize(
        ("glob", "name"),
        [
            ("example.org", "www.example.org"),
            ("www.example.org", "example.org"),
            ("*.example.org", "example.org"),
            ("*.example.org", "a.b.example.org"),
            ("*.example.org", "www.example.com"),
            ("*", "example.org"),
            ("a*", "a.example.org"),
            ("*org", "example.org"),
            ("w?w.example.org", "ww.example.org"),
            ("www?example.org", "www.example.org"),
            ("**.example.org", "example.org"),
            ("**.example.org", "badexample.org"),
            ("**.example.org", "example.org.evil.example"),
            ("**.a.example.org", "a.example.org"),
            # Wildcard names need exactly their own text, or '**' before their base or a parent of it.
            ("*.*.org", "*.example.org"),
            ("*.example.org", "*.www.example.org"),
            ("**.www.example.org", "*.example.org"),
            ("**.example.org", "*.org"),
            ("**.example.org", "*.badexample.org"),
            ("**.exampl?.org", "*.example.org"),
            ("*", "*.org"),
            ("*.exampl?.org", "*.example.org"),
            ("?.example.org", "*.example.org"),
            ("www.example.org", "*.example.org"),
            ("example.org", "*.example.org"),
        ],
    )
    def test_does_not_grant(self, glob: str, name: str) -> None:
        """A glob grants nothing else; stars never match a dot, nor wildcard names by chance."""
        assert not Glob.parse(glob).matches(Identifier.dns(name))

    @pytest.mark.parametrize("glob", ["**", "*", "*.*.*.*", "**.*", "???.?.?.?"])
    def test_never_an_ip_address(self, glob: str) -> None:
        """No glob grants an IP address."""
        assert not Glob.parse(glob).matches(Identifier.ip("192.0.2.1"))

    def test_many_stars_are_no_trap(self) -> None:
        """A name that almost matches many stars is told apart without endless backtracking."""
        assert not Glob.parse("*a" * 30 + "b.example").matches(Identifier.dns("a" * 63 + ".example"))


class TestSubjectAltNameOption:
    def test_names_of_both_kinds(self) -> None:
        """Names and addresses stand in one option of openssl, in quotes because of the stars."""
        names = [Identifier.dns("*.example.org"), Identifier.dns("a.example"), Identifier.ip("2001:db8::1")]
        assert (
            subject_alt_name_option(names)
            == "-addext 'subjectAltName=DNS:*.example.org,DNS:a.example,IP:2001:db8::1'"
        )


class TestGlobParse:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "a label is empty"),
            ("example.org.", "a label is empty"),
            ("*..org", "a label is empty"),
            ("www.**.org", "whole first label"),
            ("a**.example.org", "whole first label"),
            ("***.example.org", "whole first label"),
            ("[a-z].example.org", "only letters, digits"),
            ("*_.example.org", "can be used"),
            ("*.example.org\n", "only letters, digits"),
            ("b*ü.example", "beside non-ASCII"),
            ("ü?.example", "beside non-ASCII"),
            ("☃\N{ZERO WIDTH JOINER}.example", "no international name"),
            ("xn--a.example", "does not decode"),
            ("-a.example", "hyphen"),
            (f"{LABEL_63}a.example", "longer than 63"),
            (f"*.{NAME_253}", "longer than 253"),
            ("192.0.2.*.1", "not IP addresses"),
            ("10.0.0.1", "not IP addresses"),
        ],
    )
    def test_refused(self, text: str, reason: str) -> None:
        """A glob that is unclear, or can match no name, is refused with a reason."""
        with pytest.raises(ValueError, match=reason):
            Glob.parse(text)

    def test_normal_form(self) -> None:
        """A glob is kept in the normal form of names."""
        assert Glob.parse("*.BÜCHER.Example") == Glob("*.xn--bcher-kva.example")
