"""Which worker process is started, told to leave, or waited for: rules without I/O."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

STEADY_SECONDS: Final = 30.0
"""After which a process that ends counts as one that has worked."""
PATIENCE_SECONDS: Final = 30.0
"""For which a position may be vacant, or a process not be heard, before that counts as a fault."""
LONGEST_PAUSE: Final = 60.0
"""Seconds between two starts of a process that ends at once again and again, at most."""

_FIRST_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What counts of a worker process.

    Args:
        position: whose place it has, from 0 on.
        setup: the number of the configuration that it goes by.
        is_ready: whether it serves.
        is_leaving: whether it was told to leave.
    """

    position: int
    setup: int
    is_ready: bool = False
    is_leaving: bool = False


def next_position(
    workers: Iterable[WorkerState], setup: int, processes: int, due: Mapping[int, float], now: float
) -> int | None:
    """Return the position for which a process is to be started now, None for none.

    One is started after the other: so the first one has made key and account before another looks for them,
    and what is wrong with a configuration shows itself once.

    Args:
        workers: those that there are.
        setup: the configuration to go by.
        processes: how many there are to be.
        due: when a position may have its next start at the earliest.
        now: the time on the same clock.
    """
    staying = [each for each in workers if not each.is_leaving]
    if any(not each.is_ready for each in staying):
        return None
    taken = {each.position for each in staying if each.setup == setup}
    vacant = (position for position in range(processes) if position not in taken)
    return next((position for position in vacant if due.get(position, now) <= now), None)


def superseded(workers: Sequence[WorkerState], setup: int) -> list[int]:
    """Return which workers are to leave, as indexes: their position has a later one that serves.

    Args:
        workers: those that there are.
        setup: the configuration to go by.
    """
    filled = {each.position for each in workers if each.setup == setup and each.is_ready}
    return [
        index
        for index, each in enumerate(workers)
        if each.setup < setup and not each.is_leaving and each.position in filled
    ]


def is_complete(workers: Iterable[WorkerState], setup: int, processes: int) -> bool:
    """Tell whether every position has a process that goes by a configuration and serves."""
    ready = {
        each.position for each in workers if each.setup == setup and each.is_ready and not each.is_leaving
    }
    return len(ready) == processes


def pause_after(failures: int) -> float:
    """Return the seconds before a position has its next start.

    Args:
        failures: processes there that have ended soon after their start, one after the other.
    """
    return 0.0 if failures <= 1 else min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures - 2, 10))


def ending(code: int) -> str:
    """Return how a process has ended, for a person.

    Args:
        code: its exit code, or a signal below zero.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was killed by signal {-code}"
