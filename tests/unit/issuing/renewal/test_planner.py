"""Chains are renewed when they are due, by the word of their CA, on a real state."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from concurrent.futures import Future

import pytest
from tests.renewing import DAY, HOUR, PAST, START, WINDOW, Answer, House

from acmems.exceptions import AcmeException, CAUnavailable, LimitReached
from acmems.issuing.renewal import planner
from acmems.issuing.renewal.plan import certificate_of
from acmems.issuing.renewal.planner import NotRenewable
from acmems.state.chains import ChainRecord


class TestDue:
    def test_a_ca_that_says_nothing(self, house: House) -> None:
        """A third before the end, once; the new chain has a plan of its own."""
        house.add("a.example.org")
        for _ in range(61):
            house.run(DAY)
        assert house.renewed == [("a.example.org", False)]
        assert house.plan().due == START + 120 * DAY

    def test_a_ca_with_a_window(self, house: House) -> None:
        """In the window, and the order says what it replaces."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.run()
        assert (house.plan().due, house.plan().explanation) == (WINDOW.start, WINDOW.explanation)
        house.run(54 * DAY)
        assert house.renewed == []
        house.run(DAY)
        assert house.renewed == [("a.example.org", True)]

    def test_a_ca_that_has_to_revoke(self, house: House) -> None:
        """What it moves into the past is renewed with the next question."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.run()
        house.answer = PAST
        house.run(HOUR)
        assert house.renewed == []
        house.run(5 * HOUR)
        house.run(HOUR / 60)
        assert [name for name, _ in house.renewed] == ["a.example.org"]

    def test_a_window_that_ends_after_the_chain(self, house: House) -> None:
        """A CA that has to revoke may name one for all; none expires before its turn comes."""
        house.answer, house.share = Answer(START - HOUR, START + 30 * DAY), 1.0
        house.add("a.example.org", days=6)
        house.run()
        house.run()
        assert START + 4 * DAY < house.plan().due < START + 6 * DAY
        house.run(5 * DAY)
        assert house.renewed == [("a.example.org", True)]

    def test_questions(self, house: House) -> None:
        """As often as the CA wants them, and with an hour's pause while it is away."""
        house.answer = WINDOW
        house.add("a.example.org")
        for _ in range(12):
            house.run(HOUR)
        assert len(house.asked) == 2
        house.answer = CAUnavailable("away")
        for _ in range(12):
            house.run(HOUR)
        assert len(house.asked) == 2 + 12
        assert house.plan().starts == WINDOW.start

    def test_a_client_that_was_faster(self, house: House) -> None:
        """A chain that a client has had renewed is not renewed again."""
        house.add("a.example.org")
        house.run()
        house.add("a.example.org", START + 59 * DAY)
        house.run(62 * DAY)
        assert house.renewed == []

    def test_a_chain_that_is_being_revoked(self, house: House) -> None:
        """It is not renewed: whoever revokes decides what comes after it."""
        house.add("a.example.org")
        house.run()
        (chain,) = house.chains.all()
        house.chains.revoking(chain.fingerprint, "superseded").result(20)
        house.run(62 * DAY)
        assert house.renewed == []


class TestAnswers:
    """What a CA says again changes nothing, and what it says anew changes nothing else."""

    def test_the_same_window(self, house: House) -> None:
        """The moment that was chosen stays, also where the CA names parts of a second."""
        house.answer = Answer(WINDOW.start + datetime.timedelta(milliseconds=1), WINDOW.end)
        house.add("a.example.org")
        house.run()
        chosen, house.share = house.plan(), 0.9
        house.run(6 * HOUR)
        house.run(DAY)
        assert len(house.asked) == 3
        assert house.plan() == dataclasses.replace(chosen, next_question=house.plan().next_question)

    @pytest.mark.parametrize(
        "window",
        [
            dataclasses.replace(WINDOW, start=WINDOW.start + HOUR),
            dataclasses.replace(WINDOW, end=WINDOW.end + HOUR),
        ],
        ids=["start", "end"],
    )
    def test_another_window(self, house: House, window: Answer) -> None:
        """Another moment in it is chosen, whichever end has moved."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.run()
        house.answer, house.share = window, 0.5
        house.run(7 * HOUR)
        assert (house.plan().starts, house.plan().ends) == (window.start, window.end)
        assert house.plan().due == house.plan().next_try > WINDOW.start + HOUR

    def test_another_explanation(self, house: House) -> None:
        """It is kept, for the same moment."""
        house.answer = Answer(WINDOW.start + datetime.timedelta(milliseconds=1), WINDOW.end)
        house.add("a.example.org")
        house.run()
        house.answer = dataclasses.replace(house.answer, explanation="https://ca.example/other")
        chosen, house.share = house.plan().due, 0.9
        house.run(6 * HOUR)
        assert (house.plan().due, house.plan().explanation) == (chosen, "https://ca.example/other")

    @pytest.mark.parametrize("answer", [WINDOW, PAST, CAUnavailable("away"), None], ids=str)
    def test_a_client_that_was_faster_than_the_answer(
        self, house: House, answer: Answer | AcmeException | None
    ) -> None:
        """The plan for the chain that it has replaced does not come back."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.run()
        (fingerprint,) = house.asked
        house.answer = answer
        house.meanwhile = lambda: house.add("a.example.org", house.now)
        house.run(6 * HOUR)
        assert house.asked == [fingerprint] * 2
        assert house.plans.of(fingerprint) is None
        assert house.renewed == []

    def test_a_try_that_failed_before_the_answer(self, house: House) -> None:
        """It still counts."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.run()
        house.held = []
        house.run(56 * DAY)
        (held,) = house.held
        house.meanwhile = lambda: held.set_exception(CAUnavailable("away"))
        house.answer = Answer(WINDOW.start, WINDOW.end + DAY)
        house.run(2 * DAY)
        assert (house.plan().failures, house.plan().ends) == (1, WINDOW.end + DAY)

    def test_a_look_before_it_is_noted(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """What has ended at this moment is not begun again."""
        tries: list[Future[None]] = []

        def renew(_chain: ChainRecord, _announced: bool) -> Future[None]:
            tries.append(Future())
            tries[-1].add_done_callback(lambda _: house.planner.run())
            return tries[-1]

        monkeypatch.setattr(house.planner, "_renew", renew)
        house.add("a.example.org")
        house.run()
        house.run(61 * DAY)
        (only,) = tries
        only.set_exception(CAUnavailable("away"))
        house.database.write(lambda _: None).result(20)
        assert tries == [only]
        assert house.plan().failures == 1

    def test_a_try_that_fails_after_the_answer(self, house: House) -> None:
        """It takes nothing back that the CA has said meanwhile, and no plan that is gone comes back."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.add("b.example.org")
        house.run()
        house.held = []
        house.run(56 * DAY)
        house.answer = Answer(WINDOW.start, WINDOW.end + DAY)
        house.run(2 * DAY)
        house.add("b.example.org", house.now)
        for held in house.held:
            held.set_exception(CAUnavailable("away"))
        house.database.write(lambda _: None).result(20)
        a, b, _ = (house.plans.of(each.fingerprint) for each in house.chains.all(current_only=False))
        assert a is not None
        assert (a.failures, a.ends) == (1, WINDOW.end + DAY)
        assert b is None

    def test_more_than_a_page_of_them(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        """All are changed, and why is told once."""
        monkeypatch.setattr(planner, "_PAGE", 2)
        for number in range(5):
            house.add(f"host{number}.example.org")
        house.answer = WINDOW
        house.run()
        plans = house.plans.those([each.fingerprint for each in house.chains.all()])
        assert [each.starts for each in plans] == [WINDOW.start] * 5


class TestManyAtOnce:
    def test_a_few_at_a_time(self, house: House) -> None:
        """What is due waits for its turn, and each is renewed once."""
        for number in range(8):
            house.add(f"host{number}.example.org")
        house.held = []
        house.run(61 * DAY)
        house.run()
        assert len(house.renewed) == 3
        for _ in range(3):
            names = house.renewed[-len(house.held) :]
            for (name, _), done in zip(names, house.held, strict=True):
                house.add(name, house.now)
                done.set_result(None)
            house.held.clear()
            house.run()
        assert len(house.renewed) == len(set(house.renewed)) == 8


class TestFailures:
    def test_pauses(self, house: House) -> None:
        """Each is twice as long as the one before it, at most six hours."""
        house.add("a.example.org")
        house.run()
        house.error = CAUnavailable("away")
        house.now = START + 60 * DAY
        tried = []
        for _ in range(24 * 12):
            before = len(house.renewed)
            house.run(HOUR / 12)
            if len(house.renewed) > before:
                tried.append((house.now - START - 60 * DAY) / (HOUR / 12))
        assert tried[:5] == [1, 2, 4, 8, 16]
        assert all(later - earlier <= 72 for earlier, later in itertools.pairwise(tried))
        assert (house.plan().failures, house.plan().reason) == (len(tried), "away")
        assert house.plan().fault == "CAUnavailable"

    def test_a_limit(self, house: House) -> None:
        """The next try comes when there is room."""
        house.add("a.example.org")
        house.run()
        house.error = LimitReached("full", limit="x", subject="", used=5, most=5, retry_after=100_000)
        house.run(60 * DAY)
        assert house.plan().next_try == house.now + datetime.timedelta(seconds=100_000)

    def test_the_end_is_near(self, house: House) -> None:
        """The less time is left, the more often it is tried."""
        house.add("a.example.org", days=6)
        house.run()
        house.error = CAUnavailable("away")
        house.now = START + 6 * DAY - HOUR
        for _ in range(12):
            house.run(HOUR / 12)
        assert len(house.renewed) == 11

    def test_it_is_told(self, house: House) -> None:
        """After a third of the time that was left, and at each halving; not at each try."""
        house.add("a.example.org")
        house.run()
        house.error = CAUnavailable("away")
        house.now = START + 60 * DAY
        told = []
        while house.now < START + 90 * DAY - HOUR:
            before = len(house.overdue)
            house.run(HOUR)
            if len(house.overdue) > before:
                told.append(round((house.now - START) / DAY))
        assert told[:4] == [70, 80, 85, 88]
        assert len(told) < 12
        assert house.overdue[0].reason == "away"

    def test_what_nobody_may_have_any_more(self, house: House) -> None:
        """It is not tried again for a day, and told as no failure, although it may have failed before."""
        house.add("a.example.org")
        house.run()
        house.error = CAUnavailable("away")
        house.run(61 * DAY)
        house.renewed.clear()
        house.error = NotRenewable("no auth block grants it")
        house.run(14 * DAY)
        assert (house.plan().failures, house.plan().fault) == (0, None)
        for _ in range(23):
            house.run(HOUR)
        assert len(house.renewed) == 1
        house.run(2 * HOUR)
        assert len(house.renewed) == 2
        assert house.overdue == []


class TestOver:
    """What nobody needs any more costs nothing."""

    def test_revoked_chains_hold_nobody_up(self, house: House) -> None:
        """However many are due; their plans are forgotten."""
        for number in range(5):
            house.add(f"revoked{number}.example.org")
        house.run()
        for chain in list(house.chains.all()):
            house.chains.revoking(chain.fingerprint, "keyCompromise").result(20)
        house.add("a.example.org", START + DAY)
        house.run(63 * DAY)
        for _ in range(3):
            house.run()
        assert house.renewed == [("a.example.org", False)]
        assert house.plans.count(START + 80 * DAY) == 0

    def test_an_expired_chain_of_a_client_that_is_gone(self, house: House) -> None:
        """Its CA is not asked any more, and its plan is forgotten."""
        house.error = NotRenewable("nobody asks")
        house.add("a.example.org")
        house.run(DAY)
        house.run(88 * DAY)
        (fingerprint,) = set(house.asked)
        asked = len(house.asked)
        house.run(2 * DAY)
        assert len(house.asked) == asked
        assert house.plans.of(fingerprint) is None

    def test_a_damaged_chain(self, house: House) -> None:
        """It has no name at the CA, and others are planned all the same."""
        house.add("a.example.org")
        (chain,) = house.chains.all()
        assert certificate_of(chain) is None
