"""Room for the renewals of certificates that there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.issuing.limits.charges import Renewal as Known
from acmems.issuing.limits.charges import charges, subjects
from acmems.issuing.limits.gcra import Rate
from acmems.issuing.limits.limit import LETSENCRYPT, Counted, Limit
from acmems.issuing.limits.room import AGE, RenewalRoom, room
from acmems.issuing.renewal.plan import first_plan
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import SYSTEM, Clock
from acmems.x509.identifiers import Identifier

DIRECTORY = "https://ca.example/directory"
MINUTE, HOUR = 60_000, 3_600_000
ORDERS = Limit("orders", Counted.ORDERS, Rate(20, HOUR))
DOMAINS = Limit("certificates", Counted.DOMAIN, Rate(10, HOUR))
NOW = 10**12


@pytest.mark.parametrize(
    ("minutes", "kept"),
    [
        ([], 0),
        ([0], 1),
        ([-1000], 1),
        ([0, 0, 0], 3),
        # One place comes back each three minutes.
        ([3], 0),
        ([2], 1),
        ([3, 6, 9, 12], 0),
        ([30, 30, 30], 0),
        ([6, 6, 6, 6, 6], 3),
        ([30] * 15, 5),
        # Half of them at most, and what comes after a whole period finds all free again.
        ([0] * 100, 10),
        ([61] * 100, 0),
        ([60] * 30, 10),
    ],
)
def test_how_much_is_kept(minutes: list[int], kept: int) -> None:
    """As many as the coming renewals need beyond what comes back until then."""
    assert room(ORDERS, [NOW + each * MINUTE for each in minutes], NOW) == kept


@pytest.mark.parametrize(
    "limit",
    [
        *LETSENCRYPT,
        Limit("names", Counted.NAMES, Rate(5, HOUR)),
        Limit("fail", Counted.FAILURES, Rate(5, HOUR)),
    ],
    ids=lambda limit: limit.name,
)
def test_limits_that_need_no_room(limit: Limit) -> None:
    """Those that exempt renewals, and those that new certificates take nothing from."""
    assert room(limit, [NOW] * 5, NOW) == 0


class House:
    """A state with chains, and what is kept for their renewals."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.now = SYSTEM.now()
        self.seconds = 0.0
        self.database = database
        self.chains = ChainRecords(database)
        self.plans = RenewalRecords(database)
        clock = Clock(now=lambda: self.now, monotonic=lambda: self.seconds)
        self.room = RenewalRoom(self.plans, DIRECTORY, clock)

    def keep(
        self,
        number: int,
        *names: str,
        due: timedelta = timedelta(),
        directory: str = DIRECTORY,
        **plan: object,
    ) -> ChainRecord:
        """Keep a chain that is due after some time."""
        record = ChainRecord.of(
            make_chain(make_request(*names)),
            identity=str(number),
            directory=directory,
            profile=None,
            issued=self.now,
            client="192.0.2.1",
        )
        self.chains.add(record).result(20)
        first = first_plan(record, None, self.now, 0.5)
        planned = {"due": self.now + due, "next_try": self.now + due, **plan}
        self.plans.begin((), [dataclasses.replace(first, **planned)]).result(20)  # type: ignore[arg-type]  # fields of any type
        return record

    def kept(self, *limits: Limit, name: str = "new.example.org") -> list[int]:
        """Return what a new certificate has to leave of each."""
        self.room.refresh(limits)
        (found,) = [charges(limits, "account", [Identifier.dns(name)], Known())]
        return [self.room.of(each) for limit in limits for each in found if each.limit == limit]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield House(database)
    database.close()


def test_by_what_is_counted(house: House) -> None:
    """Each domain has its own room, the account has that of all."""
    house.keep(1, "a.example.org", "b.example.org")
    house.keep(2, "c.example.org", "example.com")
    house.keep(3, "example.net")
    assert house.kept(ORDERS, DOMAINS) == [3, 2]
    assert house.kept(ORDERS, DOMAINS, name="www.example.com") == [3, 1]
    assert house.kept(DOMAINS, name="elsewhere.example") == [0]


@pytest.mark.parametrize(
    "why", ["wanted by the CA", "of another CA", "expired", "later", "superseded", "revoked", "gone"]
)
def test_renewals_that_need_no_place(house: House, why: str) -> None:
    """Those that the CA does not count, and those that will not happen."""
    day = timedelta(days=1)
    if why == "wanted by the CA":
        house.keep(1, "a.example.org", starts=house.now, ends=house.now + day)
    elif why == "of another CA":
        house.keep(1, "a.example.org", directory="https://other.example/directory")
    elif why == "expired":
        house.keep(1, "a.example.org", ends_at=house.now - day)
    elif why == "later":
        house.keep(1, "a.example.org", due=day)
    elif why == "superseded":
        record = house.keep(1, "a.example.org")
        house.database.write(
            lambda transaction: transaction.execute("UPDATE chains SET superseded = issued").rowcount
        ).result(20)
        assert record.identity == "1"
    elif why == "revoked":
        house.chains.revoking(house.keep(1, "a.example.org").fingerprint, "superseded").result(20)
    else:
        house.keep(1, "a.example.org")
        house.database.write(
            lambda transaction: (
                transaction.execute("UPDATE chains SET issued = 0, last_asked = NULL").rowcount
            )
        ).result(20)
    assert house.kept(ORDERS) == [0]
    house.keep(2, "b.example.org")
    house.seconds += AGE
    assert house.kept(ORDERS) == [1]


def test_it_is_read_from_time_to_time(house: House) -> None:
    """What an order looks at is in memory, and a few minutes old; for other limits it is read at once."""
    assert house.kept(ORDERS) == [0]
    house.keep(1, "a.example.org")
    house.seconds += AGE - 1
    assert house.kept(ORDERS) == [0]
    house.seconds += 1
    assert house.kept(ORDERS) == [1]
    house.keep(2, "b.example.org")
    assert house.kept(DOMAINS) == [2]


def test_an_answer_is_remembered_for_seconds(house: House) -> None:
    """With very many renewals it takes a while; as time goes on, what is overdue counts as such."""
    for number in range(3):
        house.keep(number, f"{number}.example.org", due=timedelta(minutes=7))
    assert house.kept(ORDERS) == [1]
    house.now += timedelta(minutes=5)
    assert house.kept(ORDERS) == [3]


def test_nothing_is_read_where_nothing_is_kept(house: House) -> None:
    """The limits of Let's Encrypt need none, so that a state with many chains costs nothing."""
    house.keep(1, "a.example.org")
    house.database.close()
    house.room.refresh(LETSENCRYPT)


def test_what_is_counted() -> None:
    """Each domain once, the account once, failures not at all."""
    names = [Identifier.dns(each) for each in ("a.example.org", "b.example.org", "example.com")]
    assert subjects(DOMAINS, names) == ["example.com", "example.org"]
    assert subjects(ORDERS, names) == [""]
    assert subjects(LETSENCRYPT[-1], names) == []
