"""Steps: what they wait for, and what comes of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial

import pytest
from tests.steps import PATIENCE, LoopTime, begin, in_loop, raising, returning, steps_of

from acmems.system.steps import Signal, StepLoop, Steps, Wait, gather, in_thread, outcome, pause
from acmems.system.steps.waits import Loop, Resume

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def loop() -> Iterator[StepLoop]:
    with contextlib.closing(StepLoop(name="steps-of-a-test")) as loop:
        yield loop


class TestRunning:
    def test_results_and_errors(self, loop: StepLoop) -> None:
        """Whoever runs steps gets what they return or raise, whatever that is."""
        assert loop.run(returning(7)) == 7
        assert loop.run(returning(7, pause(0.001))) == 7
        for error in (KeyError("x"), SystemExit(3), GeneratorExit()):
            for first in (None, pause(0.001)):
                with pytest.raises(type(error)) as raised:
                    loop.run(raising(error, first))
                assert raised.value is error

    def test_all_run_in_one_thread(self, loop: StepLoop) -> None:
        """Whoever begins steps, they run in the loop's thread, and each of them gets its own result."""

        def who(value: int) -> Steps[tuple[int, int]]:
            yield pause(0.0001 * (value % 3))
            return value, threading.get_ident()

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda value: loop.run(who(value)), range(500)))
        assert [value for value, _ in results] == list(range(500))
        assert len({thread for _, thread in results} - {threading.get_ident()}) == 1

    def test_a_step_that_waits_holds_up_nobody(self, loop: StepLoop) -> None:
        """While steps wait others run, and their outcomes come as they end."""
        signal = Signal()
        first = begin(loop, returning(1, signal.wait()))
        assert loop.run(returning(2)) == 2
        assert not first.done()
        loop.soon(signal.set)
        assert first.result(PATIENCE) == 1

    def test_waits_that_are_over_at_once_need_no_stack(self, loop: StepLoop) -> None:
        """However many waits are over at once, one after the other, the stack does not grow."""

        def many() -> Steps[int]:
            for _ in range(20_000):
                assert (yield pause(0)) is False
            return 7

        assert loop.run(many()) == 7

    def test_an_error_of_a_wait_is_the_steps_own(self, loop: StepLoop) -> None:
        """A wait that cannot begin raises where it was yielded."""

        class Broken(Wait):
            def begin(self, loop: Loop, resume: Resume) -> object:
                raise OSError("no such thing")

        def careful() -> Steps[str]:
            try:
                yield Broken()
            except OSError as error:
                return str(error)
            return ""

        assert loop.run(careful()) == "no such thing"
        with pytest.raises(OSError, match="no such thing"):
            loop.run(steps_of(Broken()))

    def test_a_cancelled_future(self, loop: StepLoop, caplog: pytest.LogCaptureFixture) -> None:
        """Steps whose result nobody wants any more run to their end, and disturb nobody."""
        signal, ended = Signal(), threading.Event()

        def steps() -> Steps[None]:
            yield signal.wait()
            ended.set()

        future = begin(loop, steps())
        assert future.cancel()
        loop.soon(signal.set)
        assert ended.wait(PATIENCE)
        assert loop.run(returning(7)) == 7
        assert caplog.records == []


class TestSignals:
    def test_set_before(self, loop: StepLoop) -> None:
        """A signal that is set is not waited for, whatever the limit."""
        signal = Signal()
        signal.set()
        for seconds in (None, 5.0, 0.0, -1.0):
            assert loop.run(steps_of(signal.wait(seconds))) is True

    def test_set_while_several_wait(self, loop: StepLoop) -> None:
        """All that wait go on, in the order in which they began to wait."""
        signal = Signal()
        order: list[int] = []

        def wait(value: int) -> Steps[bool]:
            outcome: bool = yield signal.wait(1000.0 if value % 2 else None)
            order.append(value)
            return outcome

        waiting = [begin(loop, wait(value)) for value in range(5)]
        assert not signal.is_set()
        loop.soon(signal.set)
        assert [each.result(PATIENCE) for each in waiting] == [True] * 5
        assert order == [0, 1, 2, 3, 4]

    def test_cleared_at_once(self, loop: StepLoop) -> None:
        """Who waited when the signal was set is told of it, also where it is cleared before they go on."""
        signal = Signal()
        waiting = begin(loop, steps_of(signal.wait()))

        def flash() -> None:
            signal.set()
            signal.clear()

        loop.soon(flash)
        assert waiting.result(PATIENCE) is True
        assert loop.run(steps_of(signal.wait(0))) is False

    def test_set_too_late(self, time: LoopTime) -> None:
        """When the time is over the wait is, and a later signal resumes nobody a second time."""
        signal = Signal()
        results: list[bool] = []

        def steps() -> Steps[None]:
            results.append((yield signal.wait(5.0)))
            results.append((yield signal.wait(5.0)))

        future = begin(time.loop, steps())
        time.move(4.9)
        assert results == []
        time.move(0.1)
        assert results == [False]
        assert len(signal.waiters) == 1
        time.loop.soon(signal.set)
        future.result(PATIENCE)
        assert results == [False, True]
        assert signal.waiters == []
        time.move(5.0)

    @pytest.mark.parametrize("seconds", [0.0, -3.0])
    def test_no_time(self, loop: StepLoop, seconds: float) -> None:
        """Without time the outcome tells at once whether the signal is set."""
        assert loop.run(steps_of(Signal().wait(seconds))) is False

    def test_a_pause(self, time: LoopTime) -> None:
        """A pause is over after its seconds."""
        future = begin(time.loop, returning(7, pause(60.0)))
        time.move(59.0)
        assert not future.done()
        time.move(1.0)
        assert future.result(PATIENCE) == 7


class TestTimers:
    def test_order(self, time: LoopTime) -> None:
        """Calls are made by their time, and those of one time as they came; none before its time."""
        called: list[str] = []

        def set_up() -> None:
            for name, seconds in [("c", 3.0), ("a", 1.0), ("b1", 2.0), ("b2", 2.0), ("d", 4.0)]:
                time.loop.at(time.now + seconds, partial(called.append, name))

        in_loop(time.loop, set_up)
        time.move(0.5)
        assert called == []
        time.move(2.5)
        assert called == ["a", "b1", "b2", "c"]
        time.move(1.0)
        assert called[4:] == ["d"]

    def test_cancelling(self, time: LoopTime) -> None:
        """A cancelled call is not made; cancelling what was cancelled or called changes nothing."""
        called: list[str] = []
        loop = time.loop
        gone, kept = in_loop(
            loop,
            lambda: (
                loop.at(time.now + 1, lambda: called.append("gone")),
                loop.at(time.now + 1, lambda: called.append("kept")),
            ),
        )
        for _ in range(3):
            in_loop(loop, lambda: loop.cancel(gone))
        time.move(1.0)
        assert called == ["kept"]
        in_loop(loop, lambda: loop.cancel(kept))
        assert (loop._timers, loop._cancelled) == ([], 0)

    def test_cancelled_timers_do_not_pile_up(self, time: LoopTime) -> None:
        """Most deadlines are never reached; what is left of them is removed long before they would be."""
        loop = time.loop
        called: list[int] = []

        def many() -> None:
            for value in range(10_000):
                timer = loop.at(time.now + 1000 + value, partial(called.append, value))
                if value % 1000:
                    loop.cancel(timer)

        in_loop(loop, many)
        assert len(loop._timers) < 2500
        time.move(20_000)
        assert called == list(range(0, 10_000, 1000))
        assert (loop._timers, loop._cancelled) == ([], 0)


class TestThreads:
    def test_results_and_errors(self, loop: StepLoop) -> None:
        """What a function in a thread of the pool returns or raises is the outcome."""

        def steps() -> Steps[tuple[int, int]]:
            thread = yield from in_thread(threading.get_ident)
            return thread, threading.get_ident()

        thread, loops = loop.run(steps())
        assert thread != loops
        with pytest.raises(ValueError, match="invalid literal"):
            loop.run(in_thread(lambda: int("x")))

    def test_the_loop_goes_on_meanwhile(self, loop: StepLoop) -> None:
        """A function that blocks holds up nobody else's steps."""
        go = threading.Event()
        blocked = begin(loop, in_thread(lambda: go.wait(PATIENCE)))
        assert loop.run(returning(7)) == 7
        assert not blocked.done()
        go.set()
        assert blocked.result(PATIENCE) is True

    def test_another_pool(self, loop: StepLoop) -> None:
        """A function is called in the pool that it was given to."""
        with ThreadPoolExecutor(1, thread_name_prefix="of-its-own") as pool:
            name = loop.run(in_thread(lambda: threading.current_thread().name, pool))
        assert name.startswith("of-its-own")

    def test_a_closed_pool(self, loop: StepLoop) -> None:
        """What a closed pool does not begin any more is cancelled, before or after it was given to it."""
        pool = ThreadPoolExecutor(1)
        entered, go = threading.Event(), threading.Event()

        def work() -> bool:
            entered.set()
            return go.wait(PATIENCE)

        busy = begin(loop, in_thread(work, pool))
        assert entered.wait(PATIENCE)
        queued = begin(loop, in_thread(lambda: 7, pool))
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(CancelledError):
            queued.result(PATIENCE)
        with pytest.raises(CancelledError):
            loop.run(in_thread(lambda: 7, pool))
        go.set()
        assert busy.result(PATIENCE) is True


class TestGather:
    def test_results_are_in_order(self, loop: StepLoop) -> None:
        """Results come in the order of their steps, whichever ends first."""
        several = [returning(value, pause(0.002 * (5 - value)) if value % 2 else None) for value in range(5)]
        assert loop.run(gather(several)) == [0, 1, 2, 3, 4]
        assert loop.run(gather([])) == []
        assert loop.run(gather([returning(7, pause(0.001))])) == [7]

    def test_gathered_steps_run_at_the_same_time(self, loop: StepLoop) -> None:
        """All begin before the first has ended."""
        signal = Signal()
        waiting = begin(loop, gather(returning(value, signal.wait()) for value in range(10)))
        assert len(signal.waiters) == 10
        loop.soon(signal.set)
        assert waiting.result(PATIENCE) == list(range(10))

    def test_the_first_error_in_order(self, loop: StepLoop) -> None:
        """The error is that of the first steps that failed, in their order, when all others have ended."""
        signal = Signal()
        ended: list[int] = []

        def work(value: int) -> Steps[int]:
            yield signal.wait() if value in {0, 2} else pause(0)
            if value < 2:
                raise ValueError(value)
            ended.append(value)
            return value

        waiting = begin(loop, gather(work(value) for value in range(5)))
        assert ended == [3, 4]
        assert not waiting.done()
        loop.soon(signal.set)
        with pytest.raises(ValueError, match=r"^0$"):
            waiting.result(PATIENCE)
        assert ended == [3, 4, 2]

    def test_an_error_of_one_alone(self, loop: StepLoop) -> None:
        """The error of a single one, and one raised before anything waits, are raised, too."""
        with pytest.raises(KeyError):
            loop.run(gather([raising(KeyError("x"))]))
        with pytest.raises(KeyError):
            loop.run(gather([returning(1), raising(KeyError("x"))]))


def test_a_future_that_is_done(loop: StepLoop) -> None:
    """What it holds is there at once, before anything else is done; an error is raised as it is."""
    done: Future[int] = Future()
    done.set_result(1)
    failed: Future[int] = Future()
    failed.set_exception(SystemExit("as it is"))
    order: list[str] = []

    def first() -> Steps[None]:
        loop.soon(lambda: order.append("other"))
        order.append(str((yield from outcome(done))))
        with pytest.raises(SystemExit, match="as it is"):
            yield from outcome(failed)

    loop.run(first())
    assert order == ["1", "other"]
