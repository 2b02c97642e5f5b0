"""Orders count for the limits of a CA, on a real state."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.exceptions import AcmeException, ChallengeFailed, LimitReached
from acmems.issuing.limits.accounting import LimitAccounting, OrderPlacement
from acmems.issuing.limits.limit import LETSENCRYPT, Limit
from acmems.issuing.renewal.plan import first_plan
from acmems.issuing.renewal.prior import PriorChains
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecord, BucketRecords
from acmems.system.clock import SYSTEM
from acmems.system.steps import StepLoop

DIRECTORY = "https://ca.example/directory"
ACCOUNT = f"{DIRECTORY} https://ca.example/account/1"
NAMES = [f"host{number}.example.org" for number in range(100)]


class Office:
    """An accounting with a state of its own.

    Attributes:
        limits: those that hold.
        account: what names the account; None while it is not known.
    """

    def __init__(self, database: SqliteDatabase, loop: StepLoop) -> None:
        self.limits: Sequence[Limit] = LETSENCRYPT
        self.account: str | None = ACCOUNT
        self.loop = loop
        self.database = database
        self.chains = ChainRecords(database)
        self.plans = RenewalRecords(database)
        self.buckets = BucketRecords(database)
        prior = PriorChains(self.chains, self.plans, DIRECTORY, SYSTEM)
        self.accounting = LimitAccounting(
            lambda: self.limits, lambda: self.account, self.buckets, prior, SYSTEM
        )

    def placement(self, *names: str, identity: str = "1") -> OrderPlacement:
        return self.accounting.placement(identity, make_request(*names), "web")

    def order(self, *names: str, identity: str = "1", replaces: str | None = None) -> OrderPlacement:
        """Place an order, or raise why there is no room."""
        placement = self.placement(*names, identity=identity)
        self.loop.run(placement.reserve(replaces))
        return placement

    def filled(self) -> list[BucketRecord]:
        """Return the buckets once all is written."""
        self.database.write(lambda _: None).result(20)
        return self.buckets.all()

    def used(self) -> dict[str, str]:
        """Return what each limit was used for."""
        return {each.limited: each.subject for each in self.filled() if each.instant}

    def keep(self, *names: str, days_ago: int = 0, identity: str = "1") -> ChainRecord:
        """Note a certificate that was issued some days ago."""
        issued = SYSTEM.now() - datetime.timedelta(days=days_ago)
        chain = make_chain(make_request(*names))
        record = ChainRecord.of(chain, identity=identity, directory=DIRECTORY, profile=None, issued=issued)
        self.chains.add(record).result(20)
        return record


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    loop = StepLoop(name="test")
    yield Office(database, loop)
    loop.close()
    database.close()


def test_an_order(office: Office) -> None:
    """It counts for the account, the domain and the names; another account has places of its own."""
    for _ in range(5):
        office.order("www.example.org")
    with pytest.raises(LimitReached, match="exact set of names"):
        office.order("www.example.org")
    assert office.used() == {
        "new orders per account": "",
        "certificates per registered domain": "example.org",
        "certificates per exact set of names": "www.example.org",
    }
    office.account = f"{DIRECTORY} https://ca.example/account/2"
    office.order("www.example.org")


def test_no_limits(office: Office) -> None:
    """Nothing is written, and nothing is read."""
    office.limits = ()
    office.order("www.example.org")
    office.accounting.note(
        ChallengeFailed("www.example.org", "no", ""), make_request("www.example.org"), "web"
    )
    assert office.filled() == []


@pytest.mark.parametrize(("days_ago", "is_renewal"), [(119, True), (121, False)], ids=["lately", "long ago"])
def test_the_same_hundred_names(office: Office, *, days_ago: int, is_renewal: bool) -> None:
    """It is a renewal after a certificate of the last 120 days, in whatever order they come."""
    office.keep(*NAMES, days_ago=days_ago, identity="of another key")
    office.order(*reversed(NAMES))
    assert ("certificates per registered domain" not in office.used()) == is_renewal


def test_other_names(office: Office) -> None:
    """A certificate for more names makes an order no renewal."""
    office.keep(*NAMES)
    office.order(*NAMES[1:])
    assert "certificates per registered domain" in office.used()


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "not yet open"])
def test_inside_the_window_of_the_ca(office: Office, *, is_open: bool) -> None:
    """An order that names its predecessor counts for nothing there."""
    now, day = SYSTEM.now(), datetime.timedelta(days=1)
    record = office.keep("www.example.org")
    start = now - day if is_open else now + day
    plan = dataclasses.replace(first_plan(record, "aki.serial", now, 0.5), starts=start, ends=now + 2 * day)
    office.plans.begin((), [plan]).result(20)
    placement = office.placement("www.example.org")
    replaces = office.loop.run(placement.replaces())
    assert replaces is not None
    office.loop.run(placement.reserve(replaces))
    assert (office.used() == {}) == is_open


def test_inside_the_window_without_a_predecessor(office: Office) -> None:
    """Where the CA has not accepted the predecessor, the order counts."""
    now, day = SYSTEM.now(), datetime.timedelta(days=1)
    record = office.keep("www.example.org")
    plan = dataclasses.replace(first_plan(record, "aki.serial", now, 0.5), starts=now - day, ends=now + day)
    office.plans.begin((), [plan]).result(20)
    office.order("www.example.org", replaces=None)
    assert "certificates per exact set of names" in office.used()


def test_given_back(office: Office) -> None:
    """What no certificate came of is free again; the order stays counted, unless there was none."""
    for _ in range(10):
        office.order("www.example.org").give_back(is_placed=True)
    full = {each.limited: each.instant / 1000 - SYSTEM.now().timestamp() for each in office.filled()}
    assert full["new orders per account"] > 9 * 36
    assert full["certificates per exact set of names"] < 1
    for _ in range(300):
        office.order("www.example.org").give_back(is_placed=False)


def test_failed_validations(office: Office) -> None:
    """Five an hour of one name stop every order for it; another name of the same order is not concerned."""
    request = make_request("a.example.org", "b.example.org")
    error = ChallengeFailed("a.example.org", "nobody there", "")
    for _ in range(5):
        office.accounting.note(error, request, "web")
    office.accounting.note(AcmeException("something else"), request, "web")
    office.order("b.example.org")
    with pytest.raises(LimitReached, match=r"failed validations per name for a\.example\.org"):
        office.order("a.example.org")
