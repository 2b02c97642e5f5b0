"""The ledger of an account, on a real state."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from acmems.exceptions import LimitReached
from acmems.issuing.limits.charges import Renewal
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.ledger import Ledger, Reservation
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

START = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
ACCOUNT = "https://ca.example/account/1"
NEW = Renewal()


class Hands:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def move(self, **by: float) -> None:
        self.time += datetime.timedelta(**by)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def records(tmp_path: Path) -> Iterator[BucketRecords]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield BucketRecords(database)
    database.close()


@pytest.fixture
def ledger(records: BucketRecords, hands: Hands) -> Ledger:
    return Ledger(LETSENCRYPT, ACCOUNT, records, Clock(now=lambda: hands.time))


def reserve(ledger: Ledger, name: str, renewal: Renewal = NEW) -> Reservation:
    outcome = ledger.reserve([Identifier.dns(name)], renewal, "web").result(20)
    if isinstance(outcome, LimitReached):
        raise outcome
    return outcome


def test_the_same_names(ledger: Ledger, hands: Hands) -> None:
    """Five a week, then one each 33.6 hours; the refusal says which limit, how full, until when."""
    for _ in range(5):
        reserve(ledger, "www.example.org")
    with pytest.raises(LimitReached) as refused:
        reserve(ledger, "www.example.org")
    assert (refused.value.limit, refused.value.subject) == (
        "certificates per exact set of names",
        "www.example.org",
    )
    assert (refused.value.used, refused.value.most) == (5, 5)
    assert refused.value.retry_after == pytest.approx(33.6 * 3600)
    assert "5 of 5 used; ask again after 2026-11-27 21:36:00 UTC" in str(refused.value)
    hands.move(hours=33.6)
    reserve(ledger, "www.example.org")
    with pytest.raises(LimitReached):
        reserve(ledger, "www.example.org")


def test_a_domain(ledger: Ledger) -> None:
    """Fifty names below one domain, and not one more; another domain is not concerned."""
    for number in range(50):
        reserve(ledger, f"host{number}.example.org")
    with pytest.raises(LimitReached, match=r"certificates per registered domain for example\.org"):
        reserve(ledger, "host50.example.org")
    reserve(ledger, "host50.example.com")


def test_a_renewal_where_the_domain_is_full(ledger: Ledger) -> None:
    """It needs no place of the domain."""
    for number in range(50):
        reserve(ledger, f"host{number}.example.org")
    reserve(ledger, "host1.example.org", Renewal(is_known=True))


def test_all_or_nothing(ledger: Ledger, records: BucketRecords) -> None:
    """What is refused takes no place of any limit."""
    for _ in range(5):
        reserve(ledger, "www.example.org")
    before = {each.name: each.instant for each in records.all() if each.instant}
    with pytest.raises(LimitReached):
        reserve(ledger, "www.example.org")
    assert {each.name: each.instant for each in records.all() if each.instant} == before


def test_an_order_that_failed(ledger: Ledger) -> None:
    """The places of its certificate are given back, that of the order is not."""
    for _ in range(5):
        taken = reserve(ledger, "www.example.org")
        ledger.give_back(taken.only(Counted.DOMAIN, Counted.NAMES), "web")
    reserve(ledger, "www.example.org")


def test_failed_validations(ledger: Ledger, hands: Hands) -> None:
    """After five failures in an hour nobody orders the name, not even to renew it; others go on."""
    for _ in range(5):
        taken = reserve(ledger, "bad.example.org")
        ledger.give_back(taken.only(Counted.DOMAIN, Counted.NAMES), "web")
        ledger.failed([Identifier.dns("bad.example.org")], "web")
    for renewal in (NEW, Renewal(is_announced=True)):
        with pytest.raises(LimitReached, match=r"failed validations per name for bad\.example\.org"):
            reserve(ledger, "bad.example.org", renewal)
    reserve(ledger, "good.example.org")
    hands.move(minutes=12)
    reserve(ledger, "bad.example.org", Renewal(is_known=True))


def test_room_for_renewals(records: BucketRecords) -> None:
    """Where renewals count as well, new certificates leave room for those that are due."""
    limits = [each for each in LETSENCRYPT if each.counts is Counted.NAMES]
    ledger = Ledger(limits, ACCOUNT, records, Clock(now=lambda: START), kept_free=lambda _: 2)
    for _ in range(3):
        reserve(ledger, "www.example.org")
    with pytest.raises(LimitReached):
        reserve(ledger, "www.example.org")
    for _ in range(2):
        reserve(ledger, "www.example.org", Renewal(is_known=True))


def test_orders_without_a_csr(records: BucketRecords) -> None:
    """Those that are placed before there is a CSR leave half of the orders to those who have sent one."""
    limits = [each for each in LETSENCRYPT if each.counts is Counted.ORDERS]
    ledger = Ledger(limits, ACCOUNT, records, Clock(now=lambda: START))
    names = [[Identifier.dns(f"host{number}.example.org")] for number in range(301)]
    ahead = [ledger.reserve(each, NEW, "web", is_ahead=True).result(20) for each in names]
    assert [isinstance(each, Reservation) for each in ahead] == [True] * 150 + [False] * 151
    assert "kept for those who have sent a CSR" in str(ahead[-1])
    others = [ledger.reserve(each, NEW, "web").result(20) for each in names[:151]]
    assert [isinstance(each, Reservation) for each in others] == [True] * 150 + [False]


def test_a_restart(tmp_path: Path, hands: Hands) -> None:
    """What was used stays used."""
    for place in range(6):
        database = SqliteDatabase.open(tmp_path / "state.sqlite")
        ledger = Ledger(LETSENCRYPT, ACCOUNT, BucketRecords(database), Clock(now=lambda: hands.time))
        outcome = ledger.reserve([Identifier.dns("www.example.org")], NEW, "web").result(20)
        database.close()
        assert isinstance(outcome, LimitReached) == (place == 5)


@pytest.mark.parametrize("counts", [Counted.ORDERS, Counted.FAILURES])
def test_a_period_that_is_corrected(records: BucketRecords, hands: Hands, counts: Counted) -> None:
    """What was full for days because of a mistake in the configuration is so for the right period at most."""
    clock = Clock(now=lambda: hands.time)

    def of(**period: float) -> Ledger:
        rate = Rate(5, datetime.timedelta(**period) // datetime.timedelta(milliseconds=1))
        return Ledger([Limit("mistaken", counts, rate)], ACCOUNT, records, clock)

    wrong, right, name = of(days=70), of(hours=1), "www.example.org"
    for _ in range(5):
        if counts is Counted.ORDERS:
            reserve(wrong, name)
        else:
            wrong.failed([Identifier.dns(name)], "web")
    with pytest.raises(LimitReached) as caught:
        reserve(right, name)
    assert (caught.value.retry_after or 0) <= 3600
    hands.move(hours=1)
    reserve(right, name)


def test_a_clock_that_was_ahead(ledger: Ledger, hands: Hands) -> None:
    """Once it is set right, nobody waits for longer than the period."""
    hands.move(days=365)
    for _ in range(5):
        reserve(ledger, "www.example.org")
    hands.move(days=-365)
    with pytest.raises(LimitReached) as caught:
        reserve(ledger, "www.example.org")
    assert (caught.value.retry_after or 0) <= 7 * 86_400
    hands.move(days=7)
    reserve(ledger, "www.example.org")


def test_three_hundred_at_once(ledger: Ledger, records: BucketRecords) -> None:
    """As many get a place as there are, whoever asks at the same time; who took the last one is known."""
    asked = [ledger.reserve([Identifier.dns(f"h.d{number}.example")], NEW, "web") for number in range(400)]
    outcomes = [each.result(60) for each in asked]
    assert sum(isinstance(outcome, Reservation) for outcome in outcomes) == 300
    assert {outcome.limit for outcome in outcomes if isinstance(outcome, LimitReached)} == {
        "new orders per account"
    }
    fullest = records.all()[0]
    assert (fullest.limited, fullest.used_by) == ("certificates per exact set of names", "web")


def test_a_ca_without_limits(records: BucketRecords) -> None:
    """Nothing is counted, and nothing is written."""
    ledger = Ledger([], ACCOUNT, records, Clock())
    assert reserve(ledger, "www.example.org") == Reservation(())
    assert records.all() == []


def test_buckets_that_are_empty(ledger: Ledger, records: BucketRecords) -> None:
    """They are forgotten after a while."""
    reserve(ledger, "www.example.org")
    records.forget(int((START + datetime.timedelta(days=2)).timestamp() * 1000))
    reserve(ledger, "www.example.com")
    assert {each.subject for each in records.all()} >= {"", "example.com"}
    assert "example.org" not in {each.subject for each in records.all()}
