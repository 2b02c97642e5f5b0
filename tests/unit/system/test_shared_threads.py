"""Threads for what blocks: nobody's functions take all of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest
from tests.steps import PATIENCE, begin, settle, wait_for

from acmems.system.steps import OWNER, SharedThreads, StepLoop, Steps

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    with contextlib.closing(StepLoop()) as loop:
        yield loop


class Callers:
    """Functions that block until they are told to go on."""

    def __init__(self, loop: StepLoop, threads: int) -> None:
        self.loop = loop
        self.threads = SharedThreads(threads, "test")
        self.running: list[str] = []
        self.go_on = threading.Event()

    def call(self, block: str, client: str = "x", error: Exception | None = None) -> Future[str]:
        def function() -> str:
            self.running.append(block)
            assert self.go_on.wait(PATIENCE)
            if error is not None:
                raise error
            return block

        def steps() -> Steps[str]:
            OWNER.set((block, client))
            return (yield from self.threads.call(function))

        return begin(self.loop, steps())


@pytest.fixture
def callers(loop: StepLoop) -> Iterator[Callers]:
    """Functions, and eight threads for them."""
    made = Callers(loop, 8)
    yield made
    made.go_on.set()


def test_a_block_that_blocks_for_long(callers: Callers) -> None:
    """However many functions of a block hang, those of other blocks are called at once."""
    stuck = [callers.call("A", f"192.0.2.{number % 5}") for number in range(30)]
    wait_for(lambda: len(callers.running) == 4)
    for block in ("B", "C", "D", "E", "F", "G"):
        callers.call(block)
        wait_for(lambda block=block: block in callers.running)  # type: ignore[misc]  # bound at once
    assert callers.running.count("A") == 4
    callers.go_on.set()
    assert {future.result(PATIENCE) for future in stuck} == {"A"}


def test_an_error_frees_the_thread(callers: Callers) -> None:
    """A function that fails lets the next one begin."""
    futures = [callers.call("A", error=KeyError("a bug")) for _ in range(20)]
    callers.go_on.set()
    assert all(isinstance(future.exception(PATIENCE), KeyError) for future in futures)


def test_a_loop_that_is_closed(loop: StepLoop, callers: Callers) -> None:
    """What waits for a thread is given up, and leaves nothing behind."""
    futures = [callers.call("A") for _ in range(20)]
    settle(loop)
    callers.go_on.set()
    loop.close()
    for future in futures:
        with contextlib.suppress(CancelledError):
            future.result(PATIENCE)
    assert callers.threads._queue.running == len(callers.threads._queue) == 0
