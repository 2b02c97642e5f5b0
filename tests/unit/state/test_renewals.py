"""Plans of renewals in the state."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalQuestion, RenewalRecord, RenewalRecords
from acmems.state.engines.contract import Database

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def plans(database: Database) -> RenewalRecords:
    return RenewalRecords(database)


def plan(fingerprint: str, days: int, *, is_told: bool = True) -> RenewalRecord:
    """Return a plan that is due in some days, by the word of the CA or by the lifetime."""
    due = NOW + days * DAY
    made = RenewalRecord(
        fingerprint=fingerprint, directory="d", ends_at=due + DAY, due=due, next_question=due, next_try=due
    )
    return dataclasses.replace(made, starts=due, ends=due + DAY, explanation="why") if is_told else made


def test_what_is_kept_comes_back(plans: RenewalRecords) -> None:
    """With all that is known; a later plan takes its place."""
    plans.begin((), [plan("a", 1), plan("b", 2, is_told=False)]).result(20)
    assert (plans.of("a"), plans.of("b")) == (plan("a", 1), plan("b", 2, is_told=False))
    plans.begin((), [plan("a", 3)]).result(20)
    assert plans.of("a") == plan("a", 3)


def test_what_is_to_be_done(plans: RenewalRecords) -> None:
    """What is due comes first, and nothing that is not."""
    plans.begin((), [plan("a", 3), plan("b", 1), plan("c", 2), plan("d", 9)]).result(20)
    now = NOW + 3 * DAY
    assert [each.fingerprint for each in plans.to_try(now, 9)] == ["b", "c", "a"]
    assert [each.fingerprint for each in plans.to_ask(now, 2)] == ["b", "c"]
    assert plans.count(now) == 3


def test_what_is_asked(plans: RenewalRecords) -> None:
    """What the CA has said, as it is kept; it comes again when it is time to ask again."""
    kept = plan("a", 1)
    plans.begin((), [kept, plan("b", 2, is_told=False)]).result(20)
    told, untold = plans.to_ask(NOW + 2 * DAY, 9)
    starts, ends_at = int(kept.due.timestamp()), int(kept.ends_at.timestamp())
    assert told == RenewalQuestion("a", "d", None, ends_at, starts, ends_at, "why")
    assert (untold.fingerprint, untold.starts, untold.ends, untold.explanation) == ("b", None, None, None)
    later, now = (int(at.timestamp()) for at in (NOW + 3 * DAY, NOW))
    plans.postpone([(later, "a"), (now, "gone")]).result(20)
    assert [each.fingerprint for each in plans.to_ask(NOW + 2 * DAY, 9)] == ["b"]
    assert plans.of("a") == dataclasses.replace(kept, next_question=NOW + 3 * DAY)


def test_what_was_answered(plans: RenewalRecords) -> None:
    """It takes nothing back that has come of tries, unless the moment to renew is another one."""
    kept = plan("a", 1)
    failed = dataclasses.replace(kept, next_try=NOW + 5 * DAY, failures=2, reason="away", told=NOW)
    plans.begin((), [failed, plan("b", 2)]).result(20)
    answered, expected = (
        dataclasses.replace(each, ends=kept.due + 2 * DAY, explanation=None, next_question=NOW + 9 * DAY)
        for each in (kept, failed)
    )
    plans.answered([answered, plan("gone", 1)]).result(20)
    assert plans.of("a") == expected
    assert (plans.of("b"), plans.of("gone")) == (plan("b", 2), None)
    moved = dataclasses.replace(kept, starts=NOW, due=NOW + DAY / 2)
    plans.answered([moved]).result(20)
    expected = dataclasses.replace(moved, next_try=NOW + DAY / 2, failures=2, reason="away", told=NOW)
    assert plans.of("a") == expected


def test_what_was_tried(plans: RenewalRecords) -> None:
    """It takes nothing back that the CA has said."""
    kept = plan("a", 1)
    told = dataclasses.replace(kept, ends=kept.due + 2 * DAY, due=kept.due + DAY)
    plans.begin((), [told, plan("b", 2)]).result(20)
    failed = dataclasses.replace(kept, next_try=NOW + 5 * DAY, failures=2, reason="away", told=NOW)
    plans.tried(failed)
    plans.tried(plan("gone", 1))
    plans.postpone([]).result(20)
    assert plans.of("a") == dataclasses.replace(failed, ends=told.ends, due=told.due)
    assert (plans.of("b"), plans.of("gone")) == (plan("b", 2), None)


def test_windows(plans: RenewalRecords) -> None:
    """What the CA has told; of a plan that it has told nothing of, and where there is none, nothing."""
    plans.begin((), [plan("a", 1), plan("b", 2, is_told=False)]).result(20)
    assert plans.window("a") == (NOW + DAY, NOW + 2 * DAY)
    assert (plans.window("b"), plans.window("c")) == (None, None)


def test_some_plans(plans: RenewalRecords) -> None:
    """Those that there are."""
    plans.begin((), [plan("a", 1), plan("b", 2)]).result(20)
    assert plans.those(["b", "c"]) == [plan("b", 2)]
    assert plans.those([]) == []


def test_what_is_due_by_the_word_of_the_ca(plans: RenewalRecords) -> None:
    """A plan by the lifetime alone is not among it, and a failure that is tried again later is."""
    failed = dataclasses.replace(plan("a", 1), next_try=NOW + 9 * DAY, failures=1)
    plans.begin((), [failed, plan("b", 2), plan("c", 1, is_told=False), plan("d", 9)]).result(20)
    assert plans.due(NOW + 3 * DAY, 9) == [("a", NOW + DAY), ("b", NOW + 2 * DAY)]
    assert plans.due(NOW + 3 * DAY, 1) == [("a", NOW + DAY)]


def test_a_clock_that_was_ahead(plans: RenewalRecords, database: Database) -> None:
    """What is put off for longer than anything is, and what has no plan though it is valid, is put right."""
    late = NOW + 365 * DAY
    plans.begin(
        (),
        [
            dataclasses.replace(plan("right", 30), next_question=NOW + DAY),
            dataclasses.replace(plan("tried", -1), ends_at=NOW + DAY, next_try=NOW + DAY, told=NOW),
            dataclasses.replace(plan("put off", -1), ends_at=NOW + DAY, next_try=late, told=late),
            dataclasses.replace(plan("unasked", 30), next_question=late),
            dataclasses.replace(plan("expired", -3), next_question=late),
        ],
    ).result(20)
    chains = ChainRecords(database)
    for name, days in (("valid", 30), ("over", -30)):
        chains.add(chain(name, NOW + days * DAY)).result(20)
        plans.begin([name], ()).result(20)
    before = {each.fingerprint: each for each in plans.to_try(late, 9)}
    assert plans.correct(NOW, 2 * DAY) == 3
    after = {each.fingerprint: each for each in plans.to_try(late, 9)}
    assert {name for name, each in after.items() if each == before[name]} == {"right", "tried", "expired"}
    assert (after["put off"].next_try, after["put off"].told) == (NOW - DAY, None)
    assert after["unasked"].next_question == NOW
    assert plans.unplanned(9) == ["valid"]
    assert plans.correct(NOW, 2 * DAY) == 0


def chain(name: str, not_after: datetime.datetime) -> ChainRecord:
    """Return a chain that is current."""
    return ChainRecord(
        fingerprint=name,
        identity=name,
        directory="d",
        names=(name,),
        serial="1",
        key_digest="",
        pem=b"",
        not_before=not_after - 90 * DAY,
        not_after=not_after,
        issued=not_after - 90 * DAY,
    )
