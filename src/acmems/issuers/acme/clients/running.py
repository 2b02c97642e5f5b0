"""Steps that a thread waits for, which is not that of their loop."""

from __future__ import annotations

from concurrent.futures import CancelledError, wait
from typing import TypeVar

from acmems.exceptions import CAUnavailable
from acmems.system.steps import StepLoop, Steps

T = TypeVar("T")

_SLICE_SECONDS = 0.5


def run(loop: StepLoop, steps: Steps[T]) -> T:
    """Run steps in a loop, and wait for their outcome, which is also what they raise.

    Raises:
        CAUnavailable: the loop is closed, or was closed before they ended.
    """
    try:
        future = loop.submit(steps)
    except RuntimeError:
        raise stopping() from None
    # In slices: a signal that comes right before a wait without end is heard of only after it.
    while not wait([future], _SLICE_SECONDS).done:
        pass
    try:
        return future.result()
    except CancelledError:
        raise stopping() from None


def stopping() -> CAUnavailable:
    """Return what whoever asks an issuer that stops is told."""
    return CAUnavailable("this server is stopping; ask again")
