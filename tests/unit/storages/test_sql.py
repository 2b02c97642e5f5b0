"""Chains in the state, as a storage: found by what is asked for, and delivered while the database is away."""

from __future__ import annotations

import dataclasses
import datetime
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request

from acmems.exceptions import StateUnavailable, StorageUnavailable
from acmems.settings.findings import NOWHERE
from acmems.settings.grammar import Option, Section
from acmems.settings.options import Options
from acmems.state.chains import ChainRecords
from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import Enumerable, IssuerIdentity, SqlStorage, digest_of

CA = IssuerIdentity("https://ca.example/directory")
KEY = ec.generate_private_key(ec.SECP256R1())
REQUEST = make_request("a.example.org", key=KEY)
CHAIN = make_chain(REQUEST)
IDENTITY = digest_of(REQUEST, CA)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def records(database: Database) -> ChainRecords:
    return ChainRecords(database)


@pytest.fixture
def storage(records: ChainRecords) -> SqlStorage:
    storage = SqlStorage("state")
    storage.attach(records)
    return storage


def shared(database: Database) -> tuple[ChainRecords, SqlStorage]:
    """Return another process's view of the same chains."""
    records = ChainRecords(SharedDatabase(database))
    storage = SqlStorage("state")
    storage.attach(records)
    return records, storage


class SharedDatabase:
    """A database that several processes use, and that is away if told so."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.place = database.place
        self.is_shared = True
        self.failure: StateUnavailable | None = None
        self.write, self.check = database.write, database.check
        self.expect, self.flush, self.close = database.expect, database.flush, database.close
        self.is_away = False
        self.reads = 0

    def read(self, query):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - as in the contract
        self.reads += 1
        if self.is_away:
            raise StateUnavailable("away")
        return self._database.read(query)


def test_a_chain_is_found_again(storage: SqlStorage) -> None:
    """By a new CSR for the same key and names too, and not for anything else."""
    assert storage.find(REQUEST, CA) is None
    storage.store(REQUEST, CHAIN, CA)
    assert storage.find(REQUEST, CA) == CHAIN
    assert storage.find(make_request("a.example.org", key=KEY), CA) == CHAIN
    for other in (make_request("b.example.org", key=KEY), make_request("a.example.org")):
        assert storage.find(other, CA) is None
    assert storage.find(make_request("a.example.org", key=KEY, must_staple=True), CA) is None
    assert storage.find(REQUEST, IssuerIdentity("https://other.example/directory")) is None
    assert storage.find(REQUEST, IssuerIdentity(CA.directory, "shortlived")) is None


def test_a_chain_outlives_the_process(tmp_path: Path) -> None:
    """It is durable once it is stored."""
    found = None
    for _ in range(2):
        database = SqliteDatabase.open(tmp_path / "other.sqlite")
        storage = SqlStorage("state")
        storage.attach(ChainRecords(database))
        found = storage.find(REQUEST, CA)
        storage.store(REQUEST, CHAIN, CA)
        database.close()
    assert found == CHAIN


def test_the_newest_one(storage: SqlStorage) -> None:
    """What is stored last takes the place of what was there, also where that was delivered lately."""
    storage.store(REQUEST, CHAIN, CA)
    assert storage.find(REQUEST, CA) == CHAIN
    newer = make_chain(REQUEST, days=10)
    storage.store(REQUEST, newer, CA)
    assert storage.find(REQUEST, CA) == newer


def test_a_revoked_chain(records: ChainRecords, storage: SqlStorage) -> None:
    """It is not delivered from memory either."""
    storage.store(REQUEST, CHAIN, CA)
    assert storage.find(REQUEST, CA) == CHAIN
    records.revoking(CHAIN.fingerprint, "keyCompromise").result()
    assert storage.find(REQUEST, CA) is None


def test_many_at_once(storage: SqlStorage) -> None:
    """All of a batch are stored."""
    requests = [make_request(f"{number}.example.org") for number in range(20)]
    entries = [(request, make_chain(request)) for request in requests]
    storage.store_all(entries, CA)
    assert all(storage.find(request, CA) == chain for request, chain in entries)


def test_what_was_delivered_lately_is_not_read_again(
    storage: SqlStorage, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state of this process alone is read once, so that it need not be readable any more."""
    storage.store(REQUEST, CHAIN, CA)
    monkeypatch.setattr(database, "read", None)
    assert storage.find(REQUEST, CA) == CHAIN


def test_who_is_told_that_it_is_stored_finds_it_in_memory(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change is over before anybody hears of its end: what is kept meanwhile is not kept."""
    written, told = Future[None](), list[bool]()
    written.add_done_callback(lambda _: told.append(changed.done()))
    records = ChainRecords(database)
    with monkeypatch.context() as patch:
        patch.setattr(database, "write", lambda *_, **__: written)
        changed = records.revoking(CHAIN.fingerprint, "superseded")
    written.set_result(None)
    assert told == [False]
    assert changed.result(0) is None


class TestSharedState:
    """Others may change what it holds, or it may be away."""

    def test_a_chain_that_another_process_has_revoked(
        self, database: Database, records: ChainRecords, storage: SqlStorage
    ) -> None:
        """It is not delivered any more, not even when the database goes away afterwards."""
        theirs, their_storage = shared(database)
        storage.store(REQUEST, CHAIN, CA)
        assert their_storage.find(REQUEST, CA) == CHAIN
        records.revoking(CHAIN.fingerprint, "keyCompromise").result()
        assert their_storage.find(REQUEST, CA) is None
        theirs._database.is_away = True  # type: ignore[attr-defined] # the one of this test
        with pytest.raises(StateUnavailable):
            their_storage.find(REQUEST, CA)

    def test_a_chain_that_another_process_has_replaced(self, database: Database, storage: SqlStorage) -> None:
        """The newer one is delivered."""
        _, their_storage = shared(database)
        storage.store(REQUEST, CHAIN, CA)
        assert their_storage.find(REQUEST, CA) == CHAIN
        newer = make_chain(REQUEST)
        storage.store(REQUEST, newer, CA)
        assert their_storage.find(REQUEST, CA) == newer

    @pytest.mark.parametrize("is_stored_here", [False, True], ids=["found", "stored"])
    def test_a_database_that_is_away(
        self, database: Database, storage: SqlStorage, *, is_stored_here: bool
    ) -> None:
        """What this process has stored or found lately is delivered; of the rest nothing is known."""
        records, their_storage = shared(database)
        if is_stored_here:
            their_storage.store(REQUEST, CHAIN, CA)
        else:
            storage.store(REQUEST, CHAIN, CA)
            assert their_storage.find(REQUEST, CA) == CHAIN
        records._database.is_away = True  # type: ignore[attr-defined] # the one of this test
        assert their_storage.find(REQUEST, CA) == CHAIN
        with pytest.raises(StateUnavailable):
            their_storage.find(make_request(), CA)

    def test_a_look_up_may_take_long(self, database: Database, storage: SqlStorage) -> None:
        """Whoever must not be held up is told so."""
        assert storage.is_local
        assert not shared(database)[1].is_local

    def test_what_others_have_revoked_is_learnt(self, database: Database, records: ChainRecords) -> None:
        """From time to time, for storages that ask nobody."""
        theirs, their_storage = shared(database)
        their_storage.store(REQUEST, CHAIN, CA)
        records.revoking(CHAIN.fingerprint, "superseded").result()
        assert not theirs.is_revoked(CHAIN.fingerprint)
        theirs.keep_up()
        assert theirs.is_revoked(CHAIN.fingerprint)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("pem", b"-----BEGIN CERTIFICATE-----\n", "is damaged"),
        ("pem", make_chain(REQUEST).pem, "is another one"),
    ],
    ids=["cut off", "another chain"],
)
def test_a_damaged_chain(
    storage: SqlStorage,
    database: Database,
    caplog: pytest.LogCaptureFixture,
    column: str,
    value: bytes,
    words: str,
) -> None:
    """It is a miss, which the log tells, and the next one takes its place."""
    storage.store(REQUEST, CHAIN, CA)
    database.write(
        lambda transaction: transaction.execute(f"UPDATE chains SET {column} = ?", (value,))  # noqa: S608 - a column of the test
    ).result()
    again = SqlStorage("state")
    again.attach(ChainRecords(database))
    assert again.find(REQUEST, CA) is None
    assert words in caplog.text
    newer = make_chain(REQUEST)
    again.store(REQUEST, newer, CA)
    assert again.find(REQUEST, CA) == newer


def test_a_chain_of_other_names(
    storage: SqlStorage, records: ChainRecords, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a row claims, a chain that does not fit is never delivered."""
    other = make_request("b.example.org")
    storage.store(other, make_chain(other), CA)
    (record,) = records.all()
    records.add(dataclasses.replace(record, identity=IDENTITY)).result()  # which does not move it
    assert storage.find(REQUEST, CA) is None
    move = "UPDATE chains SET identity = ?"
    records._database.write(lambda transaction: transaction.execute(move, (IDENTITY,))).result()
    assert storage.find(REQUEST, CA) is None
    assert "for another key or other names" in caplog.text


def test_what_is_kept_is_listed(storage: SqlStorage, records: ChainRecords) -> None:
    """The current chains of this storage, those included that it has taken over from another one."""
    assert isinstance(storage, Enumerable)
    storage.store(REQUEST, CHAIN, CA)
    storage.store(REQUEST, newer := make_chain(REQUEST), CA)
    other = SqlStorage("other")
    other.attach(records)
    moved = make_request("moved.example.org")
    other.store(moved, moved_chain := make_chain(moved), CA)
    assert [key for key, _ in storage.entries()] == [newer.fingerprint]
    again = SqlStorage("state")
    again.attach(ChainRecords(records._database))
    assert again.find(moved, CA) == moved_chain
    records.check().result()
    assert {key for key, _ in storage.entries()} == {newer.fingerprint, moved_chain.fingerprint}
    assert storage.read_entry(newer.fingerprint) == newer
    assert storage.read_entry("gone") is None


def test_a_damaged_chain_is_not_counted(storage: SqlStorage, database: Database) -> None:
    """Whoever looks at all chains is not disturbed by it."""
    storage.store(REQUEST, CHAIN, CA)
    database.write(lambda transaction: transaction.execute("UPDATE chains SET pem = ?", (b"",))).result()
    assert storage.read_entry(CHAIN.fingerprint) is None


def test_a_state_that_cannot_be_written(storage: SqlStorage, database: SqliteDatabase) -> None:
    """Whoever wants to order hears of it before, and whoever stores, after."""
    storage.check()
    database._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageUnavailable):
        storage.check()
    with pytest.raises(StorageUnavailable):
        storage.store(REQUEST, CHAIN, CA)


def test_its_section() -> None:
    """It may say when certificates are replaced; without a server there is no state to look into."""
    section = Section("storage", "x", (Option("renew-within", "14", NOWHERE),), NOWHERE)
    storage = SqlStorage.from_options("x", Options(section, []))
    assert storage.renew_within == datetime.timedelta(days=14)
    assert not list(storage.self_check())
    with pytest.raises(StorageUnavailable, match="not open here"):
        storage.find(REQUEST, CA)


def test_readers_beside_a_writer(storage: SqlStorage) -> None:
    """While chains are replaced, each look finds one that was the newest at some time since it began."""
    chains = [make_chain(REQUEST) for _ in range(30)]
    storage.store(REQUEST, chains[0], CA)
    stored = [0]
    wrong: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            least = stored[0]
            found = storage.find(REQUEST, CA)
            if found is None or chains.index(found) < least:
                wrong.append(least)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number, chain in enumerate(chains):
        storage.store(REQUEST, chain, CA)
        stored[0] = number
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
