"""What a supervisor does when workers do not do as they should; they are stand-ins here."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.listening import Time

from acmems.app.reloading import ConfigurationSource
from acmems.app.workers import supervisor as module
from acmems.app.workers.messages import MessageReader, NotStarted, Ready, Report, encoded
from acmems.app.workers.rota import PATIENCE_SECONDS, STEADY_SECONDS, WorkerState
from acmems.app.workers.supervisor import START_SECONDS, STOP_SECONDS, Supervisor
from acmems.app.workers.worker import Assignment
from acmems.app.workers.worker_process import WorkerProcess
from acmems.config import Configuration
from acmems.system.systemd import Notifier

TEXT = """
[account]
dir = {folder}
[mgmt]
listener = 127.0.0.1:0
processes = 2
[verification "web"]
type = http01
listener =
[storage "none"]
type = none
[auth "all"]
all = yes
domain = **
"""


class Worker(WorkerProcess):
    """A worker that says what a test has it say, and takes note of its signals."""

    def __init__(
        self, pid: int, state: WorkerState, ours: socket.socket, theirs: socket.socket, now: float
    ) -> None:
        super().__init__(pid, state, ours, now)
        self.theirs = theirs
        self.signals: list[signal.Signals] = []
        self.told = MessageReader()

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)


class Systemd(Notifier):
    """In the place of systemd: takes note of what it is told, and wants signs of life."""

    def __init__(self, clock: Any) -> None:
        super().__init__({"WATCHDOG_USEC": "2000000"}, clock)
        self.told: list[str] = []

    def notify(self, state: str) -> None:
        self.told.append(state.partition("\n")[0])


class Stand:
    """A supervisor, its workers, and time."""

    def __init__(self, config: Configuration, stack: contextlib.ExitStack) -> None:
        self.time = Time()
        self.systemd = Systemd(self.time.clock)
        self.config = config
        self.workers: list[Worker] = []
        self.error: OSError | None = None
        self.ended: list[tuple[WorkerProcess, int]] = []
        self.supervisor = Supervisor(config, ConfigurationSource(), self.systemd, clock=self.time.clock)
        self._stack = stack
        self.supervisor._trial = self.supervisor._bind(config)
        self.supervisor._claim_state()

    def fork(
        self, assigned: Callable[[socket.socket], Assignment], setup: int, now: float, **_: object
    ) -> Worker:
        if self.error is not None:
            raise self.error
        ours, theirs = (self._stack.enter_context(each) for each in socket.socketpair())
        ours.setblocking(False)
        state = WorkerState(assigned(theirs).position, setup)
        self.workers.append(Worker(len(self.workers) + 1, state, ours, theirs, now))
        return self.workers[-1]

    def advance(self, seconds: float = 0.0) -> None:
        """Let time pass, and the supervisor do what is due and hear what was said."""
        self.time.now += seconds
        self.supervisor._advance(self.time.now)
        for worker in list(self.supervisor._workers):
            self.supervisor._listen(worker)
        self.supervisor._advance(self.time.now)

    def say(self, worker: Worker, message: Any) -> None:
        worker.theirs.sendall(encoded(message))
        self.advance()

    def end(self, worker: Worker, code: int) -> None:
        self.supervisor._bury(worker, code)
        self.advance()

    def start(self) -> None:
        """Have both workers serve."""
        self.advance()
        for number in range(2):
            self.say(self.workers[number], Ready(["mgmt 127.0.0.1:1313"]))


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    """A supervisor that has bound its sockets."""
    with contextlib.ExitStack() as stack:
        made = Stand(Configuration.from_text(TEXT.format(folder=tmp_path)), stack)
        monkeypatch.setattr(module, "fork", made.fork)
        yield made


class TestStart:
    def test_the_first_comes_first(self, stand: Stand) -> None:
        """The second worker is started when the first one serves, and systemd hears when both do."""
        stand.advance()
        assert len(stand.workers) == 1
        stand.say(stand.workers[0], Ready([]))
        assert len(stand.workers) == 2
        assert "READY=1" not in stand.systemd.told
        stand.say(stand.workers[1], Ready([]))
        assert stand.systemd.told.count("READY=1") == 1

    @pytest.mark.parametrize(("code", "exit_code"), [(2, 2), (1, 1), (0, 0), (-9, 1), (3, 1)])
    def test_a_first_one_that_cannot_start(self, stand: Stand, code: int, exit_code: int) -> None:
        """Where the first worker cannot start, the server ends with its exit code."""
        stand.advance()
        stand.end(stand.workers[0], code)
        assert not stand.supervisor._has_work()
        assert stand.supervisor._exit_code == exit_code

    def test_the_first_may_take_its_time(self, stand: Stand) -> None:
        """The first worker makes the account, which takes as long as the CA takes; others must be quick."""
        stand.advance()
        stand.advance(10 * START_SECONDS)
        assert stand.workers[0].signals == []
        stand.say(stand.workers[0], Ready([]))
        stand.advance(START_SECONDS)
        assert [each.signals for each in stand.workers] == [[], [signal.SIGKILL]]

    def test_no_further_process(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """Where the system allows no further process, it is tried again a little later."""
        stand.error = BlockingIOError(11, "Resource temporarily unavailable")
        stand.advance()
        stand.advance()
        assert caplog.text.count("there cannot be another process now: Resource temporarily") == 1
        stand.error = None
        stand.advance(2.0)
        assert len(stand.workers) == 1


class TestLosses:
    def test_again_and_again(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """A worker is replaced at once, but after a pause where that goes on; a steady one makes it good."""
        stand.start()
        stand.end(stand.workers[0], -9)
        assert len(stand.workers) == 3
        assert "process 1 (1) was killed by SIGKILL; another one is started at once" in caplog.text
        stand.say(stand.workers[2], NotStarted("the disk is full"))
        stand.end(stand.workers[2], 1)
        assert "ended with exit code 1: the disk is full; another one is started in 1 s" in caplog.text
        assert len(stand.workers) == 3
        stand.advance(1.0)
        assert len(stand.workers) == 4
        stand.say(stand.workers[3], Ready([]))
        stand.advance(STEADY_SECONDS)
        stand.end(stand.workers[3], -11)
        assert "was killed by SIGSEGV; another one is started at once" in caplog.text

    def test_a_vacant_position_is_a_fault(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """Systemd gets signs of life only as long as every position has a worker that is heard."""
        stand.start()
        stand.end(stand.workers[0], -9)
        stand.advance(PATIENCE_SECONDS / 2)
        stand.say(stand.workers[1], Report())
        assert stand.systemd.told[-1] == "WATCHDOG=1"
        signs = len(stand.systemd.told)
        stand.advance(PATIENCE_SECONDS / 2 + 1)
        stand.advance(5.0)
        assert len(stand.systemd.told) == signs
        assert caplog.text.count("ended or hanging: process 1 does not serve") == 1
        stand.say(stand.workers[2], Ready([]))
        stand.say(stand.workers[1], Report())
        stand.advance(5.0)
        assert stand.systemd.told[-1] == "WATCHDOG=1"


class TestReload:
    def reload(self, stand: Stand) -> None:
        stand.supervisor._hear({signal.SIGHUP})
        stand.advance()

    def test_one_takes_the_place_of_the_other(self, stand: Stand) -> None:
        """A former worker leaves when another one has its place, and systemd hears when all are replaced."""
        stand.start()
        self.reload(stand)
        assert len(stand.workers) == 3
        stand.say(stand.workers[2], Ready([]))
        assert [each.state.is_leaving for each in stand.workers[:2]] == [True, False]
        assert stand.systemd.told[-1] != "READY=1"
        stand.say(stand.workers[3], Ready([]))
        assert [each.state.is_leaving for each in stand.workers[:2]] == [True, True]
        assert [each for each in stand.systemd.told if each != "WATCHDOG=1"] == [
            "READY=1",
            "RELOADING=1",
            "READY=1",
        ]

    def test_it_is_refused(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """Where no worker can go by the new configuration, all stays as it was, and the log says why."""
        stand.start()
        self.reload(stand)
        stand.say(stand.workers[2], NotStarted("storage 'disk' is not writable"))
        stand.end(stand.workers[2], 1)
        assert "not reloaded, all stays as it was: storage 'disk' is not writable" in caplog.text
        assert stand.systemd.told[-1] == "READY=1"
        assert len(stand.workers) == 3
        assert not any(each.state.is_leaving for each in stand.workers[:2])

    def test_a_worker_that_does_not_start(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """A worker that hangs at its start is killed, and the configuration is not used."""
        stand.start()
        self.reload(stand)
        stand.advance(START_SECONDS - 1)
        assert stand.workers[2].signals == []
        stand.advance(1)
        assert stand.workers[2].signals == [signal.SIGKILL]
        stand.end(stand.workers[2], -9)
        assert "process 1 (3) has not started in time: it is killed" in caplog.text
        assert "all stays as it was: a process that was to go by it was killed by SIGKILL" in caplog.text

    def test_a_loss_meanwhile(self, stand: Stand) -> None:
        """A worker that is lost during a reload is replaced by one that goes by the new configuration."""
        stand.start()
        self.reload(stand)
        stand.end(stand.workers[1], -9)
        assert len(stand.workers) == 3
        stand.say(stand.workers[2], Ready([]))
        assert stand.workers[3].state == WorkerState(1, 2)

    def test_one_after_the_other(self, stand: Stand) -> None:
        """A reload waits while another one tries its configuration."""
        stand.start()
        self.reload(stand)
        self.reload(stand)
        assert stand.systemd.told.count("RELOADING=1") == 1
        stand.say(stand.workers[2], Ready([]))
        assert stand.systemd.told.count("RELOADING=1") == 2

    def test_not_too_many_leave(self, stand: Stand) -> None:
        """A reload waits while two former workers for each position still finish what they do."""
        stand.start()
        for number in (2, 4):
            self.reload(stand)
            stand.say(stand.workers[number], Ready([]))
            stand.say(stand.workers[number + 1], Ready([]))
        assert [each.state.is_leaving for each in stand.workers] == [True] * 4 + [False] * 2
        self.reload(stand)
        assert stand.systemd.told.count("RELOADING=1") == 2
        stand.end(stand.workers[0], 0)
        assert stand.systemd.told.count("RELOADING=1") == 3


class TestStop:
    def test_who_does_not_stop_is_killed(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """All are told to stop at once; whoever has not done so in time is killed."""
        stand.start()
        stand.supervisor._hear({signal.SIGTERM})
        assert [each.signals for each in stand.workers] == [[signal.SIGTERM]] * 2
        stand.end(stand.workers[0], 0)
        stand.advance(STOP_SECONDS)
        stand.advance(STOP_SECONDS)
        assert stand.workers[1].signals == [signal.SIGTERM, signal.SIGKILL]
        stand.end(stand.workers[1], -9)
        assert "process 2 (2) has not ended in time: it is killed" in caplog.text
        assert "another one is started" not in caplog.text
        assert not stand.supervisor._has_work()
        assert stand.supervisor._exit_code == 0
        assert stand.systemd.told[-1] == "WATCHDOG=1"

    def test_a_stop_during_a_reload(self, stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
        """The worker that tries a configuration stops as well, and nothing is told of its end."""
        stand.start()
        stand.supervisor._hear({signal.SIGHUP})
        stand.advance()
        stand.supervisor._hear({signal.SIGTERM})
        for each in stand.workers:
            stand.end(each, 0)
        assert len(stand.workers) == 3
        assert [each for each in caplog.records if each.levelno > logging.INFO] == []
