"""What nodes present, as the others and whoever comes after a crash find it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.sharing import ENGINES, Sharer, count, server_for, sharing

from acmems.exceptions import StateUnavailable
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.proofs import ProofRecord, ProofRecords
from acmems.state.sharing.leases import Lease, Leases


def record(number: str, name: str = "a.example.org", key: str = "token.thumbprint") -> ProofRecord:
    return ProofRecord(
        number,
        "dns",
        "dns-01",
        name,
        "token",
        key,
        "https://ca/acct/1",
        is_wildcard=True,
        issuers=("ca.example", "other.example"),
        place=f"_acme-challenge.{name}. {name}.",
    )


class Presenter:
    """A node, and what it presents."""

    def __init__(self, sharer: Sharer) -> None:
        self.sharer = sharer
        self.records = ProofRecords(sharer.database, sharer.name, sharer.leases)

    def add(self, *records: ProofRecord, is_answered: bool = False) -> None:
        assert self.records.add(records, is_answered=is_answered).result(20) == []

    def turns(self, *names: str) -> Sequence[Lease] | None:
        return self.records.add([record("-".join(names))], is_answered=True, turns=names).result(20)

    def taken(self) -> list[str]:
        return [each.id for each in self.records.take_abandoned()]

    @property
    def stages(self) -> dict[str, str]:
        rows = self.sharer.database.read(lambda tx: tx.execute("SELECT id, stage FROM proofs").fetchall())
        return dict(rows)


@pytest.fixture(params=ENGINES)
def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Presenter, Presenter]]:
    with sharing(tmp_path, server=server_for(request)) as (first, second):
        yield Presenter(first), Presenter(second)


class TestWithdrawing:
    """One of several nodes withdraws a record: the last that presents it."""

    def test_a_record_that_only_one_presents(self, nodes: tuple[Presenter, Presenter]) -> None:
        """It is withdrawn by whoever presents it, and forgotten afterwards."""
        first, second = nodes
        first.add(record("1"), record("2", key="other.thumbprint"))
        second.add(record("3", "b.example.org"))
        assert first.records.leave(["1"]) == {"1"}
        assert second.stages == {"1": "leaving", "2": "placed", "3": "placed"}
        first.records.remove(["1"], soon=True)
        first.sharer.database.check().result(20)
        assert second.stages == {"2": "placed", "3": "placed"}

    def test_a_record_that_both_present(self, nodes: tuple[Presenter, Presenter]) -> None:
        """Who leaves first withdraws nothing; the other does."""
        first, second = nodes
        first.add(record("1"))
        second.add(record("2"))
        assert first.records.leave(["1"]) == frozenset()
        first.sharer.database.check().result(20)
        assert first.stages == {"2": "placed"}
        assert second.records.leave(["2"]) == {"2"}

    def test_both_leave_at_the_same_time(self, nodes: tuple[Presenter, Presenter]) -> None:
        """Where each has noted that it leaves before it looks, both withdraw, which does no harm."""
        first, second = nodes
        first.add(record("1"))
        second.add(record("2"))
        first.sharer.database.write(
            lambda tx: tx.execute("UPDATE proofs SET stage = 'leaving'").rowcount
        ).result(20)
        assert first.records.leave(["1"]) == {"1"}
        assert second.records.leave(["2"]) == {"2"}

    def test_another_that_is_dead(self, nodes: tuple[Presenter, Presenter]) -> None:
        """A dead node needs no record."""
        first, second = nodes
        first.add(record("1"))
        second.add(record("2"))
        second.sharer.die()
        assert first.records.leave(["1"]) == {"1"}

    def test_presenting_what_is_being_withdrawn(self, nodes: tuple[Presenter, Presenter]) -> None:
        """Whoever notes a record that is being withdrawn can tell, until that is over."""
        first, second = nodes
        first.add(record("1"))
        assert first.records.leave(["1"]) == {"1"}
        second.add(record("2"), record("3", "b.example.org"))
        assert second.records.are_being_withdrawn(["2"])
        assert not second.records.are_being_withdrawn(["3"])
        first.records.remove(["1"], soon=True)
        first.sharer.database.check().result(20)
        assert not second.records.are_being_withdrawn(["2"])

    def test_a_withdrawal_that_failed(self, nodes: tuple[Presenter, Presenter]) -> None:
        """Nobody waits for it; the next who asks withdraws it."""
        first, second = nodes
        first.add(record("1"))
        assert first.records.leave(["1"]) == {"1"}
        first.records.give_up(["1"])
        first.sharer.database.check().result(20)
        second.add(record("2"))
        assert not second.records.are_being_withdrawn(["2"])
        assert second.records.leave(["2"]) == {"2"}
        assert second.taken() == ["1"]

    def test_a_node_that_was_taken_for_dead(self, nodes: tuple[Presenter, Presenter]) -> None:
        """What others have taken from it is not its own any more."""
        first, second = nodes
        first.add(record("1"))
        first.sharer.die()
        assert second.taken() == ["1"]
        assert first.records.leave(["1"]) == frozenset()
        first.records.remove(["1"], soon=True)
        first.records.give_up(["1"])
        first.sharer.database.check().result(20)
        assert second.stages == {"1": "leaving"}


class TestAbandoned:
    """What a dead node has presented is withdrawn by one of the others."""

    def test_of_a_dead_node(self, nodes: tuple[Presenter, Presenter]) -> None:
        """All that was noted is found again, by one node; what nodes answer for is only forgotten."""
        first, second = nodes
        first.add(record("1"))
        first.add(record("2"), is_answered=True)
        assert second.taken() == []
        first.sharer.die()
        (found,) = second.records.take_abandoned()
        assert found.presented > 0
        assert dataclasses.replace(found, presented=0) == record("1")
        assert second.stages == {"1": "leaving"}
        assert second.taken() == []

    def test_that_a_living_node_presents(self, nodes: tuple[Presenter, Presenter]) -> None:
        """It is forgotten, and its record stays."""
        first, second = nodes
        first.add(record("1"))
        second.add(record("2"))
        first.sharer.die()
        assert second.taken() == []
        second.sharer.database.check().result(20)
        assert second.stages == {"2": "placed"}

    def test_that_two_dead_nodes_present(self, tmp_path: Path) -> None:
        """It is withdrawn all the same."""
        with sharing(tmp_path, 3) as sharers:
            *dead, third = map(Presenter, sharers)
            for number, each in enumerate(dead):
                each.add(record(str(number)))
                each.sharer.die()
            assert sorted(third.taken()) == ["0", "1"]

    def test_the_turns_of_a_dead_node(self, nodes: tuple[Presenter, Presenter]) -> None:
        """They are free."""
        first, second = nodes
        assert first.turns("a") is not None
        first.sharer.die()
        assert second.turns("a") is not None


class TestTurns:
    """What only one node may show is shown by one at a time."""

    def test_of_another_node(self, nodes: tuple[Presenter, Presenter]) -> None:
        """Nothing is noted while another has one of the turns; afterwards all are had at once."""
        first, second = nodes
        held = first.turns("b")
        assert held is not None
        before = first.stages
        assert second.turns("a", "b") is None
        assert first.stages == before
        assert first.turns("a") is not None  # the one that was free was not kept
        first.records.remove(["b"], held, soon=True)
        first.sharer.database.check().result(20)
        assert second.turns("b", "c") is not None

    def test_of_the_same_node(self, nodes: tuple[Presenter, Presenter]) -> None:
        """A node has its own turns: who is next here is not decided in the state."""
        first, _ = nodes
        assert first.turns("a") is not None
        assert first.turns("a", "b") is not None


class TestOneServer:
    """A state of one server: all of an earlier process is abandoned, and nobody else is asked."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[SqliteDatabase]:
        opened = SqliteDatabase.open(tmp_path / "state.sqlite")
        yield opened
        opened.close()

    @staticmethod
    def records(database: SqliteDatabase, node: str) -> ProofRecords:
        return ProofRecords(database, node, Leases(database, node))

    def test_an_earlier_process(self, database: SqliteDatabase) -> None:
        """The next one withdraws what it has left, once."""
        self.records(database, "before").add([record("1")], is_answered=False).result(20)
        now = self.records(database, "now")
        now.add([record("2", "b.example.org")], is_answered=False).result(20)
        assert [each.id for each in now.take_abandoned()] == ["1"]
        assert now.take_abandoned() == []

    def test_leaving_costs_nothing(self, database: SqliteDatabase) -> None:
        """Nothing is written before a record is withdrawn."""
        records = self.records(database, "now")
        records.add([record("1")], is_answered=False).result(20)
        before = database._connection.total_changes
        assert records.leave(["1"]) == {"1"}
        assert database._connection.total_changes == before

    def test_what_cannot_be_written_is_written_later(self, database: SqliteDatabase) -> None:
        """A record that could not be forgotten, or given up, is so as soon as the state takes it."""
        records = self.records(database, "now")
        records.add([record("1"), record("2")], is_answered=False).result(20)
        database._connection.execute("PRAGMA query_only = ON")
        records.remove(["1"], soon=True)
        records.give_up(["2"])
        with pytest.raises(StateUnavailable):
            database.check().result(20)
        database._connection.execute("PRAGMA query_only = OFF")
        assert count(database, "proofs") == 2
        found = records.take_abandoned()
        database.check().result(20)
        assert [each.id for each in [*found, *records.take_abandoned()]] == ["2"]
        assert count(database, "proofs") == 1
