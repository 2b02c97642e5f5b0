"""What must stand in DNS: planned from blocks, compared with a resolver's answers, printed."""

from __future__ import annotations

from dataclasses import dataclass, field

import dns.name
import pytest

from acmems.commands import records
from acmems.commands.records import (
    AccountFacts,
    Comment,
    Comparison,
    RecordState,
    RequiredRecord,
    Requirement,
)
from acmems.config import Configuration
from acmems.exceptions import ValidatorUnavailable

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
    return records.plan(Configuration.from_text(text).auth.blocks, site)


def _line(line: Requirement | Comment) -> str:
    if isinstance(line, Comment):
        return f"; {line.text}"
    return f"{line.record.name} {line.record.type} {line.record.shown}"


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
        lines = [_line(line) for line in records.plan(Configuration.from_text(text).auth.blocks, SITE)]
        assert len(lines) == len(set(lines)) == len(DELEGATION) + 2

    def test_several_verifications(self) -> None:
        """A record that two verifications need is listed once."""
        second = '[verification "more"]\ntype = dns-persist01'
        (line,) = planned("persist, more", "a.example.org", persist=second)
        assert line.startswith("_validation-persist.a.example.org. TXT")


@dataclass
class FakeResolver:
    """Answers from tables."""

    txt: frozenset[str] = frozenset()
    cname: str | None = None
    ns: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    failure: ValidatorUnavailable | None = None
    asked: list[str] = field(default_factory=list)

    def texts(self, name: dns.name.Name) -> frozenset[str]:
        self._note(name)
        return self.txt

    def target(self, name: dns.name.Name) -> dns.name.Name | None:
        self._note(name)
        return None if self.cname is None else dns.name.from_text(self.cname)

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        self._note(zone)
        return tuple(map(dns.name.from_text, self.ns))

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        self._note(host)
        return self.hosts

    def _note(self, name: dns.name.Name) -> None:
        self.asked.append(str(name))
        if self.failure is not None:
            raise self.failure


def needed(kind: str, data: str) -> Requirement:
    return Requirement(RequiredRecord(dns.name.from_text("a.example.org"), kind, data))


class TestCompare:
    @pytest.mark.parametrize(
        ("line", "resolver", "told"),
        [
            (needed("CNAME", "b.example.org."), FakeResolver(cname="B.example.org"), "in place"),
            (needed("CNAME", "b.example.org."), FakeResolver(), "missing"),
            (
                needed("CNAME", "b.example.org."),
                FakeResolver(cname="c.example.org"),
                "differs: c.example.org.",
            ),
            (needed("NS", "b.example.org."), FakeResolver(ns=("c.example.org", "b.example.org")), "in place"),
            (needed("NS", "b.example.org."), FakeResolver(ns=("c.example.org",)), "differs: c.example.org."),
            (needed("A", "192.0.2.1"), FakeResolver(hosts=("192.0.2.1", "2001:db8::1")), "in place"),
            (needed("A", "192.0.2.1"), FakeResolver(hosts=("2001:db8::1",)), "missing"),
            (needed("AAAA", "2001:db8::1"), FakeResolver(hosts=("2001:db8::1",)), "in place"),
            (
                needed("NS", "b.example.org."),
                FakeResolver(failure=ValidatorUnavailable("nobody\ntells")),
                "unknown: nobody tells",
            ),
        ],
    )
    def test_states(self, line: Requirement, resolver: FakeResolver, told: str) -> None:
        """A record is in place, missing, another one, or nobody tells."""
        assert records.compare(line, resolver).told == told
        assert resolver.asked == ["a.example.org."]

    def test_a_record_that_stays(self) -> None:
        """A TXT record is in place when it allows what is asked for, however it is written."""
        (line,) = _plan("persist", ("*.example.org",), SITE, "plain", "")
        assert isinstance(line, Requirement)
        spaced = f"CA.example ;policy=wildcard;accounturi={ACCOUNT}"
        narrow = f"ca.example; accounturi={ACCOUNT}"
        assert records.compare(line, FakeResolver(txt=frozenset({"x", spaced}))).state is RecordState.IN_PLACE
        assert records.compare(line, FakeResolver(txt=frozenset({narrow}))).told == f"differs: {narrow}"
        assert records.compare(line, FakeResolver()).state is RecordState.MISSING


NAME = dns.name.from_text("_x.example.org")
LINES: list[Comparison | Comment] = [
    Comparison(RequiredRecord(NAME, "TXT", 'a"b; c'), RecordState.IN_PLACE),
    Comparison(RequiredRecord(NAME, "CNAME", "b.example.org."), RecordState.DIFFERS, "c.example.org."),
    Comment("for every NAME"),
    Comment("register first", fault=True),
]


class TestRendering:
    def test_a_zone_file(self) -> None:
        """Piped, each line is one of a zone file, what is no record behind a semicolon."""
        assert records.zone_file(LINES) == [
            r'_x.example.org. TXT "a\"b; c" ; in place',
            "_x.example.org. CNAME b.example.org. ; differs: c.example.org.",
            "; for every NAME",
            "; register first",
        ]

    def test_a_long_text(self) -> None:
        """A text longer than a string of DNS is split, and nothing of it is lost."""
        shown = RequiredRecord(NAME, "TXT", "a" * 255 + "b").shown
        assert shown == f'"{"a" * 255}" "b"'

    def test_a_table(self) -> None:
        """For a person columns are aligned, and without colour there is none."""
        assert records.table(LINES, colour=False) == [
            '_x.example.org.  TXT    "a\\"b; c"       in place',
            "_x.example.org.  CNAME  b.example.org.  differs: c.example.org.",
            "for every NAME",
            "register first",
        ]

    def test_colours(self) -> None:
        """What is in place is green, and what is to be done is red."""
        good, bad, comment, fault = records.table(LINES, colour=True)
        assert good.endswith("\x1b[32min place\x1b[0m")
        assert "\x1b[31mdiffers" in bad
        assert "\x1b" not in comment
        assert fault.startswith("\x1b[31m")

    @pytest.mark.parametrize("line", LINES)
    def test_completeness(self, line: Comparison | Comment) -> None:
        """Only records in place and plain remarks leave nothing to do."""
        assert records.is_complete([line]) is (line in (LINES[0], LINES[2]))
