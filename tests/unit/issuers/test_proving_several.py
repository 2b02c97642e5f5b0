"""Several validators in one order, and several orders with one validator."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest
from tests.fake_ca import (
    AUTHORIZATION,
    CHALLENGE,
    NAME,
    TOKEN,
    FakeValidator,
    authorization,
)
from tests.proving import (
    ANOTHER,
    OTHER,
    OTHER_AUTHORIZATION,
    Desk,
    Gated,
    OneAtATime,
    Threaded,
    answer,
    offer,
)
from tests.steps import PATIENCE, LoopTime, begin, wait_for

from acmems.challenges import ChallengeResponses, Http01, Proof, Validator
from acmems.exceptions import (
    CAUnavailable,
    ChallengeFailed,
    ValidatorUnavailable,
)
from acmems.issuers.acme.authorization import Authorization, parse


class TestSeveralValidators:
    """Two names of one order, each with a validator of its own."""

    @pytest.fixture
    def desk(self, time: LoopTime) -> Desk:
        desk = Desk(time.loop)
        desk.session.say(OTHER_AUTHORIZATION, offer("dns-01"), offer("dns-01", "valid"))
        desk.session.say(f"{CHALLENGE}/2", {})
        return desk

    def begin(self, desk: Desk, *validators: Validator) -> Future[list[Authorization]]:
        return begin(desk.loop, desk.proving_steps(*validators, urls=(AUTHORIZATION, OTHER_AUTHORIZATION)))

    def test_each_presents_and_withdraws_its_own(self, desk: Desk, time: LoopTime) -> None:
        """What takes a while is presented first, and nothing is validated before all can be seen."""
        at_once, slow = OneAtATime(), Gated("dns-01")
        order = self.begin(desk, at_once, slow)
        assert slow.entered.wait(PATIENCE)
        assert at_once.presented == []
        assert desk.session.count(CHALLENGE) == desk.session.count(f"{CHALLENGE}/2") == 0
        slow.gate.set()
        wait_for(lambda: desk.session.count(CHALLENGE) == desk.session.count(f"{CHALLENGE}/2") == 1)
        time.move(3.0)
        assert [each.status for each in order.result(PATIENCE)] == ["valid"] * 2
        for validator, name in ((at_once, NAME), (slow, OTHER)):
            assert [proof.identifier.value for proof in validator.presented] == [name]
            assert validator.withdrawn == validator.presented

    def test_a_turn_is_not_held_while_dns_is_slow(self, desk: Desk, time: LoopTime) -> None:
        """An order that waits for DNS keeps no other from proving a name that both want."""
        at_once, slow, second = OneAtATime(), Gated("dns-01"), f"{AUTHORIZATION}/2"
        waiting = self.begin(desk, at_once, slow)
        assert slow.entered.wait(PATIENCE)
        desk.session.say(second, ANOTHER, authorization("valid"))
        other = begin(time.loop, desk.proving_steps(at_once, urls=(second,)))
        time.move(3.0)
        assert other.result(PATIENCE)[0].status == "valid"
        assert not waiting.done()
        slow.gate.set()
        wait_for(lambda: desk.session.count(f"{CHALLENGE}/2") == 1)
        time.move(3.0)
        assert [each.status for each in waiting.result(PATIENCE)] == ["valid"] * 2

    @pytest.mark.parametrize("fails", ["at once", "slow"])
    def test_a_failure_of_one_withdraws_the_other(self, desk: Desk, time: LoopTime, fails: str) -> None:
        """Where one cannot present its proof, no name is validated, and the other's proof is withdrawn."""
        at_once, slow = OneAtATime(), Threaded("dns-01")
        (at_once if fails == "at once" else slow).error = ValidatorUnavailable("no")
        order = self.begin(desk, at_once, slow)
        assert isinstance(order.exception(PATIENCE), ValidatorUnavailable)
        assert [len(each.presented) for each in (slow, at_once)] == [1, int(fails == "at once")]
        assert [each.withdrawn for each in (slow, at_once)] == [slow.presented, at_once.presented]
        assert desk.session.count(CHALLENGE) == desk.session.count(f"{CHALLENGE}/2") == 0


class TestShared:
    """Two orders with the same pending authorization."""

    @pytest.mark.parametrize("kind", [FakeValidator, Threaded])
    def test_a_proof_is_presented_once(self, time: LoopTime, kind: type[FakeValidator]) -> None:
        """Two orders present the proof once, and the one that is decided last withdraws it."""
        desk, validator = Desk(time.loop), kind()
        # Read by both; then one of them hears that it is valid, and later the other.
        desk.session.say(AUTHORIZATION, *[authorization()] * 2, authorization("valid"), authorization())
        orders = [begin(time.loop, desk.proving_steps(validator)) for _ in range(2)]
        wait_for(lambda: desk.session.count(CHALLENGE) == 2)
        time.move(desk.proving.unseen.interval(0))
        wait_for(lambda: any(order.done() for order in orders))
        first, second = sorted(orders, key=lambda order: not order.done())
        assert first.result()[0].status == "valid"
        assert not second.done()
        assert (len(validator.presented), validator.withdrawn) == (1, [])
        desk.session.say(AUTHORIZATION, authorization("valid"))
        time.move(3.0)
        assert second.result(PATIENCE)[0].status == "valid"
        assert len(validator.presented) == 1
        assert validator.withdrawn == validator.presented

    @pytest.mark.parametrize("is_stopped", [False, True], ids=["decided", "stopped"])
    def test_orders_take_turns_where_the_ca_sees_one_proof(self, time: LoopTime, is_stopped: bool) -> None:
        """Two orders present proofs of their own for one name one after the other; a stop ends the wait."""
        desk, validator, second = Desk(time.loop), OneAtATime(), f"{AUTHORIZATION}/2"
        desk.session.say(second, ANOTHER, authorization("valid"))
        desk.session.say(AUTHORIZATION, authorization())
        orders = [
            begin(time.loop, desk.proving_steps(validator, urls=(url,))) for url in (AUTHORIZATION, second)
        ]
        assert [proof.token for proof in validator.presented] == [TOKEN]
        if is_stopped:
            time.loop.soon(desk.proving.stop)
            assert [type(order.exception(PATIENCE)) for order in orders] == [CAUnavailable] * 2
            assert [proof.token for proof in validator.presented] == [TOKEN]
            return
        desk.session.say(AUTHORIZATION, authorization("valid"))
        for order in orders:
            time.move(3.0)
            assert order.result(PATIENCE)[0].status == "valid"
        assert [proof.token for proof in validator.presented] == [TOKEN, TOKEN[::-1]]
        assert validator.withdrawn == validator.presented

    @pytest.mark.parametrize("error", [ValidatorUnavailable("no"), None], ids=repr)
    def test_a_turn_ends_with_a_failure(self, time: LoopTime, error: Exception | None) -> None:
        """Whatever ends the first order, the second gets its turn."""
        desk, validator = Desk(time.loop), OneAtATime(error=error)
        desk.session.say(AUTHORIZATION, authorization(), authorization("invalid"))
        first = begin(time.loop, desk.proving_steps(validator))
        time.move(3.0)
        failed = first.exception(PATIENCE)
        assert isinstance(failed, ValidatorUnavailable if error else ChallengeFailed)
        validator.error = None
        desk.session.say(AUTHORIZATION, ANOTHER, authorization("valid"))
        order = begin(time.loop, desk.proving_steps(validator))
        time.move(3.0)
        assert order.result(PATIENCE)[0].status == "valid"

    def test_who_comes_while_it_is_withdrawn(self, time: LoopTime) -> None:
        """Who wants a proof that is just being withdrawn waits for the end, and presents it anew."""
        desk, leaving, go = Desk(time.loop), threading.Event(), threading.Event()

        class Slow(Threaded):
            def withdraw(self, proofs: Sequence[Proof]) -> None:
                leaving.set()
                assert go.wait(PATIENCE)
                super().withdraw(proofs)

        validator = Slow()
        desk.session.say(AUTHORIZATION, authorization(), authorization("valid"), authorization())
        first = begin(time.loop, desk.proving_steps(validator))
        wait_for(lambda: desk.session.count(CHALLENGE) == 1)
        time.move(desk.proving.unseen.interval(0))
        assert leaving.wait(PATIENCE)
        second = begin(time.loop, desk.proving_steps(validator))
        assert len(validator.presented) == 1
        go.set()
        assert first.result(PATIENCE)[0].status == "valid"
        wait_for(lambda: len(validator.presented) == 2)
        desk.session.say(AUTHORIZATION, authorization("valid"))
        wait_for(lambda: desk.session.count(CHALLENGE) == 2)
        time.move(3.0)
        assert second.result(PATIENCE)[0].status == "valid"
        assert len(validator.withdrawn) == 2

    def test_an_answer_wakes_both(self) -> None:
        """Whoever of two orders has put an http-01 answer, it wakes both, and goes with the last of them."""
        desk = Desk()
        responses = ChallengeResponses()
        validator = Http01("http", (), responses)
        pending = parse(answer(authorization()), AUTHORIZATION)
        deadline = desk.time.within()
        first, second = (
            desk.loop.run(desk.proving.begin(pending, validator, deadline, lambda _: None)) for _ in range(2)
        )
        assert responses.fetch(NAME, f"/.well-known/acme-challenge/{TOKEN}") is not None
        assert first.requested.is_set()
        assert second.requested.is_set()
        desk.loop.run(desk.proving.withdraw(first))
        assert responses != {}
        desk.loop.run(desk.proving.withdraw(second))
        assert responses == {}
        desk.loop.run(desk.proving.withdraw(first, second))  # once more changes nothing
