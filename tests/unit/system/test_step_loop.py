"""The loop that runs steps: calls of other threads, edges of descriptors, and its end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.steps import PATIENCE, LoopTime, begin, in_loop, returning, settle, steps_of

from acmems.system.clock import NEVER, SYSTEM
from acmems.system.steps import OWNER, OwnerQueue, Signal, StepLoop, Steps, Watched, gather, in_thread, pause

pytestmark = pytest.mark.timeout(30)

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    with contextlib.closing(StepLoop(name="steps-of-a-test")) as loop:
        yield loop


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a connection; the first does not block."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


def fill(sock: socket.socket) -> None:
    """Write until nothing more fits."""
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(b"x" * 65536)


def descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def raise_error() -> None:
    raise LookupError("a bug")


class TestSoon:
    def test_calls_keep_their_order(self, loop: StepLoop) -> None:
        """What one thread wants called is called in that order, in the loop's thread, none left out."""
        called: dict[int, list[int]] = {thread: [] for thread in range(8)}
        idents: set[int] = set()

        def work(thread: int) -> None:
            for value in range(300):
                loop.soon(partial(called[thread].append, value))
            loop.soon(lambda: idents.add(threading.get_ident()))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, called))
        settle(loop)
        assert all(values == list(range(300)) for values in called.values())
        assert len(idents) == 1

    def test_a_call_from_a_call(self, loop: StepLoop) -> None:
        """What the loop's own thread wants called soon is called, after what it does now."""
        order: list[str] = []
        ended = threading.Event()

        def outer() -> None:
            loop.soon(lambda: order.append("inner"))
            loop.soon(ended.set)
            order.append("outer")

        loop.soon(outer)
        assert ended.wait(PATIENCE)
        assert order == ["outer", "inner"]

    def test_a_call_that_fails(self, loop: StepLoop, caplog: pytest.LogCaptureFixture) -> None:
        """An error of one call is logged; those that came with it and after it are made."""
        order: list[int] = []

        def several() -> None:
            for value in range(3):
                loop.soon(partial(order.append, value))
                loop.soon(raise_error)

        in_loop(loop, several)
        settle(loop)
        assert order == [0, 1, 2]
        assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
        assert loop.is_healthy()

    def test_an_edge_whose_call_fails(
        self, loop: StepLoop, pair: Pair, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An error of one descriptor's or one timer's call takes no edge and no timer from others."""
        near, far = pair
        called = threading.Event()

        def both() -> tuple[Watched, Watched]:
            loop.at(SYSTEM.monotonic(), raise_error)
            loop.at(SYSTEM.monotonic(), called.set)
            watched = loop.watch(near.fileno()), loop.watch(far.fileno())
            for each in watched:
                loop.remember(each, NEVER.at, raise_error)
            return watched

        watched = in_loop(loop, both)
        assert called.wait(PATIENCE)
        settle(loop)
        assert all(each.writable for each in watched)
        assert {record.levelname for record in caplog.records} == {"ERROR"}
        for each in watched:
            loop.soon(partial(loop.unwatch, each))
        settle(loop)


class TestHealth:
    def test_a_thread_that_is_about_to_begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever looks while the first step starts the thread finds the loop healthy."""
        loop, seen, start = StepLoop(), list[bool](), threading.Thread.start

        def slow_start(thread: threading.Thread) -> None:
            seen.append(loop.is_healthy())
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", slow_start)
        assert loop.run(returning(7)) == 7
        loop.close()
        assert seen == [True]

    def test_a_step_that_hangs(self, time: LoopTime) -> None:
        """A loop is healthy before it is needed and while it waits, and not while one call goes on and on."""
        assert time.loop.is_healthy()
        go, blocked = threading.Event(), threading.Event()

        def block() -> None:
            blocked.set()
            go.wait(PATIENCE)

        time.loop.soon(block)
        assert blocked.wait(PATIENCE)
        assert time.loop.is_healthy()
        time.now += 121
        assert not time.loop.is_healthy()
        go.set()
        settle(time.loop)
        time.move(3600)
        assert time.loop.is_healthy()


class TestEdges:
    def test_readable_before_the_wait(self, loop: StepLoop, pair: Pair) -> None:
        """What came before anyone waited is not waited for, and stays so until someone has read it."""
        near, far = pair
        far.send(b"x")

        def steps() -> Steps[bytes]:
            watched = loop.watch(near.fileno())
            yield pause(0.001)
            for _ in range(2):
                assert (yield watched.until_readable(NEVER))
            data = near.recv(9)
            watched.readable = False
            assert not (yield watched.until_readable(SYSTEM.deadline(0.001)))
            loop.unwatch(watched)
            return data

        assert loop.run(steps()) == b"x"

    def test_readable_meanwhile(self, loop: StepLoop, pair: Pair) -> None:
        """A wait is over when something comes; that the other direction is free is no reason."""
        near, far = pair
        watched = in_loop(loop, lambda: loop.watch(near.fileno()))
        waiting = begin(loop, steps_of(watched.until_readable(NEVER)))
        assert watched.writable
        assert not waiting.done()
        far.send(b"x")
        assert waiting.result(PATIENCE) is True
        assert not watched.over
        in_loop(loop, lambda: loop.unwatch(watched))

    def test_writable_again(self, loop: StepLoop, pair: Pair) -> None:
        """A full descriptor can be written to when the other side has read."""
        near, far = pair
        fill(near)
        watched = in_loop(loop, lambda: loop.watch(near.fileno()))
        waiting = begin(loop, steps_of(watched.until_writable(NEVER)))
        assert not waiting.done()
        far.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                far.recv(65536)
        assert waiting.result(PATIENCE) is True
        in_loop(loop, lambda: loop.unwatch(watched))

    def test_the_end(self, loop: StepLoop, pair: Pair) -> None:
        """The end of a connection is something to read, and is told apart."""
        near, far = pair
        watched = in_loop(loop, lambda: loop.watch(near.fileno()))
        waiting = begin(loop, steps_of(watched.until_readable(NEVER)))
        far.shutdown(socket.SHUT_WR)
        assert waiting.result(PATIENCE) is True
        assert watched.over
        in_loop(loop, lambda: loop.unwatch(watched))

    def test_the_deadline(self, time: LoopTime, pair: Pair) -> None:
        """At the deadline a wait is over without anything to read; one that has passed is not waited for."""
        near, far = pair
        loop = time.loop
        watched = in_loop(loop, lambda: loop.watch(near.fileno()))
        waiting = begin(loop, steps_of(watched.until_readable(loop.clock.deadline(5))))
        time.move(4.0)
        assert not waiting.done()
        time.move(1.0)
        assert waiting.result(PATIENCE) is False
        late = begin(loop, steps_of(watched.until_readable(loop.clock.deadline(0))))
        assert late.result(PATIENCE) is False
        far.send(b"x")
        assert loop.submit(steps_of(watched.until_readable(NEVER))).result(PATIENCE) is True
        assert loop.submit(steps_of(watched.until_readable(loop.clock.deadline(0)))).result(PATIENCE) is True
        in_loop(loop, lambda: loop.unwatch(watched))
        assert loop._waiting == {}

    def test_unwatched(self, loop: StepLoop, pair: Pair) -> None:
        """What is not watched any more resumes nobody and says nothing; it can be watched anew."""
        near, far = pair
        watched = in_loop(loop, lambda: loop.watch(near.fileno()))
        settle(loop)
        in_loop(loop, lambda: loop.remember(watched, NEVER.at, raise_error))
        for _ in range(2):
            in_loop(loop, lambda: loop.unwatch(watched))
        far.send(b"x")
        settle(loop)
        assert not watched.readable
        again = in_loop(loop, lambda: loop.watch(near.fileno()))
        assert loop.submit(steps_of(again.until_readable(NEVER))).result(PATIENCE) is True
        in_loop(loop, lambda: loop.unwatch(watched))  # says nothing about the one that came after it
        assert loop._watched == {near.fileno(): again}
        in_loop(loop, lambda: loop.unwatch(again))
        assert (loop._watched, loop._waiting) == ({}, {})

    def test_a_number_that_is_given_again(self, loop: StepLoop, pair: Pair) -> None:
        """An edge of a closed descriptor is not taken for one of the next with its number."""
        full, other = socket.socketpair()
        full.setblocking(False)
        fill(full)
        ends = {end.fileno(): end for end in pair}
        replaced: list[Watched] = []

        def replace(watched: dict[int, Watched], by: int) -> None:
            if not replaced:
                (number,) = ends.keys() - {by}
                loop.unwatch(watched[number])
                os.dup2(full.fileno(), number)  # the old one is closed, and the number is given again
                replaced.append(loop.watch(number))

        def set_up() -> dict[int, Watched]:
            watched = {number: loop.watch(number) for number in ends}
            for number, each in watched.items():
                loop.remember(each, NEVER.at, partial(replace, watched, number))
            return watched

        with full, other:
            watched = in_loop(loop, set_up)
            settle(loop)
            (new,) = replaced
            assert (new.readable, new.writable) == (False, False)
            for each in (*watched.values(), new):
                in_loop(loop, partial(loop.unwatch, each))


class TestClose:
    def test_steps_that_wait_are_given_up(self, loop: StepLoop, pair: Pair) -> None:
        """Whatever steps wait for, the wait fails; `finally` clauses run, and the future has an error."""
        go = threading.Event()
        watched = in_loop(loop, lambda: loop.watch(pair[0].fileno()))
        waits: list[Steps[Any]] = [
            steps_of(Signal().wait()),
            steps_of(pause(1000)),
            steps_of(watched.until_readable(NEVER)),
            in_thread(lambda: go.wait(PATIENCE)),
            gather([steps_of(Signal().wait()), steps_of(Signal().wait())]),
        ]
        cleaned: list[str] = []

        def careful(steps: Steps[Any]) -> Steps[Any]:
            try:
                return (yield from steps)
            finally:
                cleaned.append("first")
                try:
                    yield from in_thread(lambda: None)
                finally:
                    cleaned.append("last")

        futures = [begin(loop, careful(each)) for each in waits]
        loop.close()
        for future in futures:
            assert isinstance(future.exception(PATIENCE), CancelledError)
        assert sorted(cleaned) == ["first"] * 5 + ["last"] * 5
        go.set()

    def test_steps_that_catch_what_ends_them(self, loop: StepLoop) -> None:
        """Steps may say what their end means."""

        def steps() -> Steps[str]:
            try:
                yield Signal().wait()
            except CancelledError:
                return "given up"
            return ""

        future = begin(loop, steps())
        loop.close()
        assert future.result(PATIENCE) == "given up"

    def test_steps_that_do_not_end(self, loop: StepLoop, caplog: pytest.LogCaptureFixture) -> None:
        """Steps that wait on and on do not keep the loop from its end; the log tells of them."""

        def stubborn() -> Steps[None]:
            while True:
                with contextlib.suppress(CancelledError):
                    yield Signal().wait()

        begin(loop, stubborn())
        loop.close()
        assert not loop.is_healthy()
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_steps_that_have_not_begun(self) -> None:
        """Whoever gets a future gets an outcome, however close to the end of the loop."""
        for _ in range(50):
            loop = StepLoop()
            with ThreadPoolExecutor(1) as pool:
                futures = [loop.submit(returning(7, Signal().wait()))]
                closing = pool.submit(loop.close)
                with contextlib.suppress(RuntimeError):
                    while True:
                        futures.append(loop.submit(returning(7, Signal().wait())))
                closing.result(PATIENCE)
            assert all(isinstance(each.exception(PATIENCE), CancelledError) for each in futures)

    def test_a_closed_loop_refuses_steps_and_calls(self, loop: StepLoop) -> None:
        """After the end steps are refused, and calls are not made."""
        called: list[int] = []
        loop.run(returning(7))
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            loop.submit(returning(7))
        with pytest.raises(RuntimeError, match="closed"):
            loop.run(returning(7))
        loop.soon(lambda: called.append(1))
        assert called == []

    @pytest.mark.parametrize("used", [True, False])
    def test_its_descriptors_are_not_used_again(self, used: bool) -> None:
        """After the end nothing is written to, and nothing closed, that has one of their numbers now."""
        loop = StepLoop()
        if used:
            loop.run(returning(7))
        loop.close()
        others = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(8)]
        try:
            loop.soon(lambda: None)
            loop.close()
            for other in others:
                with pytest.raises(BlockingIOError):
                    os.eventfd_read(other)
        finally:
            for other in others:
                os.close(other)

    def test_by_its_own_thread(self, loop: StepLoop) -> None:
        """A step may close the loop that runs it; it runs on to its next wait."""

        def steps() -> Steps[int]:
            loop.close()
            with contextlib.suppress(CancelledError):
                yield Signal().wait()
            return 7

        assert loop.submit(steps()).result(PATIENCE) == 7
        loop.close()

    def test_a_closed_loop_leaves_no_thread_and_no_descriptor(self, pair: Pair) -> None:
        """Of a closed loop no thread and no descriptor is left."""
        before, threads = descriptors(), set(threading.enumerate())
        loop = StepLoop()
        loop.run(in_thread(lambda: None))
        watched = in_loop(loop, lambda: loop.watch(pair[0].fileno()))
        begin(loop, steps_of(watched.until_readable(NEVER)))
        assert loop.is_healthy()
        loop.close()
        for thread in set(threading.enumerate()) - threads:
            thread.join(PATIENCE)
        assert set(threading.enumerate()) <= threads
        assert descriptors() <= before
        assert not loop.is_healthy()
        StepLoop().close()
        assert descriptors() <= before


class TestOwners:
    """For whom steps work."""

    def test_steps_inherit_it(self, loop: StepLoop) -> None:
        """Steps that others start work for the same; those that are submitted, for nobody yet."""

        def tell() -> Steps[Any]:
            yield pause(0)
            return OWNER.get()

        def parent(name: str) -> Steps[Any]:
            OWNER.set((name,))
            yield pause(0.001)
            own, submitted = (yield from gather([tell(), tell()])), loop.submit(tell())
            yield pause(0.001)
            return (*own, OWNER.get()), submitted

        for future in [loop.submit(parent(name)) for name in "abc"]:
            owners, submitted = future.result(PATIENCE)
            assert len(set(owners)) == 1
            assert submitted.result(PATIENCE) == ("",)
        assert {loop.run(parent(name))[0][0] for name in "abc"} == {("a",), ("b",), ("c",)}


class TestOwnerQueue:
    """Turns between owners, by their parts from the outside in."""

    def test_turns(self) -> None:
        """The first parts take turns, then the second ones, then it is by arrival."""
        queue: OwnerQueue[str] = OwnerQueue()
        owners = {"a": ("A", "x"), "b": ("A", "x"), "c": ("A", "y"), "d": ("B", "x"), "e": ("B", "x")}
        for item, owner in owners.items():
            queue.put(item, owner)
        served = []
        while queue:
            served.append(queue.first)
            queue.remove(queue.first, owners[queue.first])
        assert served == ["a", "d", "c", "e", "b"]

    def test_nothing_waits(self) -> None:
        """There is no first of nothing, and nothing is left of what was removed."""
        queue: OwnerQueue[str] = OwnerQueue()
        with pytest.raises(IndexError):
            _ = queue.first
        queue.put("a", ("A", "x"))
        queue.remove("a", ("A", "x"))
        assert not queue
        with pytest.raises(KeyError):
            queue.remove("a", ("A", "x"))

    def test_what_is_of_all_of_an_owner(self) -> None:
        """It comes before what is of one of its parts."""
        queue: OwnerQueue[str] = OwnerQueue()
        queue.put("of one", ("A", "x"))
        queue.put("of all", ("A",))
        assert queue.first == "of all"
