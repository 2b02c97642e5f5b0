"""Which records auth blocks need in DNS."""

from __future__ import annotations

import dns.name
import pytest

from acmems.commands.records.facts import AccountFacts
from acmems.commands.records.needed import Comment, DnsRecord, Requirement, plan
from acmems.config import Configuration

ACCOUNT = "https://ca.example/account/1"
SITE = AccountFacts(ACCOUNT, ("ca.example",))
TEXT = """
[account]
dir = x
[verification "dns"]
type = dns01-server
zone = acme.example.net
ns = ns.example.org 192.0.2.9
ns = ns.acme.example.net 192.0.2.1 2001:db8::1
label = {label}
[verification "persist"]
type = dns-persist01
{persist}
[verification "web"]
type = http01
"""
DELEGATION = [
    "acme.example.net. NS ns.example.org.",
    "acme.example.net. NS ns.acme.example.net.",
    "ns.acme.example.net. A 192.0.2.1",
    "ns.acme.example.net. AAAA 2001:db8::1",
]


def planned(
    verification: str, *domains: str, site: AccountFacts = SITE, label: str = "plain", persist: str = ""
) -> list[str]:
    """Return the plan for one auth block, a line each."""
    return [_line(line) for line in _plan(verification, domains, site, label, persist)]


def _plan(
    verification: str, domains: tuple[str, ...], site: AccountFacts, label: str, persist: str
) -> list[Requirement | Comment]:
    text = TEXT.format(label=label, persist=persist)
    text += f'[auth "a"]\nall = yes\nverification = {verification}\n'
    text += "".join(f"domain = {domain}\n" for domain in domains)
    return plan(Configuration.from_text(text).auth.blocks, site)


def _line(line: Requirement | Comment) -> str:
    if isinstance(line, Comment):
        return f"; {line.text}"
    return f"{line.record.name} {line.record.type} {line.record.presentation}"


class TestPlan:
    def test_a_delegation_and_an_alias(self) -> None:
        """The name server of acmems needs the delegation, glue in the zone, and a CNAME a name."""
        assert planned("dns", "www.example.org") == [
            *DELEGATION,
            "_acme-challenge.www.example.org. CNAME www.example.org.acme.example.net.",
        ]

    def test_a_label_of_the_account(self) -> None:
        """With `label = account` the CNAME stands at the account's own name."""
        *_, alias = planned("dns", "www.example.org", label="account")
        label, rest = alias.split(".", 1)
        assert label.startswith("_")
        assert rest == "_acme-challenge.www.example.org. CNAME www.example.org.acme.example.net."

    @pytest.mark.parametrize("glob", ["*.example.org", "**.example.org"])
    def test_an_open_glob(self, glob: str) -> None:
        """A glob in whole labels needs the record of its wildcard, and tells that of names below."""
        assert planned("dns", glob)[len(DELEGATION) :] == [
            "_acme-challenge.example.org. CNAME example.org.acme.example.net.",
            f"; for every NAME that matches {glob}: _acme-challenge.NAME. CNAME NAME.acme.example.net.",
        ]

    @pytest.mark.parametrize("glob", ["**", "w?w.example.org", "**.*.example.org"])
    def test_a_glob_without_a_wildcard(self, glob: str) -> None:
        """A glob that names no base has a pattern only."""
        (line,) = planned("dns", glob)[len(DELEGATION) :]
        assert line.startswith(f"; for every NAME that matches {glob}: ")

    def test_a_record_that_stays(self) -> None:
        """A name has a record, with the wildcard in it where that is granted; names below need none."""
        assert planned("persist", "a.example.org", "b.example.org", "*.b.example.org") == [
            f'_validation-persist.a.example.org. TXT "ca.example; accounturi={ACCOUNT}"',
            f'_validation-persist.b.example.org. TXT "ca.example; accounturi={ACCOUNT}; policy=wildcard"',
        ]

    def test_a_record_of_any_name(self) -> None:
        """Where any name is granted, so is any wildcard, and it is in the record's pattern."""
        (line,) = planned("persist", "**")
        assert line.startswith("; for every NAME that matches **: _validation-persist.NAME. TXT ")
        assert "policy=wildcard" in line

    def test_an_issuer_and_an_end(self) -> None:
        """The configuration's issuer comes before the CA's, and its last day is in the record."""
        (line,) = planned(
            "persist", "a.example.org", persist="issuer = own.example\npersist-until = 2030-12-31"
        )
        assert '"own.example; accounturi=' in line
        assert line.endswith('; persistUntil=1924991999"')

    def test_other_verifications(self) -> None:
        """What needs no record that stays says so, once, whatever it grants."""
        assert planned("web", "a.example.org", "b.example.org") == [
            '; [verification "web"] needs no record that stays'
        ]

    def test_no_account(self) -> None:
        """Records that hold the account's URL cannot be told before there is one."""
        for verification, label in (("persist", "plain"), ("dns", "account")):
            (line,) = {
                line
                for line in _plan(verification, ("a.example.org", "**"), AccountFacts(), label, "")
                if isinstance(line, Comment)
            }
            assert line.fault
            assert "acmems account register" in line.text

    def test_no_account_is_needed(self) -> None:
        """Plain CNAMEs need no account."""
        assert planned("dns", "a.example.org", site=AccountFacts()) == planned("dns", "a.example.org")

    def test_no_issuer(self) -> None:
        """Where nobody names the CA, it is said what to configure, and why."""
        (line,) = planned("persist", "a.example.org", site=AccountFacts(ACCOUNT, (), "the CA is away"))
        assert line.endswith("issuer = … is needed: the CA is away")

    def test_a_name_that_is_too_long(self) -> None:
        """A name that cannot have its record is told and stops no other."""
        long = ".".join(["a" * 60] * 4)
        fault, alias = planned("dns", long, "b.example.org")[len(DELEGATION) :]
        assert "too long" in fault
        assert alias.startswith("_acme-challenge.b.")

    def test_several_blocks(self) -> None:
        """A record that two blocks need is listed once."""
        text = TEXT.format(label="plain", persist="")
        for name in "ab":
            text += f'[auth "{name}"]\nall = yes\nverification = dns, web\ndomain = a.example.org\n'
        lines = [_line(line) for line in plan(Configuration.from_text(text).auth.blocks, SITE)]
        assert len(lines) == len(set(lines)) == len(DELEGATION) + 2

    def test_several_verifications(self) -> None:
        """A record that two verifications need is listed once."""
        second = '[verification "more"]\ntype = dns-persist01'
        (line,) = planned("persist, more", "a.example.org", persist=second)
        assert line.startswith("_validation-persist.a.example.org. TXT")

    def test_several_resolvers(self) -> None:
        """A record that two verifications look for in different places is looked up in both."""
        second = '[verification "more"]\ntype = dns-persist01\nresolver = 192.0.2.53'
        first, other = planned("persist, more", "a.example.org", persist=second)
        assert first == other


class TestDnsRecord:
    def test_a_long_text(self) -> None:
        """A text longer than a string of DNS is split, and nothing of it is lost."""
        shown = DnsRecord(dns.name.from_text("_x.example.org"), "TXT", "a" * 255 + "b").presentation
        assert shown == f'"{"a" * 255}" "b"'
