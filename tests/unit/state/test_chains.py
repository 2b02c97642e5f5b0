"""Chains in the state: which one is delivered, and what is history."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request
from tests.noticing import AT_ONCE

from acmems.exceptions import StateUnavailable
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.deliveries import MOST_COUNTED
from acmems.state.chains.putting import put, put_all
from acmems.state.chains.records import KEY_COMPROMISE, PAGE
from acmems.state.engines.contract import Change, Database, Rows, Transaction, Value
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.orders import OrderRecords

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
REQUEST = make_request("a.example.org", "b.example.org")
NUMBERS = itertools.count(1)


@pytest.fixture
def records(database: Database) -> ChainRecords:
    return ChainRecords(database)


def made(identity: str = "one", *, begins: datetime.datetime = NOW) -> ChainRecord:
    """Return a record like that of a chain that was issued when it begins."""
    number = next(NUMBERS)
    return ChainRecord(
        fingerprint=f"{number:064x}",
        identity=identity,
        directory="https://ca.example/directory",
        names=("a.example.org",),
        serial=f"{number:x}",
        key_digest="key",
        pem=b"pem",
        not_before=begins,
        not_after=begins + 90 * DAY,
        issued=begins,
    )


def test_a_chain_is_found_again_with_all_that_is_known(records: ChainRecords) -> None:
    """Whatever is kept comes back the same, and the times are aware."""
    chain = make_chain(REQUEST)
    record = ChainRecord.of(
        chain,
        identity="one",
        directory="https://ca.example/directory",
        profile="shortlived",
        issued=NOW,
        block="block",
        storage="storage",
        client="192.0.2.1",
        reference="abc",
        csr=REQUEST.pem,
    )
    record = dataclasses.replace(record, alternates=("https://ca.example/1", "https://ca.example/2"))
    records.add(record).result()
    assert records.newest("one") == record
    assert record.names == ("a.example.org", "b.example.org")
    assert (record.fingerprint, record.key_digest) == (chain.fingerprint, REQUEST.key_digest)
    assert records.newest("two") is None


def test_a_newer_chain_takes_the_place(records: ChainRecords) -> None:
    """The last one that was issued is delivered, even if it ends sooner; others are left alone."""
    other, first, second = made("two"), made(), made(begins=NOW - DAY)
    for each in (other, first, second):
        records.add(each).result()
    assert records.newest("one") == second
    assert records.newest("two") == other
    assert [each.superseded for each in records.find(first.fingerprint)] == [second.issued]
    assert set(records.all()) == {other, second}
    assert len(list(records.all(current_only=False))) == 3


class Explaining:
    """A transaction of SQLite that does nothing, and takes note of how rows of chains would be found."""

    def __init__(self, transaction: Transaction) -> None:
        self.found: list[str] = []
        self._transaction = transaction

    def execute(self, statement: str, row: Sequence[Value] = (), /) -> Rows:
        steps = self._transaction.execute(f"EXPLAIN QUERY PLAN {statement}", row).fetchall()
        self.found += [each[3] for each in steps if " chains " in each[3]]
        return self._transaction.execute("SELECT 1 WHERE 1 = 0")

    def executemany(self, statement: str, rows: Iterable[Sequence[Value]], /) -> object:
        raise NotImplementedError


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda transaction: ChainRecords.newest_of(transaction, ["one"]), id="the newest"),
        pytest.param(lambda transaction: put(transaction, made()), id="a newer one"),
        pytest.param(lambda transaction: put_all(transaction, [made()]), id="newer ones"),
    ],
)
def test_a_long_history(tmp_path: Path, look: Change[object]) -> None:
    """It is not looked through for the newest chain, nor for those that a newer one takes the place of."""

    def explained(transaction: Transaction) -> list[str]:
        explaining = Explaining(transaction)
        look(explaining)
        return explaining.found

    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    found = database.read(explained)
    database.close()
    assert ["(identity=?)" in each for each in found] == [True]
    assert "chains_newest" in found[0]


def test_a_chain_that_comes_again(records: ChainRecords) -> None:
    """It does not take the place of its successor, and what is known of it stays but for the storage."""
    first, second = made(), made(begins=NOW + DAY)
    urls = ("https://ca.example/1",)
    records.add(dataclasses.replace(first, storage="kept", block="block", alternates=urls)).result()
    records.add(second).result()
    records.add(dataclasses.replace(first, storage="other", block="wrong")).result()
    assert records.newest("one") == second
    (found,) = records.find(first.fingerprint)
    assert (found.storage, found.block, found.superseded) == ("other", "block", second.issued)
    assert found.alternates == urls
    records.add(dataclasses.replace(second, alternates=urls)).result()
    records.add(second).result()
    assert [each.alternates for each in records.find(second.fingerprint)] == [urls], "known later on"


def test_the_order_of_a_chain(database: Database, records: ChainRecords) -> None:
    """Its URL is found where the order is noted, and stays when that is forgotten."""
    orders = OrderRecords(database)
    orders.intend("one", b"csr", None, NOW)
    orders.opened("one", "account", "https://ca.example/order/1", NOW + DAY)
    records.add(made(), soon=False)
    orders.forget("one")
    records.add(made("two")).result()
    found = {each.identity: each.order_url for each in records.all()}
    assert found == {"one": "https://ca.example/order/1", "two": None}


def test_what_is_not_urgent_waits_for_other_changes(records: ChainRecords) -> None:
    """A chain that its own storage keeps costs no transaction of its own."""
    waiting = records.add(made(), soon=False)
    assert not waiting.done()
    records.add(made("two")).result()
    assert waiting.done()


@pytest.mark.parametrize("is_done", [False, True], ids=["begun", "done"])
def test_a_revoked_chain_is_never_delivered(records: ChainRecords, *, is_done: bool) -> None:
    """From the intent on it is history, and older ones do not come back; a new one is delivered."""
    older, chain = made(), made(begins=NOW + DAY)
    records.adopt([older, chain]).result()
    assert records.is_current(chain.fingerprint)
    records.revoking(chain.fingerprint, "keyCompromise").result()
    if is_done:
        records.revoked(chain.fingerprint, NOW + 2 * DAY, "keyCompromise").result()
        records.revoking(chain.fingerprint, "superseded").result()  # too late
    records.add(chain).result()
    assert records.newest("one") is None
    assert not records.is_current(chain.fingerprint)
    assert list(records.all()) == []
    (found,) = records.find(chain.fingerprint)
    assert (found.revoked, found.reason) == (NOW + 2 * DAY if is_done else None, "keyCompromise")
    assert not found.is_current
    new = made(begins=NOW + 3 * DAY)
    records.add(new).result()
    assert records.newest("one") == new


def test_chains_of_a_tree_in_any_order(records: ChainRecords) -> None:
    """The newest is delivered, whatever comes first and however often."""
    for order in itertools.permutations(range(3)):
        identity = str(order)
        chains = [made(identity, begins=NOW + day * DAY) for day in range(3)]
        assert [records.adopt([chains[each]]).result() for each in order] == [1, 1, 1]
        assert records.adopt(chains).result() == 0
        assert records.newest(identity) == chains[2]


def test_what_a_person_looks_for(records: ChainRecords) -> None:
    """A name is all of a name; numbers may be written as openssl and browsers do."""
    first = dataclasses.replace(made(), names=("a.example.org", "b.example.org"), serial="a0b1")
    second = dataclasses.replace(made(begins=NOW + DAY), names=("a.example.org",))
    third = dataclasses.replace(made("two"), names=("*.example.org",))
    for each in (first, second, third):
        records.add(each).result()

    def found(wanted: str) -> list[str]:
        return [each.fingerprint for each in records.find(wanted)]

    assert found("A.example.org") == [second.fingerprint, first.fingerprint]
    assert found("b.example.org") == found("00:A0:B1") == [first.fingerprint]
    assert found("*.example.org") == [third.fingerprint]
    assert found(":".join([first.fingerprint[:2], first.fingerprint[2:]])) == [first.fingerprint]
    assert found("example.org") == found("%.example.org") == found("_.example.org") == []


def test_more_than_a_page(records: ChainRecords) -> None:
    """All are seen, each once, soonest end first, also where many end at the same moment."""
    chains = [made(str(number), begins=NOW - (number % 3) * DAY) for number in range(2 * PAGE + 7)]
    for start in range(0, len(chains), AT_ONCE):
        records.adopt(chains[start : start + AT_ONCE]).result(60)
    found = [(each.not_after, each.fingerprint) for each in records.all()]
    assert found == sorted((each.not_after, each.fingerprint) for each in chains)


def test_a_chain_that_cannot_be_noted(
    database: Database, records: ChainRecords, unwritable: Callable[[], AbstractContextManager[None]]
) -> None:
    """It is noted once that works again, and is history if there is a newer one by then."""
    first, other, second = made(), made("two"), made(begins=NOW + DAY)
    with unwritable():
        for each in (first, other):
            records.add(each, soon=False)
        database.flush()
        assert isinstance(records.add(first).exception(30), StateUnavailable)
        records.keep_up()
        assert isinstance(database.check().exception(30), StateUnavailable)
    records.add(second).result(30)
    records.keep_up()
    database.check().result(30)
    assert (records.newest("one"), records.newest("two")) == (second, other)
    assert len(records.find(first.fingerprint)) == 1
    assert not records._unwritten


def test_deliveries_are_summed_up(records: ChainRecords) -> None:
    """How often, whom and when is written in sums; a chain that is not kept is not an error."""
    chain = made()
    records.add(chain).result()
    for number in range(3):
        records.asked(chain.fingerprint, f"192.0.2.{number}", NOW + number * DAY)
    records.asked("unknown", "192.0.2.9", NOW)
    records._deliveries.save(soon=True)
    records.asked(chain.fingerprint, "192.0.2.7", NOW + 7 * DAY)
    records.keep_up()
    records.keep_up()  # there is nothing more
    records.add(made("two")).result()
    (found,) = records.find(chain.fingerprint)
    assert (found.asked, found.asked_by, found.last_asked) == (4, "192.0.2.7", NOW + 7 * DAY)


def test_deliveries_of_very_many_chains(records: ChainRecords) -> None:
    """They are written before they fill the memory."""
    for number in range(MOST_COUNTED):
        records.asked(str(number), "192.0.2.1", NOW)
    assert not records._deliveries._sums


def test_a_state_that_cannot_be_read(database: Database) -> None:
    """Whoever asks hears of it."""
    database.write(lambda transaction: transaction.execute("DROP TABLE chains")).result()
    with pytest.raises(StateUnavailable):
        ChainRecords(database).newest("one")


@pytest.mark.parametrize("is_done", [False, True], ids=["begun", "done"])
def test_revoked_twice(records: ChainRecords, database: Database, *, is_done: bool) -> None:
    """The first time stays, and no other reason takes the place of a compromised key."""
    chain = dataclasses.replace(made(), key_digest="compromised")
    records.adopt([chain]).result()
    records.revoking(chain.fingerprint, "keyCompromise").result()
    if is_done:
        records.revoked(chain.fingerprint, NOW, "keyCompromise").result()
    records.revoking(chain.fingerprint, "unspecified").result()
    records.revoked(chain.fingerprint, NOW + DAY, "unspecified").result()
    (found,) = records.find(chain.fingerprint)
    assert (found.revoked, found.reason) == (NOW if is_done else NOW + DAY, "keyCompromise")
    later = ChainRecords(database)
    later.learn_revoked()
    assert later.is_compromised("compromised")


def test_a_key_that_turns_out_to_be_compromised(records: ChainRecords) -> None:
    """What was revoked for another reason is told once more, and from the intent on the key is not used."""
    chain = dataclasses.replace(made(), key_digest="compromised")
    records.adopt([chain]).result()
    records.revoked(chain.fingerprint, NOW, "superseded").result()
    records.revoking(chain.fingerprint, "keyCompromise").result()
    records.learn_revoked()
    assert records.is_compromised("compromised")
    records.revoked(chain.fingerprint, NOW + DAY, "keyCompromise").result()
    (found,) = records.find(chain.fingerprint)
    assert (found.revoked, found.reason) == (NOW, "keyCompromise")


def test_a_compromised_key(records: ChainRecords, database: Database) -> None:
    """A key is known as compromised from then on, for ever and by every process; others are not."""
    compromised = dataclasses.replace(made(begins=NOW - 400 * DAY), key_digest="compromised")
    lost = dataclasses.replace(made("two"), key_digest="lost")
    records.adopt([compromised, lost]).result()
    records.revoking(compromised.fingerprint, "keyCompromise").result()
    records.revoking(lost.fingerprint, "cessationOfOperation").result()
    for each in (records, ChainRecords(database)):
        each.learn_revoked()
        assert each.is_compromised("compromised")
        assert not each.is_compromised("lost")


class TestNames:
    """Whether there was a certificate for exactly some names."""

    MANY = tuple(f"{'x' * 50}{number}.example.org" for number in range(100))
    DIRECTORY = "https://ca.example/directory"

    def test_a_hundred_names(self, records: ChainRecords) -> None:
        """They are found in any order, in history as well, and by neither more nor fewer names."""
        records.add(dataclasses.replace(made(), names=self.MANY)).result(20)
        records.add(made(begins=NOW + DAY)).result(20)
        assert records.have_names(self.MANY[::-1], self.DIRECTORY, NOW)
        assert not records.have_names(self.MANY[1:], self.DIRECTORY, NOW)
        assert not records.have_names([*self.MANY, "a.example.org"], self.DIRECTORY, NOW)

    def test_elsewhere_or_too_long_ago(self, records: ChainRecords) -> None:
        """What another CA has issued does not count, and not what was issued before."""
        records.add(made()).result(20)
        assert records.have_names(["a.example.org"], self.DIRECTORY, NOW)
        assert not records.have_names(["a.example.org"], "https://other.example", NOW)
        assert not records.have_names(["a.example.org"], self.DIRECTORY, NOW + DAY)

    def test_after_a_repair(self, records: ChainRecords) -> None:
        """What the certificate says counts."""
        damaged = made()
        records.add(damaged).result(20)
        records.mend(dataclasses.replace(damaged, names=("b.example.org",))).result(20)
        assert records.have_names(["b.example.org"], self.DIRECTORY, NOW)
        assert not records.have_names(["a.example.org"], self.DIRECTORY, NOW)


def test_when_a_client_was_seen(records: ChainRecords) -> None:
    """The last time that one asked, over all chains of the identity; what nobody asked for tells nothing."""
    assert records.last_seen("one") is None
    first = made()
    records.add(first).result(20)
    assert records.last_seen("one") is None
    records.add(dataclasses.replace(made(begins=NOW + DAY), client="192.0.2.1")).result(20)
    assert records.last_seen("one") == NOW + DAY
    records.asked(first.fingerprint, "192.0.2.1", NOW + 2 * DAY)
    records.save_asked()
    records.add(made(begins=NOW + 3 * DAY)).result(20)
    assert records.last_seen("one") == NOW + 2 * DAY
    assert records.last_seen("another") is None


def settle(records: ChainRecords) -> None:
    """Have what is not urgent written."""
    records.check().result()


class TestForgetting:
    """History has an end where somebody wants that."""

    @staticmethod
    def left(records: ChainRecords, *known: ChainRecord) -> list[bool]:
        found = {each.fingerprint for each in records.all(current_only=False)}
        return [each.fingerprint in found for each in known]

    def test_what_has_expired(self, records: ChainRecords) -> None:
        """Only what expired long enough ago and was replaced is forgotten."""
        first, second, third = (made(begins=NOW + number * 60 * DAY) for number in range(3))
        alone = made("two")
        for each in (first, second, third, alone):
            records.add(each).result()
        records.forget(first.not_after - DAY)
        settle(records)
        assert self.left(records, first, second, third, alone) == [True, True, True, True]
        records.forget(first.not_after)
        settle(records)
        assert self.left(records, first, second, third, alone) == [False, True, True, True]
        records.forget(third.not_after + DAY)
        settle(records)
        assert self.left(records, second, third, alone) == [False, True, True]
        assert records.newest("one") == third

    def test_what_was_revoked(self, records: ChainRecords) -> None:
        """It stays, so that its key gets no certificate any more."""
        first, second = made(), made(begins=NOW + 60 * DAY)
        for each in (first, second):
            records.add(each).result()
        records.revoked(first.fingerprint, NOW, KEY_COMPROMISE).result()
        records.forget(second.not_after)
        settle(records)
        assert self.left(records, first, second) == [True, True]
