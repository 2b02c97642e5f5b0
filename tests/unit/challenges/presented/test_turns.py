"""Orders that prove one name take turns, where the CA can see only one proof for it at a time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fake_ca import TOKEN, FakeValidator, Time

from acmems.challenges import Proof
from acmems.challenges.presented.turns import ProofTurns
from acmems.exceptions import CAUnavailable, DeadlinePassed
from acmems.system.steps.waits import SignalWait
from acmems.x509.identifiers import Identifier


def proof(name: str, token: str = TOKEN) -> Proof:
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)


class OneAtATime(FakeValidator):
    shows_one_at_a_time = True


class Order:
    """An order that wants its turn."""

    def __init__(self, turns: ProofTurns, validator: FakeValidator, *proofs: Proof) -> None:
        self.turns, self.validator, self.proofs = turns, validator, proofs
        self.steps = turns.take([(validator, proofs)], Time().within())
        self.wait: Any = None
        self.is_done = False
        self._run(None)

    @property
    def has_turn(self) -> bool:
        """Whether its proofs may be presented."""
        if not self.is_done and self.wait.signal.is_set():
            self._run(True)
        return self.is_done

    def give_up(self) -> None:
        """Let its deadline pass."""
        self._run(False)

    def leave(self) -> None:
        """Withdraw its proofs."""
        self.turns.leave(self.validator, self.proofs)

    def _run(self, value: object) -> None:
        try:
            self.wait = self.steps.send(value)
        except StopIteration:
            self.is_done = True
        else:
            assert isinstance(self.wait, SignalWait)


@pytest.fixture
def turns() -> ProofTurns:
    return ProofTurns()


class TestTurns:
    def test_two_orders_for_one_name(self, turns: ProofTurns) -> None:
        """The second waits until the proof of the first is withdrawn; the third until that of the second."""
        validator = OneAtATime()
        orders = [Order(turns, validator, proof("a.example", token)) for token in ("1", "2", "3")]
        for number, order in enumerate(orders):
            assert [each.has_turn for each in orders] == [True] * (number + 1) + [False] * (2 - number)
            order.leave()

    @pytest.mark.parametrize(
        ("name", "token", "validator"),
        [("b.example", "1", None), ("a.example", "2", OneAtATime("another")), ("a.example", TOKEN, None)],
        ids=["another name", "another type", "the same proof"],
    )
    def test_who_need_not_wait(
        self, turns: ProofTurns, name: str, token: str, validator: FakeValidator | None
    ) -> None:
        """Other names, other types of challenge and the same proof are presented beside it."""
        usual = OneAtATime()
        assert Order(turns, usual, proof("a.example")).has_turn
        assert Order(turns, validator or usual, proof(name, token)).has_turn

    def test_validators_of_one_type(self, turns: ProofTurns) -> None:
        """What a section was before a reload and what it is now show their proofs at the same place."""
        assert Order(turns, OneAtATime(), proof("a.example")).has_turn
        assert not Order(turns, OneAtATime(), proof("a.example", "2")).has_turn

    def test_validators_that_show_many_proofs(self, turns: ProofTurns) -> None:
        """Where the CA can see all proofs, nobody waits."""
        validator = FakeValidator()
        orders = [Order(turns, validator, proof("a.example", token)) for token in ("1", "2")]
        assert [order.has_turn for order in orders] == [True, True]
        for order in orders:
            order.leave()

    def test_a_shared_proof_is_left_by_all(self, turns: ProofTurns) -> None:
        """Who shares a proof keeps the turn when another leaves it."""
        validator = OneAtATime()
        first, second = (Order(turns, validator, proof("a.example")) for _ in range(2))
        other = Order(turns, validator, proof("a.example", "other"))
        first.leave()
        assert not other.has_turn
        second.leave()
        assert other.has_turn

    def test_orders_with_several_names(self, turns: ProofTurns) -> None:
        """An order gets all of its names at once, in its turn: no two can wait for each other."""
        validator = OneAtATime()
        first = Order(turns, validator, proof("a.example", "1"))
        both = Order(turns, validator, proof("b.example", "2"), proof("a.example", "2"))
        later = Order(turns, validator, proof("b.example", "3"))
        beside = Order(turns, validator, proof("c.example", "4"))
        assert [each.has_turn for each in (both, later, beside)] == [False, False, True]
        first.leave()
        assert [each.has_turn for each in (both, later)] == [True, False]
        both.leave()
        assert later.has_turn

    def test_an_order_that_gives_up(self, turns: ProofTurns) -> None:
        """An order whose deadline passes is told so, and holds up nobody."""
        validator = OneAtATime()
        first = Order(turns, validator, proof("a.example", "1"))
        waiting = Order(turns, validator, proof("a.example", "2"), proof("b.example", "2"))
        behind = Order(turns, validator, proof("b.example", "3"))
        assert not behind.has_turn
        with pytest.raises(DeadlinePassed, match=r"a\.example, b\.example") as caught:
            waiting.give_up()
        assert caught.value.retry_after
        assert behind.has_turn
        first.leave()

    def test_steps_that_are_given_up(self, turns: ProofTurns) -> None:
        """An order that is ended while it waits holds up nobody."""
        validator = OneAtATime()
        Order(turns, validator, proof("a.example", "1")).leave()
        Order(turns, validator, proof("a.example", "1"))
        waiting = Order(turns, validator, proof("a.example", "2"), proof("b.example", "2"))
        waiting.steps.close()
        assert Order(turns, validator, proof("b.example", "3")).has_turn

    def test_a_stop(self, turns: ProofTurns) -> None:
        """A server that stops lets nobody wait."""
        validator = OneAtATime()
        Order(turns, validator, proof("a.example", "1"))
        waiting = Order(turns, validator, proof("a.example", "2"))
        turns.stop()
        for begin in (lambda: waiting.has_turn, lambda: Order(turns, validator, proof("a.example", "3"))):
            with pytest.raises(CAUnavailable, match="stopping"):
                begin()
