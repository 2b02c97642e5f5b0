"""A worker process as its supervisor knows it: started by fork, told and heard over a pair of sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from acmems.app.workers.messages import Message, MessageReader, Report, encoded
from acmems.app.workers.rota import PATIENCE_SECONDS, WorkerState
from acmems.app.workers.worker import Assignment
from acmems.frontends.metrics.snapshot import Family

_CHUNK = 262_144


class Closable(Protocol):
    """What a new process has inherited and is to let go of."""

    def close(self) -> None:
        """Let go of it."""


class BecameWorker(BaseException):
    """This is the new process: it leaves what the supervisor does, and begins to work.

    Args:
        assignment: what it begins with.
    """

    def __init__(self, assignment: Assignment) -> None:
        super().__init__()
        self.assignment = assignment


class WorkerProcess:
    """A running worker process.

    Args:
        pid: its process ID.
        state: what counts of it.
        channel: the supervisor's end of the pair of sockets.
        now: the time on the monotonic clock.

    Attributes:
        started: when it was started.
        heard: when it last said something.
        report: what it last said of itself.
        metrics: its metrics, as it last told them.
        reason: why it cannot start, as it says; None where it says nothing.
        kill_at: when it is killed, if it has not started, or ended, as it was to do; None for never.
        has_hung_up: whether it says nothing more, because it ends.
    """

    def __init__(self, pid: int, state: WorkerState, channel: socket.socket, now: float) -> None:
        self.pid = pid
        self.state = state
        self.started = self.heard = now
        self.report = Report()
        self.metrics: list[Family] = []
        self.reason: str | None = None
        self.kill_at: float | None = None
        self.has_hung_up = False
        self._channel = channel
        self._reader = MessageReader()
        self._unsent = bytearray()

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return f"process {self.state.position + 1} ({self.pid})"

    def faults(self, now: float) -> list[str]:
        """Return what is wrong with it, in words that tell a stranger nothing."""
        name = f"process {self.state.position + 1}"
        if now - self.heard > PATIENCE_SECONDS:
            return [f"{name} has not been heard for {now - self.heard:.0f} seconds"]
        return [f"{each} of {name}" for each in self.report.unhealthy]

    def fileno(self) -> int:
        """Return the descriptor of the channel."""
        return self._channel.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether there is something that it did not read yet."""
        return bool(self._unsent)

    def send(self, message: Message) -> None:
        """Tell it something, as soon as it reads."""
        self._unsent += encoded(message)
        self.flush()

    def flush(self) -> None:
        """Send what there is to send, as far as it reads."""
        with contextlib.suppress(BlockingIOError):
            try:
                while self._unsent:
                    del self._unsent[: self._channel.send(self._unsent)]
            except (BrokenPipeError, ConnectionResetError):
                self._unsent.clear()  # it has ended, which is noticed elsewhere

    def receive(self, now: float) -> list[Message]:
        """Return what it says.

        Args:
            now: the time on the monotonic clock.
        """
        messages: list[Message] = []
        try:
            while data := self._channel.recv(_CHUNK):
                self.heard = now
                messages += self._reader.feed(data)
            self.has_hung_up = True
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.has_hung_up = True
        return messages

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of the channel."""
        self._channel.close()


def fork(
    assigned: Callable[[socket.socket], Assignment],
    setup: int,
    now: float,
    *,
    held_back: Iterable[signal.Signals],
    left: Iterable[Closable],
) -> WorkerProcess:
    """Start a worker process; only a process without threads may do so.

    It begins with what this process has in memory, which both share until one of them changes it.

    Args:
        assigned: returns what it begins with, given its end of the channel.
        setup: the number of its configuration.
        now: the time on the monotonic clock.
        held_back: signals that it gets once it is ready for them.
        left: what it is to let go of: channels of other workers, and sockets of other configurations.

    Raises:
        BecameWorker: in the new process.
        OSError: there cannot be another process now.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    assignment = assigned(theirs)
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held_back)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        ours.close()
        for each in left:
            each.close()
        raise BecameWorker(assignment)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return WorkerProcess(pid, WorkerState(assignment.position, setup), ours, now)
