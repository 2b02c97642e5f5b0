"""How soon to poll again."""

from __future__ import annotations

import math

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


class TestWanted:
    """Waits that the CA names."""

    def looks(self, wanted: float, left: float) -> list[float]:
        """Return the waits of a poller until none fits before its deadline."""
        intervals = PollInterval()
        waits: list[float] = []
        while (seconds := intervals.wait(len(waits), wanted, left)) < left:
            waits.append(seconds)
            left -= seconds
            assert len(waits) < 100
        return waits

    def test_what_fits_is_kept(self) -> None:
        """Nobody looks earlier than the CA wants, as long as that leaves a look."""
        assert self.looks(30, 120) == [30, 30, 30, 15, 7.5, 5]
        assert PollInterval().wait(0, 299, math.inf) == 299
        assert self.looks(2, 10) == [2, 2, 2, 2]

    @pytest.mark.threat("ca", "Retry-After")
    @pytest.mark.parametrize("wanted", [86_400.0, 3600.0, 120.0])
    def test_an_absurd_one_leaves_looks(self, wanted: float) -> None:
        """However long a CA wants nobody to look, there are a few looks before the deadline, and not many."""
        assert self.looks(wanted, 120) == [60, 30, 15, 7.5, 5]
        assert self.looks(wanted, 6) == [5]
        assert self.looks(wanted, 4) == []

    def test_an_absurd_one_without_a_deadline(self) -> None:
        """Where there is time, there is a look every five minutes."""
        assert PollInterval().wait(3, 86_400, math.inf) == 300

    @pytest.mark.parametrize("wanted", [None, 0.0, 0.5])
    def test_none_or_a_small_one(self, wanted: float | None) -> None:
        """Intervals grow as without it where the CA names no wait, or one that is shorter."""
        intervals = PollInterval(first=1.0)
        waits = [intervals.wait(polls, wanted, math.inf) for polls in range(5)]
        assert waits == [intervals.interval(polls) for polls in range(5)]


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
