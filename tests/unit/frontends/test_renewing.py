"""Chains are ordered anew before their clients ask, as far as the policy of today still grants them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.auth_blocks import OneOfEach
from tests.chains import make_request
from tests.fake_ca import CA, FakeSession, Said, Time
from tests.issuing import IDENTITY, House

from acmems.auth import Block
from acmems.auth.processor import Authenticator
from acmems.exceptions import CAUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.history import RecordedHistory
from acmems.frontends.renewing import AheadRenewal, RenewalQuestions
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.renewal.planner import NotRenewable
from acmems.state.acme.certificates import AccountCertificate, AccountCertificates
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps import Steps

NAME = "www.example.org"
DOMAINS = (("all", "yes"), ("domain", "*.example.org"))
DAY = datetime.timedelta(days=1)


class Site:
    """A state with one chain that a client has got, and what renews it.

    Attributes:
        ahead: how far the clock of what renews is ahead.
    """

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.chains = ChainRecords(database)
        history = RecordedHistory(self.chains, IDENTITY, SYSTEM)
        self.house = House(history=history)
        self.house.storage.renews_ahead = True
        self.request = make_request(NAME)
        accepted = self.house.accept(self.request, block="b", client="192.0.2.1")
        self.first = self.house.issuance.issue(accepted).result(30).chain
        self.ahead = 0 * DAY
        self.allow("b", *DOMAINS)

    def allow(self, name: str, *pairs: tuple[str, str]) -> None:
        """Let the policy be one block."""
        place = OneOfEach()
        place.default_storage = self.house.storage
        policy = SigningPolicy(Authenticator((Block(name, pairs, place),)), 60.0, "dropped")
        clock = Clock(now=lambda: SYSTEM.now() + self.ahead)
        certificates = AccountCertificates(self.database)
        self.renewing = AheadRenewal(self.chains, lambda: policy, self.house.issuances, clock, certificates)

    @property
    def newest(self) -> ChainRecord:
        """The chain to renew."""
        self.database.write(lambda _: None).result(20)
        found = self.chains.newest(self.house.issuance.key(self.request).digest)
        assert found is not None
        return found

    def renew(self, record: ChainRecord | None = None) -> None:
        """Renew it, and wait for the end."""
        self.renewing(record or self.newest, False).result(30)

    @property
    def orders(self) -> int:
        return len(self.house.authority.orders)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    site = Site(database)
    yield site
    site.house.close()
    database.close()


def test_it_is_renewed(site: Site) -> None:
    """Its storage has a new chain, though the one before was fresh; the client gets that one."""
    site.renew()
    assert site.newest.fingerprint != site.first.fingerprint
    found = site.house.ask(site.request)
    assert (found.source, found.chain.fingerprint) == ("stored", site.newest.fingerprint)
    assert site.orders == 2


@pytest.mark.parametrize(
    ("block", "pairs", "reason"),
    [
        ("other", DOMAINS, r"there is no \[auth 'b'\] any more"),
        ("b", (("all", "yes"), ("domain", "*.example.com")), "does not grant www.example.org any more"),
    ],
    ids=["no such block", "not this name"],
)
def test_what_policy_does_not_grant_any_more(
    site: Site, block: str, pairs: tuple[tuple[str, str], ...], reason: str
) -> None:
    """It is not renewed."""
    site.allow(block, *pairs)
    with pytest.raises(NotRenewable, match=reason):
        site.renew()
    assert site.orders == 1


def test_a_storage_that_renews_when_asked(site: Site) -> None:
    """It is left to the client."""
    site.house.storage.renews_ahead = False
    with pytest.raises(NotRenewable, match="renew = asked"):
        site.renew()
    assert site.orders == 1


def test_a_block_that_has_names_proved(site: Site) -> None:
    """A name may belong to another machine by now: that is for the client to show."""
    site.allow("b", *DOMAINS, ("prove", "http-01"))
    with pytest.raises(NotRenewable, match="to be proved"):
        site.renew()
    assert site.orders == 1


def test_a_chain_of_which_too_little_is_known(site: Site) -> None:
    """It is left to the client."""
    for record in (dataclasses.replace(site.newest, csr=None), dataclasses.replace(site.newest, block=None)):
        with pytest.raises(NotRenewable, match="who may have it is not known"):
            site.renew(record)


def test_another_ca_by_now(site: Site) -> None:
    """A chain of another CA, or profile, is not renewed at this one."""
    with pytest.raises(NotRenewable, match="from another CA"):
        site.renew(dataclasses.replace(site.newest, identity="another"))


def test_a_client_that_is_gone(site: Site) -> None:
    """What was renewed ahead is no sign of it: after a lifetime without a question it ends."""
    site.ahead = 60 * DAY
    site.renew()
    site.ahead = 120 * DAY
    with pytest.raises(NotRenewable, match="has not asked"):
        site.renew()
    assert site.orders == 2
    site.chains.asked(site.newest.fingerprint, "192.0.2.1", SYSTEM.now() + site.ahead)
    site.chains.save_asked()
    site.renew()
    assert site.orders == 3


def test_a_failure(site: Site) -> None:
    """It is passed on, and no stored chain is taken for a new one."""
    site.house.authority.error = CAUnavailable("down")
    with pytest.raises(CAUnavailable):
        site.renew()


def test_what_an_acme_client_has_got_is_left_to_it(site: Site) -> None:
    """It asks itself when it is due, most often for another key: two certificates would be one too many."""
    mine = AccountCertificate(site.first.fingerprint, "account", "aki.serial", 0)
    site.database.write(functools.partial(AccountCertificates.put, certificate=mine)).result(20)
    with pytest.raises(NotRenewable, match="an ACME client has got it"):
        site.renew()
    assert site.orders == 1


class FakeIssuer:
    """Asks a CA that answers each question in the same way.

    Args:
        answer: what it says.
    """

    def __init__(self, answer: object) -> None:
        self.time = Time()
        self.session = FakeSession({f"{CA}/renewal-info/x": [answer]})
        self.session.resources["renewalInfo"] = f"{CA}/renewal-info"
        self.client = self
        self.clock = Clock(monotonic=lambda: self.time.seconds)

    def run(self, steps: Steps[None]) -> None:
        self.time.loop().run(steps)


def test_a_ca_that_is_not_asked_about_all() -> None:
    """Each question has an answer, so that those of another CA have their turn; it is asked a few times."""
    down, up = FakeIssuer(CAUnavailable("down")), FakeIssuer(Said({}))
    issuers = {"https://a.example/directory": down, "https://b.example/directory": up}
    questions = [
        RenewalQuestion(f"{directory}{number}", directory, "x", 2**31)
        for directory in issuers
        for number in range(100)
    ]
    answers = RenewalQuestions(cast("dict[str, AcmeIssuer]", issuers))(questions)
    assert sorted(question.fingerprint for question, _ in answers) == sorted(
        each.fingerprint for each in questions
    )
    assert {type(answer) for question, answer in answers if question.directory.startswith("https://a")} == {
        CAUnavailable
    }
    assert (len(down.session.gets), len(up.session.gets)) == (16, 100)
