"""What is told of what is wrong, and when."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from tests.noticing import DAY, DIRECTORY, HOUR, NOW, make_trouble

from acmems.notices.causes import Trouble, judge, reminder_after
from acmems.state.notices.causes import CauseRecord


class Story:
    """Looks, one after the other, and what is told after each."""

    def __init__(self) -> None:
        self.known: dict[str, CauseRecord] = {}
        self.now = NOW

    def look(self, *troubles: Trouble, after: datetime.timedelta = HOUR) -> list[tuple[str, str]]:
        self.now += after
        judged = judge(self.known.values(), troubles, self.now)
        self.known.update({each.cause: each for each in judged.kept})
        for each in judged.ended:
            del self.known[each]
        return [(each.phase, each.cause.cause) for each in judged.tellings]


@pytest.fixture
def story() -> Story:
    return Story()


def test_from_its_beginning_to_its_end(story: Story) -> None:
    """It is told once when it begins and once when it is over, however often it is seen."""
    assert story.look(make_trouble()) == [("begun", "c")]
    assert [story.look(make_trouble()) for _ in range(20)] == [[]] * 20
    assert story.look() == [("ended", "c")]
    assert story.look() == []


@pytest.mark.parametrize(
    ("changed", "is_told"),
    [
        ({"stage": 2}, True),
        ({"severity": "critical"}, True),
        ({"number": 20}, True),
        ({"number": 19}, False),
        ({"stage": 0}, False),
        ({"reason": "in other words"}, False),
    ],
)
def test_what_changes(story: Story, changed: dict[str, Any], is_told: bool) -> None:
    """It is told again when it gets worse, or twice as large."""
    story.look(make_trouble(stage=1, number=10))
    assert bool(story.look(make_trouble(**{"stage": 1, "number": 10, **changed}))) is is_told


def test_what_grows_fast(story: Story) -> None:
    """It is told again after an hour, not at each look."""
    story.look(make_trouble(number=1))
    minute = datetime.timedelta(minutes=1)
    told = [story.look(make_trouble(number=2**each), after=minute) for each in range(1, 12)]
    assert not any(told)
    assert story.look(make_trouble(number=5000)) == [("continues", "c")]


def test_what_gets_better_and_worse_again(story: Story) -> None:
    """Another certificate that comes as near to its end as the one before it is news."""
    story.look(make_trouble(stage=4))
    assert story.look(make_trouble(stage=1)) == []
    assert story.look(make_trouble(stage=4)) == [("continues", "c")]


def test_reminders(story: Story) -> None:
    """What stays as it is is told after one, two and four days, and then each week."""
    story.look(make_trouble())
    told = [each for each in range(1, 40 * 24) if story.look(make_trouble())]
    assert [each // 24 for each in told] == [1, 3, 7, 14, 21, 28, 35]
    assert reminder_after(0) == DAY
    assert reminder_after(10**6) == 7 * DAY


class TestChangingReasons:
    """A CA that now refuses and now does not answer is two causes, and neither is over between."""

    def test_that_alternate(self, story: Story) -> None:
        """Each is told once."""
        told = [story.look(make_trouble("ab"[each % 2])) for each in range(12)]
        assert told == [[("begun", "a")], [("begun", "b")], *[[]] * 10]

    def test_when_all_is_over(self, story: Story) -> None:
        """Both are told to be over at once."""
        story.look(make_trouble("a"))
        story.look(make_trouble("b"))
        assert story.look() == [("ended", "a"), ("ended", "b")]

    def test_one_that_does_not_come_back(self, story: Story) -> None:
        """It is over after a day."""
        story.look(make_trouble("a"))
        told = [story.look(make_trouble("b")) for _ in range(26)]
        assert [number for number, each in enumerate(told) if ("ended", "a") in each] == [23]

    def test_at_another_ca(self, story: Story) -> None:
        """What fails there says nothing of this one."""
        story.look(make_trouble("a"))
        assert ("ended", "a") in story.look(make_trouble("b", directory=f"{DIRECTORY}/2"))


def test_the_severity_is_the_worst_that_was_told(story: Story) -> None:
    """Whoever was told of what is critical is told of its end."""
    story.look(make_trouble(severity="critical"))
    story.look(make_trouble(severity="warning"), after=2 * DAY)
    assert story.known["c"].severity == "critical"
    assert (story.known["c"].times, story.known["c"].began) == (2, NOW + HOUR)
