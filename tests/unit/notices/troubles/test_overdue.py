"""Renewals that fail are told by what stands in their way."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest
from tests.noticing import DAY, DIRECTORY, HOUR, NOW

from acmems.notices.causes import Trouble
from acmems.notices.troubles.overdue import MOST_CAUSES, MOST_NAMED, renewal_troubles
from acmems.state.notices.failing import FailingRenewal

REASON = "the CA could not validate {}: Connection refused"


def failing(number: int = 0, left: datetime.timedelta = 9 * DAY, **changed: Any) -> FailingRenewal:
    name = f"machine{number}.example.org"
    ends = NOW + left
    renewal = FailingRenewal(
        fingerprint=f"{number:064x}",
        directory=DIRECTORY,
        names=(name,),
        block="web",
        due=ends - 30 * DAY,
        ends=ends,
        next_try=NOW + HOUR,
        failures=4,
        reason=REASON.format(name),
        fault="ChallengeFailed",
    )
    return replace(renewal, **changed)


def one(*renewals: FailingRenewal, now: datetime.datetime = NOW) -> Trouble:
    (trouble,) = renewal_troubles(renewals, (), now)
    return trouble


def test_a_thousand_for_one_reason() -> None:
    """They are one trouble: with their number, and the names of those that end first."""
    trouble = one(*(failing(each, (1 + each % 9) * DAY) for each in range(1000)))
    assert trouble.number == trouble.facts["certificates"] == 1000
    assert trouble.subject == "1,000 certificates are not renewed; the first ends in 24 hours"
    assert [each["names"] for each in trouble.facts["first"]] == [
        [f"machine{9 * each}.example.org"] for each in range(MOST_NAMED)
    ]
    assert "- and 990 more: 'acmems list' shows all" in trouble.text
    assert "Reason: the CA could not validate machine0.example.org: Connection refused" in trouble.text


@pytest.mark.parametrize(
    ("left", "stage", "severity"),
    [
        (20.1, None, ""),
        (19.9, 1, "warning"),
        (9.9, 2, "warning"),
        (4.9, 3, "critical"),
        (-0.1, 10, "critical"),
    ],
)
def test_the_time_that_is_left(left: float, stage: int | None, severity: str) -> None:
    """It is told after a third of it, and is critical in the last sixth; the end is one stage more."""
    troubles = renewal_troubles([failing(left=left * DAY)], (), NOW)
    assert [(each.stage, each.severity) for each in troubles] == (
        [] if stage is None else [(stage, severity)]
    )


def test_those_that_are_not_late_yet() -> None:
    """They count as soon as another one that fails for the same reason is late."""
    assert one(failing(1, 5 * DAY), failing(2, 25 * DAY)).number == 2


def test_what_is_not_due() -> None:
    """The CA has moved its window: that it had failed before does not matter."""
    waiting = failing(1, due=NOW + DAY)
    assert renewal_troubles([waiting], (), NOW) == []
    assert one(failing(2), waiting).number == 1


def test_what_is_said_of_the_ca() -> None:
    """That it does not answer is one reason, in whatever words, and another CA is another one."""
    words = ["connection refused", "no answer within 30 s"]
    down = [failing(each, fault="CAUnavailable", reason=words[each]) for each in (0, 1)]
    assert one(*down).number == 2
    elsewhere = replace(down[1], directory=f"{DIRECTORY}/2")
    assert len(renewal_troubles([down[0], elsewhere], (), NOW)) == 2


class TestLimits:
    """What stops renewals is told before it is late."""

    @pytest.mark.parametrize(
        ("changed", "is_told"),
        [
            ({}, False),
            ({"failures": 2}, True),
            ({"next_try": NOW + 11 * DAY}, True),
            ({"failures": 2, "fault": "CAError"}, False),
        ],
    )
    def test_when(self, changed: dict[str, Any], is_told: bool) -> None:
        """As soon as it lasts over a try, or until it would be late."""
        limited = failing(left=29 * DAY, **{"failures": 1, "fault": "LimitReached", **changed})
        assert [each.kind for each in renewal_troubles([limited], (), NOW)] == ["limit"] * is_told

    def test_the_words(self) -> None:
        """They say that it is one."""
        trouble = one(failing(left=29 * DAY, fault="RateLimited", names=("a", "b", "c", "d", "e")))
        assert trouble.subject == (
            "the certificate for a, b, c and 2 more is not renewed because of a limit of the CA, and ends in "
            "29 days"
        )


class TestManyReasons:
    """What nobody could tell apart does not become a flood."""

    def test_more_than_can_be_told(self) -> None:
        """The largest are told apart, and the others together."""
        renewals = [
            failing(100 * reason + each, reason=f"{'x' * (1 + reason)} fails")
            for reason in range(MOST_CAUSES + 5)
            for each in range(1 + reason)
        ]
        troubles = renewal_troubles(renewals, (), NOW)
        assert [each.number for each in troubles] == [*range(15, 5, -1), 1 + 2 + 3 + 4 + 5]
        assert troubles[-1].reason.startswith("several reasons, such as: x")
        again = renewal_troubles(renewals, {troubles[-1].cause}, NOW)
        assert {each.cause for each in again} == {each.cause for each in troubles}

    def test_those_that_were_told(self) -> None:
        """They go on to be told apart, however few are left of them."""
        renewals = [
            failing(100 * reason + each, reason=f"{'x' * (1 + reason)} fails")
            for reason in range(MOST_CAUSES + 5)
            for each in range(1 + reason)
        ]
        (smallest,) = renewal_troubles(renewals[:1], (), NOW)
        assert smallest.cause in {each.cause for each in renewal_troubles(renewals, {smallest.cause}, NOW)}

    def test_a_reason_for_each(self) -> None:
        """Memory does not grow with them."""
        renewals = [failing(each, reason=f"{'y' * (1 + each)} fails") for each in range(1900)]
        troubles = renewal_troubles(renewals, (), NOW)
        assert (len(troubles), sum(each.number for each in troubles)) == (MOST_CAUSES + 1, 1900)
