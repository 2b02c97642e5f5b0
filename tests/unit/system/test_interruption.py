"""When a signal may interrupt the main thread: never where a lock would stay taken."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _threads_queues
from types import SimpleNamespace
from typing import Any

import pytest
from tests.peers import wait_until

from acmems.app.signals import StoppedEarly, taking
from acmems.system.interruption import interruptible

SECONDS = 20.0  # for which things wait that are interrupted


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Handlers and timers are as before."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 1  # what ends a test that hangs


def test_where_a_lock_was_just_taken() -> None:
    """What comes there is interrupted when somebody is there to release it."""
    is_taken = False
    condition = threading.Condition(
        SimpleNamespace(  # type: ignore[arg-type] # whose lock a signal comes with
            acquire=None,
            release=None,
            __enter__=functools.partial(signal.raise_signal, signal.SIGINT),
            __exit__=lambda *_: None,
        )
    )
    with pytest.raises(KeyboardInterrupt), interruptible(), condition:  # noqa: PT012 - interrupted within
        is_taken = True
        wait_until(lambda: False, "it is interrupted")
    assert is_taken


@pytest.mark.parametrize("where", ["event", "queue"])
def test_where_it_waits(where: str) -> None:
    """Who waits for a lock is interrupted, and leaves nothing behind."""
    event = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(event.wait, SECONDS)
        with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012 - interrupted within
            threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
            event.wait(SECONDS) if where == "event" else result.result(SECONDS)
            pytest.fail("nobody interrupts")
        event.set()
        assert result.result(SECONDS)


def test_one_that_is_not_heard() -> None:
    """A process that a shell has put into the background goes on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread() -> None:
    """Only the main thread can be interrupted: nothing changes elsewhere."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(interruptible().__enter__).result()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestThreadsThatStart:
    """A stop that comes while a thread is being started interrupts what comes after that."""

    @pytest.fixture
    def _stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = threading._start_new_thread  # type: ignore[attr-defined] # in the midst of `Thread.start`

        def stop_and_start(*arguments: Any) -> Any:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGTERM)
            return start(*arguments)

        monkeypatch.setattr(threading, "_start_new_thread", stop_and_start)

    @pytest.mark.usefixtures("_stopped")
    def test_the_thread_of_a_pool(self) -> None:
        """The pool knows its thread, which ends with it; otherwise the process would never end."""
        with taking() as signals, ThreadPoolExecutor(1) as pool:
            with pytest.raises(StoppedEarly), signals.interrupting():  # noqa: PT012 - the second is interrupted
                pool.submit(lambda: None)
                threading.Event().wait(SECONDS)
            (thread,) = pool._threads
            assert thread in _threads_queues

    @pytest.mark.usefixtures("_stopped")
    def test_what_ends_before_it_can_be_interrupted(self) -> None:
        """The stop is not lost, and interrupts nothing that begins after it was heard."""
        with taking() as signals:
            thread = threading.Thread(target=lambda: None)
            with signals.interrupting():
                thread.start()
                signals._interruption.forget()  # as if the end had come before the alarm
            thread.join()
            assert list(signals.until_stop()) == []
            with signals.interrupting():
                pass


IMPORTED = """
import signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "acmems.commands.main":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
import runpy
runpy.run_module("acmems", run_name="__main__", alter_sys=True)
"""


def test_before_it_works() -> None:
    """A program that is interrupted while Python reads it says nothing at all."""
    ended = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")
