"""A request goes to the first CA of its block's list that works and issues what is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.chains import make_request
from tests.issuing import Authority, House, Memory

from acmems.events import Bus, IssuedEvent, RequestedEvent
from acmems.exceptions import (
    AccountError,
    AcmeException,
    CaaRefusal,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    DeadlinePassed,
    InvalidDomainName,
    LimitReached,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    PreCheckFailed,
    RateLimited,
    ValidatorUnavailable,
)
from acmems.issuers import breaker
from acmems.issuing.failover import issuances as failover
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.issuing.requests import Delivery
from acmems.storages import IssuerIdentity, MemoryStorage
from acmems.system.clock import SYSTEM
from acmems.system.steps import StepLoop
from acmems.x509.csr import CertificateRequest

NAME = "www.example.org"
DOWN = CAUnavailable("connection refused")


class TwoCAs:
    """Two accounts, `""` and `b`, each at a CA of its own, and a storage that both use."""

    def __init__(self) -> None:
        self.house = House(SYSTEM)
        self.first = self.house.authority
        self.loop = StepLoop(SYSTEM)
        self.second = Authority(self.loop)
        self.second.key_digest = "the second account's"
        self.events = self.house.events
        bus = Bus()
        bus.subscribe(self.events.append)
        self.storage = MemoryStorage("memory")
        identity = IssuerIdentity("https://b.example.org/directory", None)
        self.other = Issuance(self.second, identity, bus, clock=SYSTEM)
        self.issuances = Issuances({"": self.house.issuance, "b": self.other}, SYSTEM)

    def ask(self, request: CertificateRequest, **fields: Any) -> Delivery:
        fields = {"storage": self.storage, "issuers": ("", "b"), **fields}
        return self.issuances.issue(self.house.accept(request, **fields)).result(30)

    def error(self, request: CertificateRequest, **fields: Any) -> AcmeException:
        with pytest.raises(AcmeException) as raised:
            self.ask(request, **fields)
        return raised.value

    @property
    def orders(self) -> tuple[int, int]:
        return len(self.first.orders), len(self.second.orders)

    def close(self) -> None:
        self.second.go.set()
        self.house.close()
        self.other.close(SYSTEM.deadline(0))
        self.loop.close()


@pytest.fixture
def cas() -> Iterator[TwoCAs]:
    made = TwoCAs()
    yield made
    made.close()


def test_the_first_that_works(cas: TwoCAs) -> None:
    """While the first works the second is not asked."""
    assert cas.ask(make_request(NAME)).source == "issued"
    assert cas.orders == (1, 0)


@pytest.mark.parametrize(
    "error",
    [
        DOWN,
        CAProtocolError("no JSON"),
        CAProblem(500, "urn:ietf:params:acme:error:serverInternal", "oops"),
        RateLimited("too many", retry_after=3600.0),
        LimitReached("full", limit="orders", subject="", used=2, most=2, retry_after=60.0),
        AccountError("deactivated"),
        InvalidDomainName(NAME, "not here"),
        CaaRefusal(
            *(NAME, "no record names it"),
            found_at=NAME,
            records=[],
            remedy="",
            retry_after=60.0,
            is_for_all=True,
        ),
        NoChallengeMethodsSupported("only dns-01"),
        PayloadInvalid("no such keys here"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_another_ca_may_do(cas: TwoCAs, error: AcmeException) -> None:
    """It is asked, and its chain is delivered; one request is told of, and one certificate."""
    cas.first.error = error
    assert cas.ask(make_request(NAME)).source == "issued"
    assert cas.orders == (1, 1)
    assert [type(event) for event in cas.events].count(RequestedEvent) == 1
    [issued] = [event for event in cas.events if isinstance(event, IssuedEvent)]
    assert issued.directory == "https://b.example.org/directory"


@pytest.mark.parametrize(
    "error",
    [
        ChallengeFailed("http-01", NAME, "404"),
        ValidatorUnavailable("the name server does not answer"),
        DeadlinePassed("late"),
        PreCheckFailed(NAME, "it has no address", retry_after=60.0, is_for_all=False),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_no_other_ca_does_better(cas: TwoCAs, error: AcmeException) -> None:
    """The other one is not troubled with it."""
    cas.first.error = error
    assert isinstance(cas.error(make_request(NAME)), type(error))
    assert cas.orders == (1, 0)


def test_a_request_for_one_ca(cas: TwoCAs) -> None:
    """It is left to that, whatever becomes of it."""
    cas.first.error = DOWN
    assert str(cas.error(make_request(NAME), issuers=("",))) == "connection refused"
    assert cas.ask(make_request("b.example.org"), issuers=("b",)).source == "issued"
    assert cas.orders == (1, 1)


def test_a_ca_that_is_down_is_skipped(cas: TwoCAs) -> None:
    """The next request does not wait for it."""
    cas.first.error = DOWN
    cas.ask(make_request("a.example.org"))
    cas.ask(make_request("b.example.org"))
    assert cas.orders == (1, 2)


def test_only_who_needs_it_tries_a_ca(cas: TwoCAs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first has issued is no try of the second, whose turn to be tried has come."""
    monkeypatch.setattr(breaker, "FIRST_SECONDS", 0.0)
    cas.other.breaker.trip()
    cas.ask(make_request("a.example.org"))
    cas.first.error = RateLimited("too many", retry_after=3600.0)
    cas.ask(make_request("b.example.org"))
    assert cas.orders == (2, 1)
    assert not cas.other.breaker.is_open


def test_a_limit_skips_nobody_else(cas: TwoCAs) -> None:
    """Another request goes to the CA that has limited this one."""
    cas.first.errors = [RateLimited("too many for a.example.org", identifiers=["a.example.org"])]
    cas.ask(make_request("a.example.org"))
    cas.ask(make_request("b.example.org"))
    assert cas.orders == (2, 1)


def test_going_back_orders_nothing(cas: TwoCAs) -> None:
    """What the second has issued serves until it is due, though the first works again."""
    cas.first.errors = [DOWN]
    request = make_request(NAME)
    chain = cas.ask(request).chain
    cas.house.issuance.breaker.note(None)
    again = cas.ask(request)
    assert (again.source, again.chain.fingerprint) == ("stored", chain.fingerprint)
    assert cas.orders == (1, 1)


def test_a_chain_of_the_other_is_no_answer_for_one(cas: TwoCAs) -> None:
    """Who may have only the first one's chains does not get those of the second."""
    cas.first.errors = [DOWN]
    request = make_request(NAME)
    cas.ask(request)
    assert cas.ask(request, issuers=("",), block="c").source == "issued"
    assert cas.orders == (2, 1)


def test_all_have_failed(cas: TwoCAs) -> None:
    """The answer tells of each, and is of the kind that passes first."""
    cas.first.error = RateLimited("too many", retry_after=3600.0)
    cas.second.error = CAUnavailable("refused", retry_after=20.0)
    error = cas.error(make_request(NAME))
    assert isinstance(error, CAUnavailable)
    assert str(error) == '[account]: too many; [account "b"]: refused'
    assert error.retry_after == 20.0


def test_all_are_down(cas: TwoCAs) -> None:
    """They are tried all the same: it may be this server's network that was away."""
    cas.first.error = cas.second.error = DOWN
    cas.error(make_request("a.example.org"))
    cas.first.error = None
    assert cas.ask(make_request("b.example.org")).source == "issued"
    assert cas.orders == (2, 1)


@pytest.mark.parametrize("due", ["", "b"], ids=["of the first", "of the second"])
def test_a_stored_chain_where_all_fail(cas: TwoCAs, due: str) -> None:
    """One that is due is delivered, whoever has issued it."""
    cas.first.days = cas.second.days = 2
    request = make_request(NAME)
    chain = cas.ask(request, issuers=(due,), block="x").chain
    cas.storage.renew_within = chain.not_after - chain.not_before
    cas.first.error = cas.second.error = DOWN
    delivery = cas.ask(request)
    assert (delivery.source, delivery.chain.fingerprint) == ("stale", chain.fingerprint)
    assert isinstance(cas.error(request, takes_stale=False), CAUnavailable), "unless that is of no use"


def test_who_asks_for_the_same_joins(cas: TwoCAs) -> None:
    """A request joins the order that runs, though its CA is to be skipped by now."""
    cas.first.go.clear()
    request = make_request(NAME)
    accepted = cas.house.accept(request, storage=cas.storage, issuers=("", "b"))
    one = cas.issuances.issue(accepted)
    while not cas.first.orders:
        threading.Event().wait(0.01)
    cas.house.issuance.breaker.trip()
    other = cas.issuances.issue(accepted)
    cas.first.go.set()
    assert one.result(30).chain.fingerprint == other.result(30).chain.fingerprint
    assert cas.orders == (1, 0)


def test_a_ca_that_falls_silent(cas: TwoCAs, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has begun there is not waited for."""
    monkeypatch.setattr(failover, "LOOK_SECONDS", 0.01)
    cas.first.go.clear()
    cas.first.silence = failover.SILENCE_SECONDS
    assert cas.ask(make_request(NAME)).source == "issued"
    assert cas.orders == (1, 1)
    assert cas.house.issuance.breaker.is_open


def test_the_key_of_any_account(cas: TwoCAs) -> None:
    """It gets a certificate from none."""
    request = make_request(NAME)
    cas.second.key_digest = request.key_digest
    with pytest.raises(PayloadInvalid, match="public key of the ACME account"):
        cas.ask(request)
    assert cas.orders == (0, 0)


def test_a_storage_elsewhere(cas: TwoCAs) -> None:
    """What a database holds of either CA is found."""
    storage = Memory(is_local=False)
    cas.first.errors = [DOWN]
    request = make_request(NAME)
    chain = cas.ask(request, storage=storage).chain
    again = cas.ask(request, storage=storage)
    assert (again.source, again.chain.fingerprint) == ("stored", chain.fingerprint)


def test_identities(cas: TwoCAs) -> None:
    """What makes requests the same differs from CA to CA."""
    accepted = cas.house.accept(make_request(NAME), issuers=("b", ""))
    found = cas.issuances.identities(accepted)
    assert list(found.values()) == ["b", ""]


def test_all_together(cas: TwoCAs) -> None:
    """Their work is added up, and all take part in a stop."""
    assert cas.issuances.workload.most == 2 * cas.other.workload.most
    cas.issuances.drain(SYSTEM.deadline(0))
    assert isinstance(cas.error(make_request(NAME)), CAUnavailable)
