"""A worker process: a server of its own at sockets that its supervisor has bound."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from acmems.app.listeners import BoundByName
from acmems.app.server import Server, WorkerShare
from acmems.app.signals import StoppedEarly, taking
from acmems.app.tuning import tune_interpreter
from acmems.app.workers.messages import (
    Leave,
    Message,
    MessageReader,
    MetricsWanted,
    NotStarted,
    Ready,
    Report,
    Whole,
    WholeWanted,
    encoded,
)
from acmems.config import Configuration
from acmems.exceptions import AcmeException
from acmems.frontends.metrics.snapshot import Snapshot, packed, unpacked
from acmems.net.listening import AcceptBalance
from acmems.state.opening import StateClaim

logger = logging.getLogger(__name__)

REPORT_SECONDS = 2.0
"""Seconds between two reports of a worker."""
ANSWER_SECONDS = 3.0
"""In which a supervisor answers how the server is; it waits for a shorter time for its workers."""

_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker process begins with.

    Args:
        position: its place among the workers, from 0 on.
        config: the configuration.
        sockets: where it listens.
        channel: its end of the pair of sockets between the supervisor and it.
        balance: tells whether another worker is to accept.
        state: the claim to the state; None where another server uses it.
    """

    position: int
    config: Configuration
    sockets: BoundByName
    channel: socket.socket
    balance: AcceptBalance
    state: StateClaim | None = None


class SupervisorLink:
    """A worker's end of what it and its supervisor tell each other.

    Args:
        channel: the socket.

    Attributes:
        patience: how many seconds there are to leave, once the supervisor has said that it is to.
    """

    def __init__(self, channel: socket.socket) -> None:
        self.patience: float | None = None
        self._channel = channel
        self._reader = MessageReader()
        self._sending = threading.Lock()  # held while a message is sent, which goes out whole
        self._asking = threading.Lock()  # held by whoever waits for an answer
        self._answers: queue.SimpleQueue[Whole] = queue.SimpleQueue()
        self._snapshot: Callable[[], Snapshot] | None = None
        self._thread = threading.Thread(target=self._run, name="acmems-supervisor", daemon=True)

    def start(self) -> None:
        """Begin to hear the supervisor."""
        self._thread.start()

    def report(self, snapshot: Callable[[], Snapshot]) -> None:
        """Tell the supervisor from now on how this worker is.

        Args:
            snapshot: returns that.
        """
        self._snapshot = snapshot

    def send(self, message: Message) -> None:
        """Tell the supervisor something; where it has ended, that shows itself elsewhere."""
        with self._sending, contextlib.suppress(OSError):
            self._channel.sendall(encoded(message))

    def tell_metrics(self) -> None:
        """Send a report with metrics."""
        if self._snapshot is not None:
            found = self._snapshot()
            self.send(Report(found.unhealthy, found.lacking, packed(found.metrics)))

    def everyone(self) -> Snapshot | None:
        """Return how the server is, all its processes together; None if the supervisor does not answer."""
        with self._asking:
            while not self._answers.empty():  # who asked for that did not wait
                self._answers.get()
            self.send(WholeWanted())
            try:
                whole = self._answers.get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                return None
        return Snapshot(whole.unhealthy, whole.lacking, unpacked(whole.metrics), whole.is_stopping)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        while True:
            if poller.poll(REPORT_SECONDS * 1000):
                try:
                    data = self._channel.recv(_CHUNK)
                except OSError:
                    data = b""
                if not data:
                    logger.error("the supervisor has ended: this process stops as well")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                for message in self._reader.feed(data):
                    self._take(message)
            elif self._snapshot is not None:
                found = self._snapshot()
                self.send(Report(found.unhealthy, found.lacking))

    def _take(self, message: Message) -> None:
        match message:
            case MetricsWanted():
                self.tell_metrics()
            case Whole():
                self._answers.put(message)
            case Leave(seconds):
                self.patience = seconds
                os.kill(os.getpid(), signal.SIGTERM)


def work(assignment: Assignment) -> None:
    """Serve as one of several processes, until the supervisor says or is no more.

    Raises:
        AcmeException, OSError: it cannot start, as `Server.start`.
    """
    link = SupervisorLink(assignment.channel)
    # A terminal sends SIGINT and SIGHUP to all processes; what they mean is the supervisor's to say.
    with taking(stops={signal.SIGTERM}) as signals:
        link.start()
        server: Server | None = None
        try:
            with signals.interrupting():
                share = WorkerShare(
                    assignment.position,
                    assignment.sockets,
                    assignment.balance,
                    link.everyone,
                    assignment.state,
                )
                server = Server(assignment.config, share=share)
                server.start()
        except StoppedEarly:
            if server is None or not server.is_serving:
                logger.info("stopped while starting")
                return
        except (AcmeException, OSError) as error:
            place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
            link.send(NotStarted(f"{place}{error}"))
            raise
        else:
            tune_interpreter()
            link.report(server.snapshot)
            link.send(Ready(server.addresses))
            for _ in signals.until_stop():
                pass
        if link.patience is not None:
            with contextlib.suppress(StoppedEarly), signals.interrupting():
                server.retire(server.clock.deadline(link.patience))
        server.stop()
        link.tell_metrics()
