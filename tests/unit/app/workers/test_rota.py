"""Which worker process is started, told to leave, or waited for."""

from __future__ import annotations

import pytest

from acmems.app.workers.rota import (
    LONGEST_PAUSE,
    WorkerState,
    ending,
    is_complete,
    next_position,
    pause_after,
    superseded,
)

FORMER, PRESENT = 1, 2


def serving(position: int, setup: int = PRESENT) -> WorkerState:
    return WorkerState(position, setup, is_ready=True)


def leaving(position: int, setup: int = FORMER) -> WorkerState:
    return WorkerState(position, setup, is_ready=True, is_leaving=True)


class TestStarts:
    @pytest.mark.parametrize(
        ("workers", "position"),
        [
            pytest.param([], 0, id="the first"),
            pytest.param([WorkerState(0, PRESENT)], None, id="none while another one starts"),
            pytest.param([serving(0)], 1, id="the next when that one serves"),
            pytest.param([serving(0), serving(1)], None, id="none where all are there"),
            pytest.param([serving(1), serving(0, FORMER)], 0, id="in the place of a former one"),
            pytest.param([serving(0), leaving(1)], 1, id="where another one leaves"),
            pytest.param([serving(0), WorkerState(1, FORMER, is_leaving=True)], 1, id="whatever leaves"),
        ],
    )
    def test_one_after_the_other(self, workers: list[WorkerState], position: int | None) -> None:
        """One process is started at a time, for the first position that has none yet."""
        assert next_position(workers, PRESENT, 2, {}, now=100.0) == position

    def test_a_pause_holds_up_no_other_position(self) -> None:
        """A position where processes end again and again is left out until its pause is over."""
        due = {0: 130.0, 1: 0.0}
        assert next_position([], PRESENT, 2, due, now=100.0) == 1
        assert next_position([serving(1)], PRESENT, 2, due, now=129.9) is None
        assert next_position([serving(1)], PRESENT, 2, due, now=130.0) == 0

    def test_pauses_grow(self) -> None:
        """A process that has ended is replaced at once; if that goes on, after ever longer pauses."""
        assert [pause_after(failures) for failures in range(6)] == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0]
        assert pause_after(1_000_000) == LONGEST_PAUSE


class TestReplacements:
    def test_former_ones_leave_when_others_have_their_places(self) -> None:
        """A process leaves when a later one serves at its position, and not before."""
        former = [serving(0, FORMER), serving(1, FORMER)]
        assert superseded([*former, WorkerState(0, PRESENT)], PRESENT) == []
        assert superseded([*former, serving(0)], PRESENT) == [0]
        assert superseded([leaving(0), former[1], serving(0), serving(1)], PRESENT) == [1]

    def test_who_tries_a_later_configuration_stays(self) -> None:
        """A process that starts by a configuration that is only tried yet is not told to leave."""
        assert superseded([serving(0, FORMER), WorkerState(0, PRESENT)], FORMER) == []

    def test_complete(self) -> None:
        """All is done when each position has a process that serves by the present configuration."""
        assert not is_complete([serving(0), WorkerState(1, PRESENT)], PRESENT, 2)
        assert not is_complete([serving(0), serving(1, FORMER)], PRESENT, 2)
        assert not is_complete([serving(0), leaving(1, PRESENT)], PRESENT, 2)
        assert is_complete([serving(0), serving(1), leaving(1)], PRESENT, 2)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (2, "ended with exit code 2"),
        (-9, "was killed by SIGKILL"),
        (-40, "was killed by signal 40"),
    ],
)
def test_how_a_process_has_ended(code: int, words: str) -> None:
    """Its exit code, or its signal by name."""
    assert ending(code) == words
