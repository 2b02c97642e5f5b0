"""Proofs that are noted in the state: by one server, and by nodes that share it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.fake_ca import FakeValidator, Time
from tests.sharing import ENGINES, Sharer, count, server_for, sharing, unwritable

from acmems.challenges import Proof
from acmems.challenges.presented.note_files import NoteFiles
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.challenges.presented.state_notes import StateNotes
from acmems.exceptions import CAUnavailable, DeadlinePassed, StateUnavailable, ValidatorUnavailable
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.proofs import ProofRecords
from acmems.state.sharing.leases import Leases
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

NAME, OTHER = "a.example.org", "b.example.org"
TOKEN, ANOTHER = "token", "other"


def proof(name: str = NAME, token: str = TOKEN) -> Proof:
    return Proof(
        Identifier.dns(name), token, f"{token}.thumbprint", lambda: None, account_url="https://ca/acct/1"
    )


class Records(FakeValidator):
    """Puts proofs into records, which all servers see, at places that change."""

    leaves_traces = True
    is_immediate = False

    def __init__(self, dns: set[tuple[str, str]]) -> None:
        super().__init__("dns-01")
        self.dns = dns
        self.target = "zone"
        self.error: Exception | None = None
        self.known: dict[Proof, str] = {}
        self.on_withdraw: Callable[[], None] = lambda: None

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        self.known.update({proof: f"{proof.identifier} {self.target}" for proof in proofs})
        return {proof: self.known[proof] for proof in proofs}

    def recall(self, places: Mapping[Proof, str]) -> None:
        self.known.update(places)

    def forget(self, proofs: Sequence[Proof]) -> None:
        for each in proofs:
            self.known.pop(each, None)

    def present(self, proofs: Sequence[Proof]) -> None:
        self.dns.update((self.known[proof], proof.token) for proof in proofs)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        self.on_withdraw()
        if self.error is not None:
            raise self.error
        self.withdrawn += proofs
        for each in proofs:
            self.dns.discard((self.known[each], each.token))
        self.forget(proofs)


class OneAtATime(FakeValidator):
    """Answers the CA itself, one proof for a name at a time."""

    shows_one_at_a_time = True

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        return {proof: f"tls:{proof.identifier}" for proof in proofs}


class House:
    """A node with its proofs."""

    def __init__(self, sharer: Sharer, dns: set[tuple[str, str]]) -> None:
        self.sharer = sharer
        self.validator = Records(dns)
        records = ProofRecords(sharer.database, sharer.name, sharer.leases)
        self.proofs = PresentedProofs(SYSTEM, StateNotes(records))

    def present(self, *proofs: Proof, seconds: float = 20) -> None:
        self.proofs.present(self.validator, proofs, SYSTEM.deadline(seconds))

    def withdraw(self, *proofs: Proof) -> None:
        self.proofs.withdraw(self.validator, proofs)

    def sweep(self) -> None:
        self.proofs._next_sweep = 0
        self.proofs.sweep({"fake": self.validator})
        self.settle()

    def settle(self) -> None:
        self.sharer.database.check().result(20)


@pytest.fixture
def dns() -> set[tuple[str, str]]:
    """What DNS holds: places and tokens."""
    return set()


@pytest.fixture(params=ENGINES)
def houses(
    request: pytest.FixtureRequest, tmp_path: Path, dns: set[tuple[str, str]]
) -> Iterator[tuple[House, House]]:
    with sharing(tmp_path, server=server_for(request)) as (first, second):
        yield House(first, dns), House(second, dns)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase.open(tmp_path / "state.sqlite")
    yield opened
    opened.close()


def alone(database: SqliteDatabase, node: str, *others: NoteFiles) -> PresentedProofs:
    records = ProofRecords(database, node, Leases(database, node))
    return PresentedProofs(Time().clock(), StateNotes(records), *others)


class TestOneServer:
    """A server with a state of its own."""

    def test_a_crash(self, database: SqliteDatabase, dns: set[tuple[str, str]]) -> None:
        """The next process withdraws from where the last one has put it, though it belongs elsewhere now."""
        before, after = Records(dns), Records(dns)
        alone(database, "before").present(before, [proof(), proof(OTHER)], Time().within())
        assert dns == {(f"{NAME} zone", "token"), (f"{OTHER} zone", "token")}
        after.target = "another zone"
        alone(database, "after").sweep({"fake": after})
        assert dns == set()
        assert sorted(after.withdrawn, key=str) == [proof(), proof(OTHER)]
        database.check().result(20)
        assert count(database, "proofs") == 0

    def test_noted_as_long_as_it_is_presented(
        self, database: SqliteDatabase, dns: set[tuple[str, str]]
    ) -> None:
        """It is noted before it is presented, and forgotten with the next change after it was withdrawn."""
        proofs, validator = alone(database, "node"), Records(dns)
        proofs.present(validator, [proof()], Time().within())
        assert count(database, "proofs") == 1
        proofs.withdraw(validator, [proof_of(proofs)])
        assert count(database, "proofs") == 1
        database.flush()
        database.check().result(20)
        assert count(database, "proofs") == 0

    def test_what_ends_with_the_process(self, database: SqliteDatabase) -> None:
        """It is not noted, and takes no time: nobody else could ask for it."""
        proofs, validator = alone(database, "node"), FakeValidator()
        assert proofs.is_immediate(validator)
        proofs.present(validator, [proof()], Time().within())
        assert count(database, "proofs") == 0

    def test_a_state_that_cannot_be_written(
        self, database: SqliteDatabase, dns: set[tuple[str, str]]
    ) -> None:
        """Nothing is presented that is not noted."""
        database._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StateUnavailable):
            alone(database, "node").present(Records(dns), [proof()], Time().within())
        assert dns == set()

    def test_a_withdrawal_that_fails(self, database: SqliteDatabase, dns: set[tuple[str, str]]) -> None:
        """It is tried again by each sweep until it works."""
        proofs, validator = alone(database, "node"), Records(dns)
        shown = proof()
        proofs.present(validator, [shown], Time().within())
        validator.error = ValidatorUnavailable("no DNS", advice="start it")
        proofs.withdraw(validator, [shown])
        for _ in range(2):
            database.check().result(20)
            proofs._next_sweep = 0
            proofs.sweep({"fake": validator})
            assert dns == {(f"{NAME} zone", "token")}
        validator.error = None
        database.check().result(20)
        proofs._next_sweep = 0
        proofs.sweep({"fake": validator})
        assert dns == set()

    def test_files_of_an_earlier_version(
        self, database: SqliteDatabase, dns: set[tuple[str, str]], tmp_path: Path
    ) -> None:
        """They are swept as before, and no further one is written."""
        folder = tmp_path / "presented"
        validator = Records(dns)
        files = NoteFiles(folder)
        places = validator.locate([proof()])
        files.note(validator, places).settle([proof()], withdrawn=False)
        validator.present([proof()])
        validator.forget([proof()])
        proofs = alone(database, "node", files)
        proofs.present(validator, [proof(OTHER)], Time().within())
        proofs.sweep({"fake": validator})
        assert dns == {(f"{OTHER} zone", "token")}
        assert list(folder.iterdir()) == []


class TestNodes:
    """Nodes that share a state."""

    def test_the_same_proof(self, houses: tuple[House, House], dns: set[tuple[str, str]]) -> None:
        """A record that two nodes present stays until both have left it."""
        first, second = houses
        mine, other = proof(), proof()
        first.present(mine)
        second.present(other)
        first.withdraw(mine)
        assert dns == {(f"{NAME} zone", "token")}
        assert first.validator.known == {}
        second.withdraw(other)
        assert dns == set()
        for house in houses:
            house.settle()
        assert count(second.sharer.database, "proofs") == 0

    def test_values_of_one_name(self, houses: tuple[House, House], dns: set[tuple[str, str]]) -> None:
        """Each node withdraws its own value."""
        first, second = houses
        mine, other = proof(), proof(token=ANOTHER)
        first.present(mine)
        second.present(other)
        first.withdraw(mine)
        assert dns == {(f"{NAME} zone", "other")}

    def test_presenting_while_another_withdraws(
        self, houses: tuple[House, House], dns: set[tuple[str, str]]
    ) -> None:
        """Whoever presents what another node is withdrawing waits for the end of that."""
        first, second = houses
        mine, entered, gate = proof(), threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            assert gate.wait(20)

        first.validator.on_withdraw = hold
        first.present(mine)
        with ThreadPoolExecutor(2) as pool:
            withdrawing = pool.submit(first.withdraw, mine)
            assert entered.wait(20)
            with pytest.raises(DeadlinePassed):
                second.present(proof(), seconds=0.2)
            presenting = pool.submit(second.present, proof())
            gate.set()
            withdrawing.result(20)
            presenting.result(20)
        assert dns == {(f"{NAME} zone", "token")}

    def test_a_dead_node(self, houses: tuple[House, House], dns: set[tuple[str, str]]) -> None:
        """Another withdraws what it has left, but for what that presents itself."""
        first, second = houses
        first.present(proof(), proof(OTHER))
        second.present(proof())
        second.sweep()
        assert len(dns) == 2
        first.sharer.die()
        second.sweep()
        assert dns == {(f"{NAME} zone", "token")}

    def test_stopping_while_another_withdraws(self, houses: tuple[House, House]) -> None:
        """A server that stops waits for nobody."""
        first, second = houses
        first.present(proof())
        first.sharer.database.write(
            lambda tx: tx.execute("UPDATE proofs SET stage = 'leaving'").rowcount
        ).result(20)
        second.proofs.stopping.set()
        with pytest.raises(CAUnavailable):
            second.present(proof())

    def test_a_state_that_is_away(self, houses: tuple[House, House], dns: set[tuple[str, str]]) -> None:
        """Where nobody knows whether others need a record it stays, and is withdrawn later."""
        first, _ = houses
        mine = proof()
        first.present(mine)
        with unwritable(first.sharer.database):
            first.withdraw(mine)
            with pytest.raises(StateUnavailable):
                first.settle()
        assert dns == {(f"{NAME} zone", "token")}
        for _ in range(2):
            first.sweep()
        assert dns == set()


def test_a_crowd(houses: tuple[House, House], dns: set[tuple[str, str]]) -> None:
    """However orders of both nodes come and go, what one presents is there until it withdraws it."""
    rounds, missing = 12, []

    def order(house: House) -> None:
        for number in range(rounds):
            shown = proof(OTHER if number % 3 == 0 else NAME)
            house.present(shown, seconds=60)
            for _ in range(3):
                if (f"{shown.identifier} zone", TOKEN) not in dns:
                    missing.append(number)
                house.sharer.database.read(lambda tx: tx.execute("SELECT 1").fetchone())
            house.withdraw(shown)

    with ThreadPoolExecutor(4) as pool:
        for running in [pool.submit(order, house) for house in (*houses, *houses)]:
            running.result(100)
    assert (missing, dns) == ([], set())
    for house in houses:
        house.settle()
    assert count(houses[0].sharer.database, "proofs") == 0


class TestAnswering:
    """What nodes answer the CA for themselves."""

    def test_found_by_others_before_it_is_presented(self, houses: tuple[House, House]) -> None:
        """It is in the state when it is presented, and nothing but that is waited for."""
        first, second = houses
        noted = []

        class Looking(FakeValidator):
            def present(self, proofs: Sequence[Proof]) -> None:
                noted.append(count(second.sharer.database, "proofs"))

        validator, shown = Looking(), [proof(), proof(OTHER)]
        assert first.proofs.is_immediate(validator)
        noting = first.proofs.note(validator, shown)
        assert noting is not None
        first.proofs.present(validator, shown, SYSTEM.deadline(20), noting.result(20))
        assert noted == [2]
        first.proofs.withdraw(validator, shown)
        first.sharer.database.flush()
        first.settle()
        assert count(second.sharer.database, "proofs") == 0

    def test_presented_already(self, houses: tuple[House, House]) -> None:
        """Who shares what another order presents adds nothing that stays, and takes nothing away."""
        first, second = houses
        validator, shown = FakeValidator(), [proof()]
        for _ in range(2):
            noting = first.proofs.note(validator, shown)
            assert noting is not None
            first.proofs.present(validator, shown, SYSTEM.deadline(20), noting.result(20))
        first.settle()
        assert count(second.sharer.database, "proofs") == 1
        for left in (1, 0):
            first.proofs.withdraw(validator, shown)
            first.settle()
            assert count(second.sharer.database, "proofs") == left

    def test_one_node_at_a_time(self, houses: tuple[House, House]) -> None:
        """A name that one node shows is shown by another as soon as the first is done."""
        first, second = houses
        mine, other = [proof(), proof(OTHER)], [proof(OTHER, "other")]
        here, there = OneAtATime(), OneAtATime()
        first.proofs.present(here, mine, SYSTEM.deadline(20))
        with pytest.raises(DeadlinePassed):
            second.proofs.present(there, other, SYSTEM.deadline(0.2))
        assert there.presented == []
        with ThreadPoolExecutor(1) as pool:
            presenting = pool.submit(second.proofs.present, there, other, SYSTEM.deadline(20))
            first.proofs.withdraw(here, mine)
            presenting.result(20)
        assert there.presented == other


def proof_of(proofs: PresentedProofs) -> Proof:
    """Return the one proof that is presented, with the watcher that presented it."""
    (presentation,) = proofs._presentations.values()
    return Proof(
        presentation.proof.identifier,
        presentation.proof.token,
        presentation.proof.key_authorization,
        presentation.watchers[0],
        account_url=presentation.proof.account_url,
    )
