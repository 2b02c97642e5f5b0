"""What is in DNS, compared with what must be."""

from __future__ import annotations

from dataclasses import dataclass, field

import dns.name
import pytest

from acmems.commands.records import lookup
from acmems.commands.records.facts import AccountFacts
from acmems.commands.records.lookup import (
    Comparison,
    RecordState,
    combined,
    compare,
    is_complete,
    needed_by_accounts,
)
from acmems.commands.records.needed import Comment, DnsRecord, Requirement, plan
from acmems.config import Configuration
from acmems.exceptions import ValidatorUnavailable

ACCOUNT = "https://ca.example/account/1"


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
    return Requirement(DnsRecord(dns.name.from_text("a.example.org"), kind, data))


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
        assert compare(line, resolver).description == told
        assert resolver.asked == ["a.example.org."]

    def test_a_record_that_stays(self) -> None:
        """A TXT record is in place when it allows what is asked for, however it is written."""
        text = (
            "[account]\ndir = x\n"
            '[verification "persist"]\ntype = dns-persist01\n'
            '[auth "a"]\nall = yes\ndomain = *.example.org\n'
        )
        (line,) = plan(Configuration.from_text(text).auth.blocks, AccountFacts(ACCOUNT, ("ca.example",)))
        assert isinstance(line, Requirement)
        spaced = f"CA.example ;policy=wildcard;accounturi={ACCOUNT}"
        narrow = f"ca.example; accounturi={ACCOUNT}"
        assert compare(line, FakeResolver(txt=frozenset({"x", spaced}))).state is RecordState.IN_PLACE
        assert compare(line, FakeResolver(txt=frozenset({narrow}))).description == f"differs: {narrow}"
        assert compare(line, FakeResolver()).state is RecordState.MISSING


NAME = dns.name.from_text("_x.example.org")
GOOD = Comparison(DnsRecord(NAME, "TXT", "a"), RecordState.IN_PLACE)
BAD = Comparison(DnsRecord(NAME, "TXT", "a"), RecordState.MISSING)
OTHER = Comparison(DnsRecord(NAME, "TXT", "b"), RecordState.DIFFERS, "c")


class TestCombined:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ([GOOD, OTHER], [GOOD, OTHER]),
            ([GOOD, GOOD], [GOOD]),
            ([GOOD, BAD], [BAD]),
            ([BAD, GOOD], [BAD]),
            ([OTHER, Comment("a"), BAD, Comment("a")], [OTHER, Comment("a"), BAD]),
        ],
    )
    def test_each_once(self, lines: list[Comparison | Comment], expected: list[Comparison | Comment]) -> None:
        """A record that one resolver does not know is not in place, whoever else knows it."""
        assert combined(lines) == expected


@pytest.mark.parametrize(
    ("line", "complete"),
    [(GOOD, True), (BAD, False), (OTHER, False), (Comment("a"), True), (Comment("a", fault=True), False)],
)
def test_completeness(line: Comparison | Comment, complete: bool) -> None:
    """Only records in place and plain remarks leave nothing to do."""
    assert is_complete([line]) is complete


def test_each_account_that_orders_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that names the account is needed for each of them; an account without blocks needs none."""
    config = Configuration.from_text(
        '[account]\ndir = /a\n[account "b"]\ndir = /b\n[account "c"]\ndir = /c\n'
        '[verification "persist"]\ntype = dns-persist01\n'
        '[auth "both"]\nall = yes\ndomain = both.example.org\nissuer = , b\n'
        '[auth "one"]\nall = yes\ndomain = one.example.org\n'
    )
    monkeypatch.setattr(
        lookup,
        "account_facts",
        lambda account, _: AccountFacts(f"https://ca.example{account.dir}", ("ca.example",)),
    )
    needed = needed_by_accounts(config)
    assert all(isinstance(line, Requirement) for line in needed)
    records = [line.record for line in needed if isinstance(line, Requirement)]
    assert [(str(each.name).split(".")[1], "example/b" in each.presentation) for each in records] == [
        ("both", False),
        ("one", False),
        ("both", True),
    ]
