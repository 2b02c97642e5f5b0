"""Orders count for the limits of a CA, on a real state."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.exceptions import AcmeException, ChallengeFailed, LimitReached, RateLimited
from acmems.issuers.acme.orders.statements import stated_limit
from acmems.issuing.limits.accounting import LimitAccounting, OrderPlacement
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.learnt import LearntLimits
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit
from acmems.issuing.limits.room import RenewalRoom
from acmems.issuing.renewal.plan import certificate_of, first_plan
from acmems.issuing.renewal.prior import PriorChains
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecord, BucketRecords
from acmems.state.limits.learnt import LearntRecords
from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps import StepLoop, Wait

DIRECTORY = "https://ca.example/directory"
ACCOUNT = f"{DIRECTORY} https://ca.example/account/1"
NAMES = [f"host{number}.example.org" for number in range(100)]


class Office:
    """An accounting with a state of its own.

    Attributes:
        limits: those that hold.
        account: what names the account; None while it is not known.
        is_configured: whether the configuration names the limits.
        ahead: how far the time is ahead.
    """

    def __init__(self, database: SqliteDatabase, loop: StepLoop) -> None:
        self.limits: Sequence[Limit] = LETSENCRYPT
        self.account: str | None = ACCOUNT
        self.loop = loop
        self.database = database
        self.chains = ChainRecords(database)
        self.plans = RenewalRecords(database)
        self.buckets = BucketRecords(database)
        self.is_configured = False
        self.ahead = datetime.timedelta()
        clock = Clock(now=lambda: SYSTEM.now() + self.ahead)
        self.accounting = LimitAccounting(
            lambda: self.limits,
            lambda: self.account,
            self.buckets,
            PriorChains(self.chains, self.plans, DIRECTORY, clock),
            clock,
            learnt=LearntLimits(LearntRecords(database), clock, lambda: not self.is_configured),
            room=RenewalRoom(self.plans, DIRECTORY, clock),
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


def test_orders_that_were_prepared(office: Office) -> None:
    """Their certificates take places once there is a CSR, as those of any order, and no other ones."""
    for _ in range(10):
        office.order("www.example.org").give_back(is_placed=True)
    orders = [each.instant for each in office.filled() if each.limited == "new orders per account"]
    for _ in range(5):
        office.loop.run(office.placement("www.example.org").reserve_certificate())
    with pytest.raises(LimitReached, match="exact set of names"):
        office.loop.run(office.placement("www.example.org").reserve_certificate())
    assert [each.instant for each in office.filled() if each.limited == "new orders per account"] == orders


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


def limited(office: Office, words: str, *names: str, seconds: float | None = None) -> None:
    """Have the CA refuse an order for some names."""
    error = RateLimited(words, retry_after=seconds)
    stated = stated_limit(error, SYSTEM.now() + office.ahead)
    assert stated is not None
    placement = office.order(*names)
    placement.give_back(is_placed=False)
    placement.limited(stated)
    office.filled()


def wait(office: Office, *names: str) -> float:
    """Return the seconds after which there is room for an order, 0 if there is now."""
    try:
        office.order(*names).give_back(is_placed=False)
    except LimitReached as error:
        return error.retry_after or 0.0
    return 0.0


ORDERS = "too many new orders (300) from this account in the last 3h0m0s"
DOMAIN = 'too many certificates (50) already issued for "example.org" in the last 168h0m0s'
HOUR = datetime.timedelta(hours=1)


class TestLearning:
    """A CA whose limits nobody knows tells of them where it refuses an order."""

    @pytest.fixture
    def office(self, office: Office) -> Office:
        """One that knows of no limits."""
        office.limits = ()
        return office

    def test_it_holds_from_then_on(self, office: Office, caplog: pytest.LogCaptureFixture) -> None:
        """For what it is counted for, and for as long as the CA has said; then one place after the other."""
        caplog.set_level("INFO")
        limited(office, DOMAIN, "a.example.org", seconds=1000)
        assert wait(office, "b.example.org") == pytest.approx(1000, abs=60)
        assert wait(office, "example.com") == 0
        office.account = f"{DIRECTORY} https://ca.example/account/2"
        assert wait(office, "b.example.org") == 0
        office.account = ACCOUNT
        office.ahead = datetime.timedelta(seconds=1010)
        office.order("b.example.org")
        assert wait(office, "c.example.org") == pytest.approx(7 * 86_400 / 50, abs=60)
        (learnt,) = [each.message for each in caplog.records]
        assert "50 certificates per registered domain in 7d" in learnt

    def test_a_renewal(self, office: Office) -> None:
        """It is not counted, as software is known to do it that says so."""
        office.keep("a.example.org")
        limited(office, DOMAIN, "b.example.org", seconds=1000)
        assert wait(office, "a.example.org") == 0

    def test_a_limit_that_is_not_named(self, office: Office) -> None:
        """Without a number nothing can be counted."""
        limited(office, "too many new orders recently", "a.example.org", seconds=1000)
        assert wait(office, "a.example.org") == 0

    def test_it_is_corrected(self, office: Office) -> None:
        """By the next answer that tells of the same."""
        limited(office, ORDERS, "a.example.org", seconds=1)
        office.ahead = HOUR
        limited(office, ORDERS.replace("300", "20"), "a.example.org", seconds=60)
        (limit,) = office.accounting.holding()
        assert (limit.rate, limit.source) == (Rate(20, 3 * 3_600_000), "learnt")

    def test_it_ends(self, office: Office) -> None:
        """Two periods after the CA has said so last."""
        for words, hours in ((ORDERS, 0), (ORDERS, 5), ("too many new orders recently", 10)):
            office.ahead = hours * HOUR
            limited(office, words, "a.example.org", seconds=1)
            (known,) = LearntRecords(office.database).load()
            assert abs(known.learnt - SYSTEM.now()) < HOUR
            office.ahead = (hours + 5.9) * HOUR
            assert office.accounting.holding() != ()
        office.ahead = 16.1 * HOUR
        assert office.accounting.holding() == ()

    def test_a_configuration_that_names_limits(self, office: Office) -> None:
        """What it says counts, and nothing else; what was learnt before is not looked at."""
        limited(office, ORDERS, "a.example.org", seconds=1000)
        office.is_configured = True
        assert office.accounting.holding() == ()
        limited(office, DOMAIN, "a.example.org", seconds=1000)
        office.is_configured = False
        assert [each.counts for each in office.accounting.holding()] == [Counted.ORDERS]

    def test_another_process(self, office: Office) -> None:
        """It finds what was learnt when it begins, and when it looks again."""
        early = LearntLimits(LearntRecords(office.database), SYSTEM)
        limited(office, ORDERS, "a.example.org", seconds=1000)
        assert early.beside((), ACCOUNT) == ()
        early.refresh()
        late = LearntLimits(LearntRecords(office.database), SYSTEM)
        assert early.beside((), ACCOUNT) == late.beside((), ACCOUNT) == office.accounting.holding()

    def test_forgetting(self, office: Office) -> None:
        """What has ended is removed from the state."""
        limited(office, ORDERS, "a.example.org", seconds=1000)
        records = LearntRecords(office.database)
        for hours, left in ((5.9, 1), (6.1, 0)):
            records.forget(SYSTEM.now() + hours * HOUR)
            office.filled()
            assert len(records.load()) == left


class TestOfThoseThatAreKnown:
    """The CA refuses an order for which there was room by what was counted here."""

    def test_the_bucket_is_full(self, office: Office, caplog: pytest.LogCaptureFixture) -> None:
        """Until the time that the CA has said; somebody else has used it, which the log says."""
        limited(office, DOMAIN, "a.example.org", seconds=5000)
        assert wait(office, "b.example.org") == pytest.approx(5000, abs=60)
        assert [each.source for each in office.accounting.holding()] == ["published"] * 4
        (warning,) = caplog.records
        assert warning.levelname == "WARNING"
        assert "certificates per registered domain for example.org" in warning.message
        assert "50 of 50 places should be left" in warning.message

    def test_a_bucket_that_is_full_here_as_well(
        self, office: Office, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is no less full for that, and nobody is warned."""
        office.limits = (Limit("few", Counted.DOMAIN, Rate(1, 86_400_000)),)
        first = office.placement("a.example.org")
        stated = stated_limit(RateLimited(DOMAIN, retry_after=5), SYSTEM.now())
        assert stated is not None
        office.is_configured = True
        office.order("a.example.org")
        first.limited(stated)
        office.filled()
        assert wait(office, "b.example.org") == pytest.approx(86_400, abs=60)
        assert caplog.records == []

    def test_another_number_than_is_published(self, office: Office) -> None:
        """What the CA says of this account counts before what it says to all."""
        limited(office, DOMAIN.replace("50", "10"), "a.example.org", seconds=1)
        rates = {each.counts: each.rate.count for each in office.accounting.holding()}
        assert rates == {Counted.ORDERS: 300, Counted.NAMES: 5, Counted.FAILURES: 5, Counted.DOMAIN: 10}

    @pytest.mark.parametrize(
        ("words", "names", "full"),
        [
            (DOMAIN, ("a.example.org", "example.com"), {"example.org"}),
            ("too many certificates already issued", ("a.example.org",), {"example.org"}),
            ("too many certificates already issued", ("a.example.org", "example.com"), set()),
            ('too many failed authorizations (5) for "a.example.org"', ("a.example.org",), {"a.example.org"}),
            ("too many failed authorizations recently", ("a.example.org", "b.example.org"), set()),
            (
                "too many certificates (5) already issued for this exact set of identifiers",
                ("b.example.org", "a.example.org"),
                {"a.example.org b.example.org"},
            ),
            (DOMAIN, ("example.com",), set()),
        ],
    )
    def test_which_bucket_is_meant(
        self, office: Office, words: str, names: tuple[str, ...], full: set[str]
    ) -> None:
        """The one that the CA names, or the only one that it can mean; where that is not clear, none."""
        limited(office, words, *names, seconds=3000)
        now = SYSTEM.now().timestamp() * 1000 + 60_000
        assert {each.subject for each in office.filled() if each.instant > now} == full


class TestRoom:
    """New certificates leave room for renewals."""

    LIMIT = Limit("few", Counted.ORDERS, Rate(6, 86_400_000))

    @pytest.fixture
    def office(self, office: Office) -> Office:
        """One in which two certificates are due, of six places a day."""
        office.limits = (self.LIMIT,)
        now = SYSTEM.now()
        for number in range(2):
            record = office.keep(f"old{number}.example.org", identity=str(number), days_ago=200)
            plan = dataclasses.replace(first_plan(record, None, now, 0.5), due=now, next_try=now)
            office.plans.begin((), [plan]).result(20)
        office.database.write(
            lambda transaction: (
                transaction.execute("UPDATE chains SET last_asked = ?", (int(now.timestamp()),)).rowcount
            )
        ).result(20)
        office.accounting.refresh()
        return office

    def test_a_new_certificate_is_refused_before_a_renewal(self, office: Office) -> None:
        """It is told how many places are left, and for what; the renewals get them."""
        for number in range(4):
            office.order(f"new{number}.example.org", identity="new")
        with pytest.raises(LimitReached, match=r"kept for renewals.*: few, 2 of 6 left; ask again after"):
            office.order("new.example.org", identity="new")
        office.order("old0.example.org", identity="0")
        office.order("old1.example.org", identity="with another key")
        with pytest.raises(LimitReached, match="used up, so that it was not asked: few, 6 of 6 used"):
            office.order("old0.example.org", identity="0")

    def test_what_it_would_cost(self, office: Office) -> None:
        """It says what is kept, and that a new certificate would be refused where a renewal would not."""
        for number in range(4):
            office.order(f"new{number}.example.org", identity="new")
        (new,) = office.accounting.costs("x", make_request("new.example.org").identifiers)
        (old,) = office.accounting.costs("0", make_request("old0.example.org").identifiers)
        assert (new.takes, new.kept, new.until is None) == (0, 2, False)
        assert (old.takes, old.kept, old.until) == (1, 0, None)
        assert (old.document()["used"], old.document()["left"]) == (4, 1)


def test_a_client_that_says_what_it_replaces(office: Office) -> None:
    """That is replaced, whatever the key of the new one is: if it is known here, and of this CA."""

    def replaced(name: str) -> str | None:
        request = make_request("www.example.org")
        terms = office.accounting.placement("another key", request, "web", replaces=name)
        return office.loop.run(terms.replaces())

    known = certificate_of(office.keep("www.example.org"))
    assert known is not None
    assert office.loop.run(office.placement("www.example.org", identity="another key").replaces()) is None
    assert replaced(known) == known
    authority, _, serial = known.partition(".")
    for other in (f"AAAA.{serial}", f"{authority}.AAAA", f"{authority}.", f"{authority}.\xe9", "", "!.!"):
        assert replaced(other) is None
    office.ahead = datetime.timedelta(days=100)
    assert replaced(known) is None  # it has expired


def test_what_an_order_replaces_is_looked_up_at_once(office: Office) -> None:
    """Where nobody else writes the state, no thread is woken up for it; elsewhere it may have to wait."""
    with pytest.raises(StopIteration):
        next(office.placement("www.example.org").replaces())
    office.database.is_shared = True
    assert isinstance(next(office.placement("www.example.org").replaces()), Wait)
