"""What would become of orders for the names of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest

from acmems.commands.records import forecast, table, zone_file
from acmems.commands.records.facts import AccountFacts
from acmems.commands.records.forecast import NameForecast, caa_lines, forecasts, is_hopeless
from acmems.config import Configuration
from acmems.dns.authority.statement import AuthoritativeAnswer
from acmems.exceptions import ValidatorUnavailable
from acmems.system.clock import Deadline
from acmems.x509.identifiers import Identifier

FACTS = AccountFacts("https://ca.example/account/1", ("ca.example",))
CONFIG = """
[account]
dir = /var/lib/acmems
acme-server = https://ca.example/directory
{account}
[verification "http"]
type = http01
[verification "dns"]
type = dns01-dnsUpdate
[auth "web"]
all = yes
domain = {domains}
{issuer}
verification = http, dns
[auth "addresses"]
all = yes
address = 192.0.2.1
verification = http
"""
NAMES = {
    "closed.example.org": '0 issue "other.example"',
    "critical.example.org": '128 tbs "x"',
    "wild.example.org": '0 issuewild ";"',
}


class Site:
    """Has authority for example.org, and knows nothing else."""

    is_suspended = False

    def ask(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, deadline: Deadline
    ) -> AuthoritativeAnswer:
        text = name.to_text(omit_final_dot=True)
        if not text.endswith("example.org"):
            raise ValidatorUnavailable(f"nobody tells {text}")
        message = dns.message.Message()
        message.flags |= dns.flags.AA
        if kind == dns.rdatatype.CAA and text in NAMES:
            message.answer.append(dns.rrset.from_text(name, 60, "IN", "CAA", NAMES[text]))
        return AuthoritativeAnswer(message, dns.name.from_text("example.org"))


Configured = Callable[..., Configuration]


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Configured:
    """Read a configuration for some names; what it looks up is told by a site that is none."""

    def configured(
        *domains: str, account: str = "pre-check = caa", facts: AccountFacts = FACTS, issuer: str = ""
    ) -> Configuration:
        monkeypatch.setattr(forecast, "authorities_for", lambda *_: Site())
        monkeypatch.setattr(forecast, "applicant_facts", lambda _: facts)
        text = CONFIG.format(account=account, issuer=issuer, domains="\ndomain = ".join(domains))
        return Configuration.from_text(text)

    return configured


def lines(config: Configuration) -> list[str]:
    return zone_file(caa_lines(config))


def outcomes(config: Configuration, *names: str) -> Sequence[tuple[str, str]]:
    asked = [(Identifier.dns(each), config.auth.blocks[0]) for each in names]
    return [(each.outcome, each.words) for each in forecasts(config, asked)]


class TestRecords:
    """`acmems check --records`."""

    def test_what_is_to_be_added(self, configured: Configured) -> None:
        """Records to add are lines of a zone file, each once; what cannot be mended so is a comment."""
        found = caa_lines(
            configured(
                "a.closed.example.org", "b.closed.example.org", "critical.example.org", "*.wild.example.org"
            )
        )
        assert zone_file(found) == [
            'closed.example.org. CAA 0 issue "ca.example" ; differs: 0 issue "other.example"',
            (
                "; critical.example.org: refused: the CAA records of "
                "critical.example.org contain a critical property that no CA knows, so that none may issue: "
                '128 tbs "x"; correct or remove that record'
            ),
            'wild.example.org. CAA 0 issuewild "ca.example" ; differs: 0 issuewild ";"',
        ]
        assert len(table(found, colour=False)) == 3

    def test_what_is_good(self, configured: Configured) -> None:
        """Names that may have certificates need no line, nor do addresses, and open globs have no names."""
        assert lines(configured("open.example.org", "*.open.example.org", "a*.closed.example.org")) == []

    def test_what_is_not_known(self, configured: Configured) -> None:
        """It is told in one line for all names with the same reason, and is no fault."""
        facts = AccountFacts(FACTS.account_url, no_issuers="the CA is down")
        names = [f"n{number}.example.org" for number in range(7)]
        (line,) = lines(configured(*names, facts=facts))
        assert line == (
            "; not known whether the CA may issue for n0.example.org, n1.example.org, n2.example.org, "
            "n3.example.org, n4.example.org and 2 more: CAA: the CA is down"
        )
        (line,) = lines(configured("www.example.net"))
        assert line.endswith("www.example.net: CAA: nobody tells www.example.net")

    @pytest.mark.parametrize("account", ["pre-check = none", "pre-check = addresses"])
    def test_what_is_not_wanted(self, configured: Configured, account: str) -> None:
        """Nothing is told of records that the server does not look at."""
        assert lines(configured("closed.example.org", account=account)) == []


class TestSeveralCas:
    """A block may have several CAs, of which each has its own names."""

    FURTHER = 'pre-check = caa\n[account "b"]\ndir = /var/lib/b\nacme-server = https://b.example/directory'

    def test_names(self, configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told for each account, and hopeless only if none would get a certificate."""
        config = configured("**", account=self.FURTHER, issuer="issuer = , b")
        names = {"": ("ca.example",), "b": ("other.example",)}
        monkeypatch.setattr(
            forecast, "applicant_facts", lambda account: AccountFacts(None, names[account.name])
        )
        asked = [(Identifier.dns("closed.example.org"), config.auth.blocks[0])]
        first, second = forecasts(config, asked)
        assert first.words.startswith("closed.example.org by [account]: refused: ")
        assert second.words == 'closed.example.org by [account "b"]: allowed'
        assert second.document["account"] == '[account "b"]'
        assert not is_hopeless([first, second])
        assert is_hopeless([first])


class TestNames:
    """`acmems explain --dns`."""

    def test_outcomes(self, configured: Configured) -> None:
        """Each name is allowed, refused with what to do, or not known with the reason."""
        config = configured("**", account="pre-check = all")
        allowed, refused, unknown = outcomes(
            config, "open.example.org", "closed.example.org", "www.example.net"
        )
        assert allowed == ("allowed", "open.example.org: allowed")
        assert refused[0] == "refused"
        assert refused[1].endswith('add the record closed.example.org. CAA 0 issue "ca.example"')
        assert unknown == (
            "unknown",
            (
                "www.example.net: unknown (addresses: nobody tells www.example.net; CAA: nobody tells "
                "www.example.net)"
            ),
        )

    def test_a_ca_without_names(self, configured: Configured) -> None:
        """Where the CA does not tell its names, records say nothing."""
        config = configured("**", facts=AccountFacts())
        assert outcomes(config, "closed.example.org") == [
            ("unknown", "closed.example.org: unknown (CAA: the CA does not tell its names (caaIdentities))")
        ]

    def test_what_is_in_no_dns(self, configured: Configured) -> None:
        """IP addresses are left out."""
        config = configured("**")
        asked = [(Identifier.ip("192.0.2.1"), config.auth.blocks[1])]
        assert forecasts(config, asked) == []

    def test_documents(self) -> None:
        """A name that is allowed has no reason."""
        found = NameForecast(Identifier.dns("a.example.org"))
        assert found.document == {
            "name": "a.example.org",
            "account": None,
            "outcome": "allowed",
            "reason": None,
        }
