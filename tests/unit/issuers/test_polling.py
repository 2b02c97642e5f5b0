"""How soon to look again."""

from __future__ import annotations

import pytest

from acmems.issuers.acme.polling import PollInterval


class TestInterval:
    def test_looks_become_rarer(self) -> None:
        """The first look comes when a decision is expected, the second soon after, each later one later."""
        pace = PollInterval(first=1.0, longest=2.0)
        assert [pace.interval(looks) for looks in range(5)] == pytest.approx([1.0, 0.6, 0.96, 1.536, 2.0])

    def test_bounds(self) -> None:
        """No pause is longer than the longest, nor so short that looking were all that is done."""
        assert PollInterval(first=60, longest=5).interval(0) == 5
        assert PollInterval(first=0).interval(0) == PollInterval.SHORTEST
        assert PollInterval().interval(1000) == 5


class TestLearn:
    def test_a_slow_ca(self) -> None:
        """After decisions that needed several looks the first one comes later, towards the time they took."""
        pace = PollInterval(first=1.0)
        pace.learn(2.0, looks=3)
        assert pace.expected == pytest.approx(1.3)
        for _ in range(50):
            pace.learn(2.0, looks=2)
        assert pace.expected == pytest.approx(2.0)

    def test_a_fast_ca(self) -> None:
        """After decisions that were there at the first look that look comes a little sooner, to a limit."""
        pace = PollInterval(first=1.0)
        pace.learn(1.0, looks=1)
        assert pace.expected == pytest.approx(0.9)
        for _ in range(500):
            pace.learn(1.0, looks=1)
        assert pace.expected == PollInterval.SHORTEST

    def test_one_order_that_hangs(self) -> None:
        """However long one decision took, the next first look comes no later than after the longest pause."""
        pace = PollInterval(first=1.0, longest=5.0)
        pace.learn(100_000, looks=30)
        assert pace.expected == pytest.approx(1 + 0.3 * 4)
