"""What becomes of a name by what the DNS says of it."""

from __future__ import annotations

import dns.name
import pytest

from acmems.dns.authority.statement import Statement
from acmems.dns.caa.policy import Applicant, CaaPolicy, CaaRecord
from acmems.exceptions import CaaRefusal, PreCheckFailed
from acmems.issuers.acme.prechecks.facts import unregistered_domain
from acmems.issuers.acme.prechecks.judging import NameFacts, Prospect, prospect
from acmems.x509.identifiers import Identifier

NAME, WILDCARD = Identifier.dns("www.example.org"), Identifier.dns("*.example.org")
APPLICANT = Applicant(("ca.example", "other.ca.example"), "https://ca.example/account/1")
HTTP, DNS, TLS = "http-01", "dns-01", "tls-alpn-01"


def caa(*values: str, tag: str = "issue", seconds: float = 300.0) -> CaaPolicy:
    return CaaPolicy("example.org", tuple(CaaRecord(0, tag, each) for each in values), seconds)


def refused(facts: NameFacts, *methods: str, identifier: Identifier = NAME) -> PreCheckFailed:
    found = prospect(identifier, facts, methods, APPLICANT)
    assert found.error is not None
    assert not found.excluded
    return found.error


@pytest.mark.parametrize(
    ("facts", "methods", "excluded"),
    [
        (NameFacts(), (HTTP,), set()),
        (NameFacts(caa("ca.example"), is_addressed=True), (HTTP, DNS), set()),
        (NameFacts(caa("other.ca.example")), (HTTP,), set()),
        (NameFacts(caa("ca.example; validationmethods=dns-01")), (HTTP, DNS), {HTTP}),
        (NameFacts(is_addressed=False), (HTTP, TLS, DNS), {HTTP, TLS}),
        (NameFacts(is_addressed=False), (DNS,), set()),
        (NameFacts(caa("ca.example; validationmethods=dns-01"), is_addressed=False), (TLS, DNS), {TLS}),
        (NameFacts(caa("stranger.example"), is_addressed=False, unregistered="example.org"), (), set()),
    ],
)
def test_what_is_left(facts: NameFacts, methods: tuple[str, ...], excluded: set[str]) -> None:
    """What would fail is excluded where something else need not; what nothing proves is not judged."""
    assert prospect(NAME, facts, methods, APPLICANT) == Prospect(frozenset(excluded))


def test_a_ca_that_does_not_tell_its_names() -> None:
    """Records say nothing about a CA of which it is not known by what names it is meant."""
    assert prospect(NAME, NameFacts(caa(";")), (HTTP,), Applicant(())) == Prospect()


class TestCaa:
    def test_another_ca(self) -> None:
        """It is told which records stand where, and which one to add."""
        error = refused(NameFacts(caa("stranger.example")), HTTP)
        assert isinstance(error, CaaRefusal)
        assert str(error) == (
            "www.example.org: no certificate was ordered, because the CAA records of example.org do not name "
            'the CA (ca.example or other.ca.example): 0 issue "stranger.example"; add the record '
            'example.org. CAA 0 issue "ca.example"'
        )
        assert error.remedy == 'example.org. CAA 0 issue "ca.example"'
        assert (error.domain, error.found_at) == ("www.example.org", "example.org")
        assert error.records == ('0 issue "stranger.example"',)
        assert error.is_for_all

    def test_a_wildcard(self) -> None:
        """`issuewild` counts for it."""
        facts = NameFacts(caa(";", tag="issuewild"))
        error = refused(facts, DNS, identifier=WILDCARD)
        assert isinstance(error, CaaRefusal)
        assert error.remedy == 'example.org. CAA 0 issuewild "ca.example"'
        assert prospect(NAME, facts, [DNS], APPLICANT) == Prospect()

    @pytest.mark.parametrize(
        ("parameters", "words", "remedy"),
        [
            (
                "accounturi=https://ca.example/account/2",
                "for another account only",
                "accounturi=https://ca.example/account/1",
            ),
            (
                "validationmethods=dns-01",
                "validate by http-01 or tls-alpn-01",
                "validationmethods=http-01,tls-alpn-01",
            ),
        ],
    )
    def test_our_ca_for_others(self, parameters: str, words: str, remedy: str) -> None:
        """It is told if only the account, or the verification, is not allowed; others may be."""
        error = refused(NameFacts(caa(f"ca.example; {parameters}")), HTTP, TLS)
        assert isinstance(error, CaaRefusal)
        assert words in str(error)
        assert error.remedy == f'example.org. CAA 0 issue "ca.example; {remedy}"'
        assert not error.is_for_all

    def test_what_no_ca_knows(self) -> None:
        """There is nothing to add, but something to remove."""
        policy = CaaPolicy(
            "example.org", (CaaRecord(128, "tbs", "x"), CaaRecord(0, "iodef", "mailto:a@b.example"))
        )
        error = refused(NameFacts(policy), HTTP)
        assert isinstance(error, CaaRefusal)
        assert error.remedy == ""
        assert str(error).endswith(
            "correct or remove that record; the owner of the domain wants reports at mailto:a@b.example"
        )

    @pytest.mark.parametrize(("ttl", "seconds"), [(0, 1), (30, 30), (86400, 60)])
    def test_when_to_ask_again(self, ttl: float, seconds: float) -> None:
        """After the time to live, but within a minute: whoever corrects records does not want to wait."""
        assert refused(NameFacts(caa(";", seconds=ttl)), HTTP).retry_after == seconds


class TestAddresses:
    def test_no_address(self) -> None:
        """It is told by what the CA would have come; another verification may work."""
        error = refused(NameFacts(is_addressed=False, seconds=5), HTTP, TLS)
        assert str(error) == (
            "www.example.org: no certificate was ordered, because its name servers say that it has no "
            "address (neither A nor AAAA), and the CA needs one to validate it by http-01 or tls-alpn-01: "
            "add its address to the DNS, or use a verification by DNS"
        )
        assert (error.is_for_all, error.retry_after) == (False, 5)

    def test_what_caa_leaves(self) -> None:
        """A name without an address cannot be proved by what its records allow."""
        facts = NameFacts(caa("ca.example; validationmethods=http-01"), is_addressed=False)
        assert "no address" in str(refused(facts, HTTP, DNS))

    def test_no_domain(self) -> None:
        """Where the domain does not exist, no verification helps."""
        error = refused(NameFacts(is_addressed=False, unregistered="example.org"), HTTP, DNS)
        assert "the name servers above example.org say that there is no such domain" in str(error)
        assert error.is_for_all


@pytest.mark.parametrize(
    ("text", "zone", "exists", "domain"),
    [
        ("www.example.org", "org", False, "example.org"),
        ("example.org", "org", False, "example.org"),
        ("a.www.example.co.uk", "co.uk", False, "example.co.uk"),
        ("www.example.org", "example.org", False, None),
        ("www.example.org", "org", True, None),
        ("www.example.co.uk", "uk", False, None),
        ("example.github.io", "github.io", False, None),
        ("printer.lan", "lan", False, None),
        ("org", "org", True, None),
    ],
)
def test_domains_that_are_not_registered(text: str, zone: str, exists: bool, domain: str | None) -> None:
    """Only those of a public suffix can tell; within a zone of somebody's own, names come and go."""
    name = dns.name.from_text(text)
    found = Statement((), exists, name, dns.name.from_text(zone), 60.0)
    assert unregistered_domain(name, found) == domain


def test_where_a_cname_leads_to_nowhere() -> None:
    """That the target's domain is not registered says nothing of the name's own."""
    target = dns.name.from_text("gone.org")
    found = Statement((), False, target, dns.name.from_text("org"), 60.0)
    assert unregistered_domain(dns.name.from_text("www.example.org"), found) is None
