"""One process writes at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from acmems.state.engines.turns import WritingTurns

_SPAWN = multiprocessing.get_context("spawn")


def _hold(path: Path, entered: Event) -> None:
    with WritingTurns(path).turn(20):
        entered.set()
        signal.pause()


class TestTurn:
    def test_only_one_has_it(self, tmp_path: Path) -> None:
        """It is given back at the end, also after an error."""
        one, other = (WritingTurns(tmp_path / "file") for _ in range(2))
        with one.turn(20), pytest.raises(TimeoutError), other.turn(0):
            pass
        with pytest.raises(ZeroDivisionError), one.turn(20):
            raise ZeroDivisionError
        with other.turn(0):
            pass
        for each in one, other:
            each.close()

    def test_whoever_dies_gives_it_back(self, tmp_path: Path) -> None:
        """A process that is killed while it writes stops nobody."""
        entered = _SPAWN.Event()
        process = _SPAWN.Process(target=_hold, args=(tmp_path / "file", entered))
        process.start()
        assert entered.wait(60)
        turns = WritingTurns(tmp_path / "file")
        with pytest.raises(TimeoutError, match="has been writing"), turns.turn(0):
            pass
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(60)
        with turns.turn(20):
            pass
        turns.close()
