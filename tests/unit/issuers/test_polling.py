"""How soon to poll again."""

from __future__ import annotations

import pytest

from acmems.issuers.acme.polling import PollInterval


class TestInterval:
    def test_polls_become_rarer(self) -> None:
        """The first poll comes when a decision is expected, the second soon after, each later one later."""
        intervals = PollInterval(first=1.0, longest=2.0)
        assert [intervals.interval(polls) for polls in range(5)] == pytest.approx(
            [1.0, 0.6, 0.96, 1.536, 2.0]
        )

    def test_bounds(self) -> None:
        """No interval is longer than the longest, nor so short that polling would be all that is done."""
        assert PollInterval().interval(PollInterval.MANY) == 5
        assert PollInterval(first=60, longest=5).interval(0) == 5
        assert PollInterval(first=0).interval(0) == PollInterval.SHORTEST
        assert PollInterval().interval(1_000_000) == PollInterval.LONGEST


class TestLearn:
    def test_a_slow_ca(self) -> None:
        """After decisions that needed several polls the first one comes later, towards the time they took."""
        intervals = PollInterval(first=1.0)
        intervals.learn(2.0, polls=3)
        assert intervals.expected == pytest.approx(1.3)
        for _ in range(50):
            intervals.learn(2.0, polls=2)
        assert intervals.expected == pytest.approx(2.0)

    def test_a_fast_ca(self) -> None:
        """After decisions that were there at the first poll that one comes a little sooner, to a limit."""
        intervals = PollInterval(first=1.0)
        intervals.learn(1.0, polls=1)
        assert intervals.expected == pytest.approx(0.9)
        for _ in range(500):
            intervals.learn(1.0, polls=1)
        assert intervals.expected == PollInterval.SHORTEST

    def test_one_order_that_hangs(self) -> None:
        """However long one decision took, the next first poll comes within the longest interval."""
        intervals = PollInterval(first=1.0, longest=5.0)
        intervals.learn(100_000, polls=30)
        assert intervals.expected == pytest.approx(1 + 0.3 * 4)
