"""What is on show: presented once, shared, withdrawn once, and never both at a time."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ca import NAME, TOKEN, FakeValidator, Time

from acmems.challenges import Proof
from acmems.challenges.presented.note_files import NoteFiles
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import DeadlinePassed, ValidatorUnavailable
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

NOWHERE = NoteFiles(Path("/nonexistent/presented"))


def proof(on_request: Callable[[], None] = lambda: None) -> Proof:
    return Proof(Identifier.dns(NAME), TOKEN, f"{TOKEN}.thumbprint", on_request)


class Gate:
    """A place where a thread waits until it is let through, and tells when it has come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.open.wait(30)


class Slow(FakeValidator):
    """Presents and withdraws when let; complains about doing two things at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.presenting = Gate()
        self.withdrawing = Gate()
        self.busy = threading.Lock()

    def present(self, proofs: Sequence[Proof]) -> None:
        assert self.busy.acquire(blocking=False)
        self.presenting.pass_through()
        self.busy.release()
        super().present(proofs)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        assert self.busy.acquire(blocking=False)
        self.withdrawing.pass_through()
        self.busy.release()
        super().withdraw(proofs)


def in_thread(pool: ThreadPoolExecutor, proofs: PresentedProofs, validator: FakeValidator) -> Future[None]:
    return pool.submit(proofs.present, validator, [proof()], SYSTEM.deadline(30))


class TestSharing:
    """Orders that share a pending authorization share its proof."""

    def test_the_first_order_presents_and_the_last_withdraws(self) -> None:
        """The first presents, the last withdraws, and every one is told of the CA's visit."""
        proofs, validator, deadline = (
            PresentedProofs(Time().clock(), NOWHERE),
            FakeValidator(),
            Time().within(),
        )
        visits: list[str] = []
        shared = [proof(lambda: visits.append("first")), proof(lambda: visits.append("second"))]
        for each in shared:
            proofs.present(validator, [each], deadline)
        (presented,) = validator.presented
        presented.on_request()
        assert visits == ["first", "second"]
        proofs.withdraw(validator, shared[:1])
        assert validator.withdrawn == []
        presented.on_request()
        assert visits == ["first", "second", "second"]
        proofs.withdraw(validator, shared[1:])
        assert validator.withdrawn == validator.presented

    def test_a_name_and_its_wildcard_without_tokens(self) -> None:
        """A name and its wildcard are two proofs where no token tells them apart, as in dns-persist-01."""
        proofs, validator = PresentedProofs(Time().clock(), NOWHERE), FakeValidator("dns-persist-01")
        both = [
            Proof(
                Identifier.dns(NAME), "", "", lambda: None, account_url="https://ca/1", is_wildcard=wildcard
            )
            for wildcard in (False, True)
        ]
        proofs.present(validator, both, Time().within())
        assert [proof.is_wildcard for proof in validator.presented] == [False, True]
        proofs.withdraw(validator, both)
        assert validator.withdrawn == validator.presented

    @pytest.mark.parametrize(
        "difference",
        [
            {"identifier": Identifier.dns("b.example.org")},
            {"token": "other"},
            {"key_authorization": "other.thumbprint"},
            {"account_url": "https://ca/2"},
            {"is_wildcard": True},
            {"issuers": ("ca.example",)},
        ],
        ids=lambda difference: str(*difference),
    )
    def test_orders_share_only_equal_proofs(self, difference: dict[str, Any]) -> None:
        """Orders share a proof only where the same is presented in every respect."""
        proofs, validator, deadline = (
            PresentedProofs(Time().clock(), NOWHERE),
            FakeValidator(),
            Time().within(),
        )
        proofs.present(validator, [proof()], deadline)
        proofs.present(validator, [dataclasses.replace(proof(), **difference)], deadline)
        assert len(validator.presented) == 2

    def test_validators_of_one_name(self) -> None:
        """Validators share nothing because of their names, which scripts may give twice."""
        proofs, validators = PresentedProofs(Time().clock(), NOWHERE), [FakeValidator(), FakeValidator()]
        for validator in validators:
            proofs.present(validator, [proof()], Time().within())
        assert [len(validator.presented) for validator in validators] == [1, 1]

    def test_orders_wait_until_a_shared_proof_is_presented(self) -> None:
        """Nobody goes on before the proof is there."""
        proofs, validator = PresentedProofs(SYSTEM, NOWHERE), Slow()
        with ThreadPoolExecutor(2) as pool:
            first = in_thread(pool, proofs, validator)
            assert validator.presenting.reached.wait(30)
            second = in_thread(pool, proofs, validator)
            with pytest.raises(TimeoutError):
                second.result(0.05)
            validator.presenting.open.set()
            first.result(30)
            second.result(30)
        assert len(validator.presented) == 1

    def test_an_order_stops_waiting_for_a_shared_proof_at_its_deadline(self) -> None:
        """Whoever waits for another's proof gives up at its own deadline; the proof stays the other's."""
        proofs, validator = PresentedProofs(SYSTEM, NOWHERE), Slow()
        with ThreadPoolExecutor(1) as pool:
            first = in_thread(pool, proofs, validator)
            assert validator.presenting.reached.wait(30)
            with pytest.raises(DeadlinePassed):
                proofs.present(validator, [proof()], SYSTEM.deadline(0.01))
            assert validator.withdrawn == []
            validator.presenting.open.set()
            first.result(30)
        assert validator.withdrawn == []


class TestFailures:
    """A proof that cannot be presented is nobody's."""

    @pytest.mark.parametrize(
        "error", [ValidatorUnavailable("no DNS"), RuntimeError("a bug"), KeyboardInterrupt()], ids=repr
    )
    def test_the_next_one_presents_anew(self, error: BaseException) -> None:
        """Whatever presenting raised, it is not remembered as done."""

        class Broken(FakeValidator):
            def present(self, proofs: Sequence[Proof]) -> None:
                super().present(proofs)
                if len(self.presented) == 1:
                    raise error

        proofs, validator, deadline = PresentedProofs(Time().clock(), NOWHERE), Broken(), Time().within()
        with pytest.raises(type(error)):
            proofs.present(validator, [proof()], deadline)
        assert len(validator.withdrawn) == 1
        proofs.present(validator, [proof()], deadline)
        assert len(validator.presented) == 2

    @pytest.mark.parametrize(
        ("error", "words"),
        [(ValidatorUnavailable("no DNS"), "no DNS"), (RuntimeError("a bug"), "could not be presented")],
        ids=repr,
    )
    def test_a_failure_is_raised_in_each_order_that_waits(self, error: Exception, words: str) -> None:
        """Each who waits for the same proof gets an error of its own, and the last one withdraws."""

        class Broken(Slow):
            def present(self, proofs: Sequence[Proof]) -> None:
                super().present(proofs)
                raise error

        proofs, validator = PresentedProofs(SYSTEM, NOWHERE), Broken()
        validator.withdrawing.open.set()
        with ThreadPoolExecutor(3) as pool:
            first = in_thread(pool, proofs, validator)
            assert validator.presenting.reached.wait(30)
            others = [in_thread(pool, proofs, validator) for _ in range(2)]
            while len(next(iter(proofs._presentations.values())).watchers) < 3:
                SYSTEM.sleep(0.001)
            validator.presenting.open.set()
            assert first.exception(30) is error
            failures = [other.exception(30) for other in others]
        assert [type(failure) for failure in failures] == [ValidatorUnavailable] * 2
        assert all(words in str(failure) and failure is not error for failure in failures)
        assert failures[0] is not failures[1]
        assert len(validator.withdrawn) == 1

    def test_a_withdrawal_that_fails_for_no_known_reason(self, caplog: pytest.LogCaptureFixture) -> None:
        """A bug in withdrawing is logged as one; the proof is gone for us all the same."""

        class Broken(FakeValidator):
            def withdraw(self, proofs: Sequence[Proof]) -> None:
                raise RuntimeError("a bug")

        proofs, validator, deadline = PresentedProofs(Time().clock(), NOWHERE), Broken(), Time().within()
        for _ in range(2):
            shown = proof()
            proofs.present(validator, [shown], deadline)
            proofs.withdraw(validator, [shown])
        assert len(validator.presented) == 2
        assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
        assert TOKEN not in caplog.text


class TestOrder:
    """Presenting and withdrawing of one proof never overlap."""

    def test_a_proof_is_presented_again_after_its_withdrawal_ends(self) -> None:
        """Whoever comes during a withdrawal waits for its end: else it would take the new proof away."""
        proofs, validator = PresentedProofs(SYSTEM, NOWHERE), Slow()
        validator.presenting.open.set()
        shown = proof()
        proofs.present(validator, [shown], SYSTEM.deadline(30))
        with ThreadPoolExecutor(2) as pool:
            leaving = pool.submit(proofs.withdraw, validator, [shown])
            assert validator.withdrawing.reached.wait(30)
            coming = in_thread(pool, proofs, validator)
            with pytest.raises(TimeoutError):
                coming.result(0.05)
            assert len(validator.presented) == 1
            validator.withdrawing.open.set()
            leaving.result(30)
            coming.result(30)
        assert (len(validator.presented), len(validator.withdrawn)) == (2, 1)

    def test_a_withdrawal_that_takes_too_long(self) -> None:
        """Whoever waits for the end of a withdrawal gives up at its deadline."""
        proofs, validator = PresentedProofs(SYSTEM, NOWHERE), Slow()
        validator.presenting.open.set()
        shown = proof()
        proofs.present(validator, [shown], SYSTEM.deadline(30))
        with ThreadPoolExecutor(1) as pool:
            leaving = pool.submit(proofs.withdraw, validator, [shown])
            assert validator.withdrawing.reached.wait(30)
            with pytest.raises(DeadlinePassed):
                proofs.present(validator, [proof()], SYSTEM.deadline(0.01))
            validator.withdrawing.open.set()
            leaving.result(30)
        assert len(validator.presented) == 1

    def test_another_proof_waits_for_nobody(self) -> None:
        """What is being withdrawn holds up no other proof."""
        proofs, validator = PresentedProofs(SYSTEM, NOWHERE), Slow()
        validator.presenting.open.set()
        shown = proof()
        proofs.present(validator, [shown], SYSTEM.deadline(30))
        other = Proof(Identifier.dns("b.example.org"), "other", "other.thumbprint", lambda: None)
        with ThreadPoolExecutor(1) as pool:
            leaving = pool.submit(proofs.withdraw, validator, [shown])
            assert validator.withdrawing.reached.wait(30)
            quick = FakeValidator()
            proofs.present(quick, [other], SYSTEM.deadline(30))
            assert [each.identifier for each in quick.presented] == [other.identifier]
            validator.withdrawing.open.set()
            leaving.result(30)
