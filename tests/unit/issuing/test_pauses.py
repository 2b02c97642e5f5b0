"""Whom each failure stops, and whom it does not: the table in docs/operations.md, row by row."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chains import make_request
from tests.fake_ca import FakeValidator
from tests.issuing import House
from tests.peers import wait_until

from acmems import exceptions
from acmems.exceptions import (
    AccountError,
    AcmeException,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAError,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    CertificateUnusable,
    ChallengeFailed,
    ChallengesUnknownStatus,
    ClocksDiffer,
    DeadlinePassed,
    FateUnknown,
    InvalidDomainName,
    LocalCaUnusable,
    NeedToAgreeToTOS,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    RateLimited,
    StateUnavailable,
    StorageUnavailable,
    ValidatorUnavailable,
)
from acmems.issuing.pauses import Pauses
from acmems.issuing.requests import AcceptedRequest
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.pauses import PauseRecords
from acmems.storages import NoStorage
from acmems.system.clock import Clock

NAME, OTHER, BELOW = "a.example.org", "b.example.org", "x.a.example.org"
NOWHERE = NoStorage("none")


def verification(name: str) -> FakeValidator:
    made = FakeValidator()
    made.name = name
    return made


DNS, HTTP = verification("dns"), verification("http")


def asking(*names: str, block: str = "A", by: tuple[FakeValidator, ...] = (DNS, HTTP)) -> AcceptedRequest:
    """Return a request, with a key of its own."""
    return AcceptedRequest(make_request(*names), by, NOWHERE, block=block)


FAILING = asking(NAME, OTHER)
ASKING = {
    "itself": FAILING,
    "a new key": asking(NAME, OTHER),
    "another block": asking(NAME, OTHER, block="B"),
    "another verification": asking(NAME, OTHER, block="B", by=(HTTP,)),
    "the name alone": asking(NAME, block="B", by=(DNS,)),
    "a name below": asking(BELOW),
    "a sister": asking(OTHER),
    "a stranger": asking("example.com"),
}
EPOCH = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
NOBODY: set[str] = set()
BLOCK_AND_NAMES = {"itself", "a new key"}
EVERYBODY = set(ASKING)
FOR_THE_NAME = EVERYBODY - {"a name below", "a sister", "a stranger"}

CAA_REFUSAL = exceptions.CaaRefusal(
    NAME,
    "the CAA records of example.org do not name the CA",
    found_at="example.org",
    records=['0 issue ";"'],
    remedy='example.org. CAA 0 issue "ca.example"',
    retry_after=60.0,
    is_for_all=True,
)
ROWS: list[tuple[AcmeException, set[str]]] = [
    (PayloadInvalid("the CA does not accept the CSR"), {"itself"}),
    (
        ChallengeFailed(NAME, "no such record", "", verification="dns"),
        {"itself", "a new key", "another block", "the name alone"},
    ),
    (ChallengeFailed(NAME, "its authorization is invalid", ""), BLOCK_AND_NAMES),
    (InvalidDomainName(NAME, "not by policy"), FOR_THE_NAME),
    (InvalidDomainName(f"{NAME}, {OTHER}", "one of them"), BLOCK_AND_NAMES),
    (
        exceptions.PreCheckFailed(NAME, "it has no address", retry_after=60.0, is_for_all=False),
        BLOCK_AND_NAMES,
    ),
    (CAA_REFUSAL, FOR_THE_NAME),
    (RateLimited("enough", identifiers=[NAME]), FOR_THE_NAME | {"a name below"}),
    (RateLimited("enough", identifiers=["Example.org."]), EVERYBODY - {"a stranger"}),
    (
        RateLimited("enough", identifiers=[OTHER, NAME]),
        {"itself", "a new key", "another block", "another verification"},
    ),
    (RateLimited("enough", retry_after=3600), BLOCK_AND_NAMES),
    (RateLimited("enough", identifiers=["ca.example"]), BLOCK_AND_NAMES),
    (RateLimited("enough", is_overall=True), EVERYBODY),
    (exceptions.NamesPaused([NAME], "https://ca.example/unpause?jwt=secret"), FOR_THE_NAME),
    (exceptions.NamesPaused(["example.com"], "https://ca.example/unpause"), FOR_THE_NAME | {"a sister"}),
    (NoChallengeMethodsSupported("no dns-01"), BLOCK_AND_NAMES),
    (CAProblem(400, CAProblem.PREFIX + "malformed", "no"), BLOCK_AND_NAMES),
    (CAProtocolError("odd"), BLOCK_AND_NAMES),
    (exceptions.DirectoryUnusable("https://ca.example/dir", "not JSON"), BLOCK_AND_NAMES),
    (ChallengesUnknownStatus("odd"), BLOCK_AND_NAMES),
    (CertificateUnusable("another key"), BLOCK_AND_NAMES),
    (CAError("broken"), BLOCK_AND_NAMES),
    (CAUnavailable("down"), NOBODY),
    (FateUnknown("lost"), NOBODY),
    (ClocksDiffer(EPOCH, EPOCH), NOBODY),
    (CertificateUnusable("a subject", retry_after=3600), BLOCK_AND_NAMES),
    (DeadlinePassed("late"), NOBODY),
    (ValidatorUnavailable("no DNS"), NOBODY),
    (StateUnavailable("full"), NOBODY),
    (StorageUnavailable("full"), NOBODY),
    (exceptions.LeaseLost("order:one"), NOBODY),
    (AccountError("deactivated"), NOBODY),
    (NeedToAgreeToTOS("https://ca.example/terms"), NOBODY),
    (LocalCaUnusable("it has no key"), NOBODY),
]
NOT_OF_ORDERS = {
    AcmeException,
    exceptions.ConfigurationError,
    exceptions.PayloadToLarge,
    exceptions.PolicyRefusal,
    exceptions.HttpRefusal,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    exceptions.LimitReached,
    exceptions.QueueFull,
    exceptions.ClientGone,
    exceptions.ActFailed,
}


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA works until it is told otherwise."""
    made = House()
    yield made
    made.close()


def fail(house: House, asked: AcceptedRequest, error: AcmeException) -> None:
    """Let the CA answer one request with an error."""
    house.authority.error = error
    with pytest.raises(type(error)):
        house.issuance.issue(asked).result(30)
    house.authority.error = None


def pause(house: House, asked: AcceptedRequest) -> float | None:
    """Return the seconds for which a request would be refused without an order, None if it would not."""
    try:
        house.issuance.pauses.check(asked)
    except AcmeException as error:
        seconds: float = vars(error)["retry_after"]
        return seconds
    return None


def is_stopped(house: House, asked: AcceptedRequest) -> bool:
    return pause(house, asked) is not None


def stopped(house: House) -> set[str]:
    return {who for who, asked in ASKING.items() if is_stopped(house, asked)}


class TestTable:
    """Each failure stops those who would fail again, and nobody else."""

    @pytest.mark.threat("ca", "a name that cannot be validated")
    @pytest.mark.threat("issuing", "mistakes of others")
    @pytest.mark.parametrize(("error", "who"), ROWS, ids=lambda value: getattr(value, "args", value))
    def test_who_is_stopped(self, house: House, error: AcmeException, who: set[str]) -> None:
        """After one failure these are stopped, the others are not."""
        fail(house, FAILING, error)
        assert stopped(house) == who

    def test_who_is_stopped_by_a_bug(self, house: House) -> None:
        """What is no error of ours stops as many as any other failure: the CA may have issued."""
        house.authority.error = KeyError("a bug")
        with pytest.raises(KeyError):
            house.issuance.issue(FAILING).result(30)
        assert stopped(house) == BLOCK_AND_NAMES

    def test_what_the_dns_says_is_looked_up_again_soon(self, house: House) -> None:
        """A pause takes as long as the DNS need not be asked again, and no longer each time."""
        for _ in range(3):
            fail(house, FAILING, CAA_REFUSAL)
            assert pause(house, FAILING) == 60.0
            house.time.seconds += 61

    def test_every_error_has_a_row(self) -> None:
        """Every error that an order may end with is in the table."""
        classes = {
            kind
            for _, kind in inspect.getmembers(exceptions, inspect.isclass)
            if issubclass(kind, AcmeException) and not kind.__name__.startswith("_")
        }
        assert classes == {type(error) for error, _ in ROWS} | NOT_OF_ORDERS

    @pytest.mark.parametrize(("error", "who"), ROWS, ids=lambda value: getattr(value, "args", value))
    def test_pauses_end(self, house: House, error: AcmeException, who: set[str]) -> None:
        """No pause is for ever."""
        fail(house, FAILING, error)
        house.time.seconds += 3601
        assert stopped(house) == NOBODY


class TestCsrs:
    def test_a_client_that_makes_new_keys_is_stopped(self, house: House) -> None:
        """Thirty refused CSRs with thirty keys cost three orders; another block's CSR costs one."""
        house.authority.error = PayloadInvalid("the CA does not accept the CSR: a weak key")
        errors = [house.issuance.issue(asking(NAME)).exception(30) for _ in range(30)]
        assert [type(error) for error in errors] == [PayloadInvalid] * 3 + [RateLimited] * 27
        assert "a weak key" in str(errors[-1])
        assert len(house.authority.orders) == 3
        house.authority.error = None
        assert house.issuance.issue(asking(NAME, block="B")).result(30).source == "issued"
        assert not is_stopped(house, asking(OTHER))

    @pytest.mark.parametrize("error", [PayloadInvalid("a weak key"), ChallengeFailed(NAME, "no route", "")])
    def test_all_at_once(self, house: House, error: AcmeException) -> None:
        """Thirty that will be refused cost three orders at the same moment, too; others do not notice."""
        house.authority.go.clear()
        house.authority.error = error
        futures = [house.issuance.issue(asking(NAME)) for _ in range(30)]
        neighbours = [asking(NAME, block="B"), asking(OTHER), asking(NAME, OTHER)]
        others = [house.issuance.issue(asked) for asked in neighbours]
        wait_until(lambda: len(house.authority.orders) == 6, "the orders of the others")
        house.authority.go.set()
        told = [future.exception(30) for future in futures]
        assert {type(each) for each in told[:3]} == {type(error)}
        assert all(vars(each)["retry_after"] == 30 for each in told[3:] if each)
        assert {type(future.exception(30)) for future in others} == {type(error)}
        assert [asked.names for asked in house.authority.orders].count((NAME,)) == 4

    def test_one_at_a_time_after_a_pause(self, house: House) -> None:
        """When a pause is over, one CSR tries, and the others wait for its outcome."""
        for _ in range(3):
            fail(house, asking(NAME), PayloadInvalid("no"))
        house.time.seconds += 31
        house.authority.go.clear()
        house.authority.error = PayloadInvalid("no")
        futures = [house.issuance.issue(asking(NAME)) for _ in range(10)]
        wait_until(lambda: len(house.authority.orders) == 4, "one more order")
        house.authority.go.set()
        told = [type(future.exception(30)) for future in futures]
        assert told == [PayloadInvalid] + [RateLimited] * 9
        assert len(house.authority.orders) == 4

    def test_those_that_work(self, house: House) -> None:
        """Where the CSRs are good, all get their certificate, three at a time."""
        house.authority.go.clear()
        futures = [house.issuance.issue(asking(NAME)) for _ in range(10)]
        wait_until(lambda: len(house.authority.orders) == 3, "three orders")
        house.authority.go.set()
        assert {future.result(30).source for future in futures} == {"issued"}

    def test_the_count_is_forgotten(self, house: House) -> None:
        """After an hour without a failure, as many may run at once as before the first."""
        for _ in range(2):
            fail(house, asking(NAME), PayloadInvalid("no"))
        assert house.issuance.pauses.places(asking(NAME)) == 1
        house.time.seconds += 3601
        assert house.issuance.pauses.places(asking(NAME)) == 3

    def test_its_pauses_grow(self, house: House) -> None:
        """After each further refused CSR the wait is twice as long."""
        house.authority.error = PayloadInvalid("no")
        waits = []
        for _ in range(5):
            with pytest.raises(PayloadInvalid):
                house.issuance.issue(asking(NAME)).result(30)
            waits.append(pause(house, asking(NAME)))
            house.time.seconds += waits[-1] or 0.0
        assert waits == [None, None, 30.0, 60.0, 120.0]

    def test_a_certificate_ends_the_count(self, house: House) -> None:
        """A CSR that works is followed by as many tries as before the first."""
        for _ in range(3):
            for _ in range(2):
                fail(house, asking(NAME), PayloadInvalid("no"))
            assert house.issuance.issue(asking(NAME)).result(30).source == "issued"


class TestVerifications:
    """A failed validation stops those who would be validated in the same way."""

    @pytest.mark.parametrize(
        ("by", "is_same"),
        [((DNS, HTTP), True), ((HTTP,), True), ((HTTP, DNS), True), ((DNS,), False), ((), False)],
        ids=lambda value: "-".join(each.name for each in value) if isinstance(value, tuple) else "",
    )
    def test_the_second_of_a_list(self, house: House, by: tuple[FakeValidator, ...], is_same: bool) -> None:
        """Where the CA offers nothing for the first of a list, it is the second that has failed."""
        fail(house, asking(NAME), ChallengeFailed(NAME, "404", "", verification="http"))
        assert is_stopped(house, asking(NAME, block="B", by=by)) is is_same

    def test_a_block_whose_verification_works(self, house: House) -> None:
        """The certificate of one block does not end the pause of another's verification."""
        fail(house, asking(NAME, by=(DNS,)), ChallengeFailed(NAME, "no record", "", verification="dns"))
        working = asking(NAME, block="B", by=(HTTP,))
        assert house.issuance.issue(working).result(30).source == "issued"
        assert is_stopped(house, asking(NAME, by=(DNS,)))


class TestLimits:
    @pytest.mark.parametrize(
        "error",
        [
            RateLimited("enough", retry_after=60),
            RateLimited("enough", identifiers=["example.org"]),
            RateLimited("enough", identifiers=[NAME, OTHER]),
            RateLimited("enough", is_overall=True),
        ],
        ids=["no identifier", "a domain", "the names", "overall"],
    )
    def test_a_certificate_lifts_no_limit(self, house: House, error: RateLimited) -> None:
        """An order that was under way when the CA had enough does not end the pause."""
        house.authority.go.clear()
        running = house.issuance.issue(asking(NAME, OTHER))
        wait_until(lambda: bool(house.authority.orders), "the order")
        house.issuance.pauses.note(FAILING, error)
        house.authority.go.set()
        assert running.result(30).source == "issued"
        assert is_stopped(house, FAILING)

    @pytest.mark.parametrize(
        ("error", "longest"),
        [
            (RateLimited("enough", retry_after=86_400, is_overall=True), 300),
            (RateLimited("enough", retry_after=86_400), 3600),
            (RateLimited("enough", retry_after=7), 7),
            (RateLimited("enough"), 30),
        ],
        ids=["overall", "of names", "short", "not told"],
    )
    def test_how_long(self, house: House, error: RateLimited, longest: float) -> None:
        """What stops everybody is tried again after minutes, whatever the CA says."""
        fail(house, FAILING, error)
        assert pause(house, FAILING) == longest
        assert (error.retry_after or 0) >= longest, "who has met it is told that as well"

    @pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1"])
    def test_an_address_has_nothing_above_it(self, house: House, name: str) -> None:
        """The parts of an address are no domains."""
        asked = AcceptedRequest(make_request(NAME), (), NOWHERE)
        house.issuance.pauses.note(asked, RateLimited("enough", identifiers=[name, "1"]))
        assert is_stopped(house, asked)
        assert not is_stopped(house, asking("c.example.org"))


class TestPausedByTheCA:
    """The CA takes no orders of the account for a name until a person has acted."""

    PAUSED = exceptions.NamesPaused([NAME], "https://ca.example/unpause?jwt=secret")

    def test_it_is_tried_again_about_once_a_day(self, house: House) -> None:
        """After an hour at first, then twice as long each time, at most a day."""
        waits = []
        for _ in range(7):
            fail(house, FAILING, self.PAUSED)
            waits.append(pause(house, FAILING))
            house.time.seconds += waits[-1] or 0.0
        assert waits == [3600 * 2**number for number in range(5)] + [86_400] * 2

    def test_a_wildcard(self, house: House) -> None:
        """It is validated by the name below its star, and paused with it."""
        fail(house, asking(NAME), self.PAUSED)
        assert is_stopped(house, asking(f"*.{NAME}"))

    def test_another_account(self) -> None:
        """What the CA does not take of one account it may take of another."""
        clock = Clock(monotonic=lambda: 0.0)
        one = Pauses(clock, "https://ca", account=lambda: "https://ca.example/1")
        other = Pauses(clock, "https://ca", account=lambda: "https://ca.example/2")
        one.note(FAILING, self.PAUSED)
        assert not set(one.subjects(FAILING)) <= set(other.subjects(FAILING))
        with pytest.raises(exceptions.NamesPaused):
            one.check(FAILING)

    @pytest.mark.parametrize("ending", ["a reload", "a command", "a certificate"])
    def test_its_end(self, house: House, ending: str) -> None:
        """Whoever has the configuration read anew, or renews it, has the CA asked again."""
        fail(house, FAILING, self.PAUSED)
        if ending == "a reload":
            house.issuance.adapt(8, 100)
        elif ending == "a command":
            house.issuance.pauses.retry_paused(FAILING)
        else:
            house.issuance.pauses.clear(FAILING)
        assert stopped(house) == NOBODY

    def test_a_reload_ends_no_other_pause(self, house: House) -> None:
        """A limit stays one."""
        fail(house, FAILING, RateLimited("enough", identifiers=[NAME]))
        house.issuance.adapt(8, 100)
        house.issuance.pauses.retry_paused(FAILING)
        assert is_stopped(house, FAILING)


class Remembering:
    """An issuance that remembers pauses over a restart."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.records = PauseRecords(database)
        self.database = database
        self.house = House(pauses=self.records)
        self.house.issuance.pauses.restore(self.records.load())

    def settle(self) -> None:
        self.database.write(lambda _: None).result(20)


class TestRestart:
    """A restart ends no pause, but for those that it may have mended the reason of."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[SqliteDatabase]:
        opened = SqliteDatabase.open(tmp_path / "state.sqlite")
        yield opened
        opened.close()

    @pytest.mark.parametrize(("error", "paused"), ROWS, ids=[type(error).__name__ for error, _ in ROWS])
    def test_each_pause(self, database: SqliteDatabase, error: AcmeException, paused: set[str]) -> None:
        """Whom a failure stops it stops after a restart as well, unless that may have mended it."""
        if type(error) in {AcmeException, CAProtocolError, NoChallengeMethodsSupported}:
            paused = set()
        before = Remembering(database)
        before.house.authority.error = error
        with pytest.raises(type(error)):
            before.house.issuance.issue(FAILING).result(30)
        before.settle()
        before.house.close()
        after = Remembering(database)
        found = {name for name, asked in ASKING.items() if pause(after.house, asked) is not None}
        assert found == paused
        for name in paused:
            seconds = pause(after.house, ASKING[name])
            earlier = pause(before.house, ASKING[name])
            assert seconds is not None
            assert earlier is not None
            assert earlier - 20 < seconds <= earlier + 1
        after.house.close()

    def test_the_next_failure(self, database: SqliteDatabase) -> None:
        """Its pause is twice as long, as if there had been no restart."""
        for length in (30, 60):
            server = Remembering(database)
            server.house.issuance.pauses.note(FAILING, CertificateUnusable("odd"))
            server.settle()
            seconds = pause(server.house, FAILING)
            assert seconds is not None
            assert length - 20 < seconds <= length
            database.write(
                lambda transaction: transaction.execute("UPDATE pauses SET until = 0 + acmems_now()").rowcount
            ).result()
            server.house.close()

    def test_a_success(self, database: SqliteDatabase) -> None:
        """What has worked is not paused after a restart either."""
        before = Remembering(database)
        before.house.issuance.pauses.note(FAILING, CAProtocolError("odd"))
        before.house.issuance.pauses.clear(FAILING)
        before.settle()
        before.house.close()
        after = Remembering(database)
        assert pause(after.house, FAILING) is None
        after.house.close()

    def test_another_ca(self, database: SqliteDatabase) -> None:
        """What one CA has refused does not stop what is asked of another."""
        records = PauseRecords(database)
        one, other = (Pauses(Clock(), directory, records) for directory in ("https://one", "https://other"))
        one.note(FAILING, RateLimited("enough", is_overall=True))
        database.write(lambda _: None).result(20)
        other.restore(records.load())
        other.check(FAILING)
        with pytest.raises(RateLimited):
            one.check(FAILING)
