"""The process that binds all sockets, and sees to it that others serve."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from acmems import logs
from acmems.app.changes import restart_needed
from acmems.app.listeners import BoundByName, PreparedChange, prepare, tell_unused
from acmems.app.memory import tell_in_use
from acmems.app.plans import NoServices, planned
from acmems.app.reloading import ConfigurationSource, tell_refused, tell_reloaded
from acmems.app.server import DRAIN_SECONDS, WITHDRAW_SECONDS
from acmems.app.signals import STOPS, Signals, taking
from acmems.app.tuning import raise_file_limit
from acmems.app.workers import rota
from acmems.app.workers.collection import WholeCollection
from acmems.app.workers.messages import Leave, Message, NotStarted, Ready, Report, WholeWanted
from acmems.app.workers.worker import Assignment
from acmems.app.workers.worker_process import BecameWorker, WorkerProcess, fork
from acmems.config import Configuration
from acmems.exceptions import AcmeException, ConfigurationError
from acmems.net.listening import AcceptBalance, BoundSocket, ConnectionCounts, SocketPool
from acmems.net.listening.balance import ABSENT
from acmems.state.engines.sqlite import StateInUse
from acmems.state.opening import StateClaim, claim_state
from acmems.system.clock import SYSTEM, Clock
from acmems.system.systemd import InheritedSocket, Notifier

logger = logging.getLogger(__name__)

STOP_SECONDS = DRAIN_SECONDS + WITHDRAW_SECONDS + 10.0
"""In which a worker ends that was told to stop; then it is killed."""

START_SECONDS = 60.0
"""In which a worker starts, but for the first one: a disk that hangs must not keep others from a start."""

_FORK_PAUSE = 1.0  # seconds before the next trial where the system allows no further process
_LONGEST_WAIT = 5.0  # seconds between two looks at what is due


@dataclass(frozen=True, slots=True)
class _Setup:
    """What workers go by.

    Args:
        number: of this configuration, counted up.
        config: the configuration.
        sockets: where they listen.
        change: what has bound the sockets.
    """

    number: int
    config: Configuration
    sockets: BoundByName
    change: PreparedChange

    @property
    def bound(self) -> list[BoundSocket]:
        """All of the sockets."""
        return [each for sockets in self.sockets.values() for each in sockets]


@dataclass(slots=True)
class _Position:
    """What is known of one worker's place.

    Args:
        vacant: since when no worker serves there, on the monotonic clock; None while one does.
        failures: workers there that have ended soon after their start, one after the other.
        due: when the next one may be started.
    """

    vacant: float | None
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """The supervisor of a server of several processes.

    Args:
        config: what to run.
        source: where the next configuration comes from.
        notifier: what systemd hears.
        inherited: sockets that systemd has opened.
        clock: time.
    """

    def __init__(
        self,
        config: Configuration,
        source: ConfigurationSource,
        notifier: Notifier,
        inherited: Sequence[InheritedSocket] = (),
        clock: Clock = SYSTEM,
    ) -> None:
        self._config = config
        self._source = source
        self._notifier = notifier
        self._claim: StateClaim | None = None  # to the state; None where another server uses it
        self._inherited = inherited
        self._clock = clock
        self._pool = SocketPool(each.socket for each in inherited)
        self._workers: list[WorkerProcess] = []
        self._positions = [_Position(clock.monotonic()) for _ in range(config.mgmt.processes)]
        # Of those that leave there are never many more than twice as many as of those that serve.
        self._counts = ConnectionCounts(5 * config.mgmt.processes)
        self._seats: dict[int, int] = {}  # of workers in those counts, by process ID
        self._collection = WholeCollection()
        self._setup: _Setup | None = None  # by which workers serve; None before the first one does
        self._trial: _Setup | None = None  # by which one worker tries to start, so that others may follow
        self._last = 0  # number of a setup
        self._leaving: list[BoundSocket] = []  # that former workers may still listen at
        self._addresses: Sequence[str] = ()
        self._is_reload_due = False
        self._told_complete = 0  # the last setup of which systemd knows that all workers serve by it
        self._is_stopping = False
        self._exit_code = 0
        self._told: list[str] = []  # the last faults that the log was told of
        self._next_sign = clock.monotonic()

    def run(self) -> int | Assignment:
        """Supervise until SIGTERM or SIGINT; return in each worker as well.

        Returns:
            an exit code, that of a worker which could not start and has said why; in a worker, what it
            begins with.

        Raises:
            OSError: an address cannot be listened on; `filename` names it.
            StateUnavailable: the state cannot be used.
        """
        raise_file_limit()
        try:
            with taking(signal.SIGCHLD) as signals:
                self._trial = self._bind(self._config)
                self._claim_state()
                while self._has_work():
                    self._advance(self._clock.monotonic())
                    self._wait(signals)
        except BecameWorker as fork:
            return fork.assignment
        if self._setup is not None:
            logger.info("stopped")
        return self._exit_code

    def _claim_state(self) -> None:
        try:
            self._claim = claim_state(self._config.state, self._config.home)
        except StateInUse as error:
            tell_in_use(error)

    @property
    def _now(self) -> float:
        return self._clock.monotonic()

    @property
    def _states(self) -> list[rota.WorkerState]:
        return [each.state for each in self._workers]

    def _has_work(self) -> bool:
        return bool(self._workers) or not self._is_stopping

    # What is due.

    def _advance(self, now: float) -> None:
        """Do what is due."""
        if self._is_reload_due and self._may_reload():
            self._is_reload_due = False
            self._reload()
        if not self._is_stopping:
            self._replace(now)
        for worker in self._workers:
            if worker.kill_at is not None and now >= worker.kill_at:
                aim = "ended" if worker.state.is_leaving else "started"
                logger.warning("%s has not %s in time: it is killed", worker.name, aim)
                worker.kill_at = None
                worker.signal(signal.SIGKILL)
        faults = self._faults(now)
        if faults != self._told:
            self._told = faults
            if faults:
                logger.error("ended or hanging: %s", ", ".join(faults))
        if self._collection.is_done(now):
            self._collection.finish(self._workers, faults, now, is_stopping=self._is_stopping)
        if self._notifier.interval is not None and now >= self._next_sign:
            self._next_sign = now + self._notifier.interval
            self._notifier.give_sign(lambda: not faults)

    def _replace(self, now: float) -> None:
        """Start the worker that is to be started, and let those leave whose places are taken."""
        due = {number: each.due for number, each in enumerate(self._positions)}
        if self._trial is not None:
            processes, target = 1, self._trial
        elif self._setup is not None:
            processes, target = len(self._positions), self._setup
        else:
            return
        position = rota.next_position(self._states, target.number, processes, due, now)
        if position is not None:
            self._start(position, target, now)
        if self._setup is not None:
            for index in rota.superseded(self._states, self._setup.number):
                self._let_leave(self._workers[index], now)
        self._tell_complete()

    def _start(self, position: int, setup: _Setup, now: float) -> None:
        def assigned(channel: socket.socket) -> Assignment:
            balance = AcceptBalance(self._counts, seat)
            return Assignment(position, setup.config, setup.sockets, channel, balance, self._claim)

        seat = next(number for number in range(self._counts.seats) if number not in self._seats.values())
        others = [each.socket for each in self._all_bound() if each not in setup.bound]
        try:
            worker = fork(
                assigned,
                setup.number,
                now,
                held_back=[*STOPS, signal.SIGHUP],
                left=[*self._workers, *others, *self._pool.unused],
            )
        except OSError as error:
            logger.error("there cannot be another process now: %s", error.strerror)  # noqa: TRY400 - it says all
            self._positions[position].due = now + _FORK_PAUSE
        else:
            if self._setup is not None:  # the first one may have to make an account
                worker.kill_at = now + START_SECONDS
            self._workers.append(worker)
            self._seats[worker.pid] = seat

    def _let_leave(self, worker: WorkerProcess, now: float) -> None:
        """Have a worker finish what it does, and end."""
        seconds = self._config.mgmt.request_timeout
        worker.state = replace(worker.state, is_leaving=True)
        worker.kill_at = now + seconds + STOP_SECONDS
        worker.send(Leave(seconds))

    def _tell_complete(self) -> None:
        """Tell when all workers serve by the last configuration."""
        if self._setup is None or self._trial is not None or self._told_complete == self._setup.number:
            return
        if rota.is_complete(self._states, self._setup.number, len(self._positions)):
            is_first, self._told_complete = self._told_complete == 0, self._setup.number
            if is_first:
                logger.info("ready, %s", self._status)
            else:
                tell_reloaded(self._setup.config, self._status)
            tell_unused(self._pool.unused, self._inherited)
            self._notifier.ready(self._status)

    @property
    def _status(self) -> str:
        processes = len(self._positions)
        return f"{processes} processes, listening on {', '.join(self._addresses) or 'nothing'}"

    def _faults(self, now: float) -> list[str]:
        """Return what is wrong with the workers, in words that tell a stranger nothing."""
        if self._is_stopping or self._setup is None:
            return []
        vacant = [
            f"process {number + 1} does not serve"
            for number, each in enumerate(self._positions)
            if each.vacant is not None and now - each.vacant > rota.PATIENCE_SECONDS
        ]
        serving = (each for each in self._workers if each.state.is_ready and not each.state.is_leaving)
        return [*vacant, *(fault for each in serving for fault in each.faults(now))]

    # What comes.

    def _wait(self, signals: Signals) -> None:
        """Wait until something comes or is due, and take note of what comes."""
        poller = select.poll()
        poller.register(signals.pipe, select.POLLIN)
        workers = {each.fileno(): each for each in self._workers}
        for number, each in workers.items():
            if each.has_hung_up:
                continue  # its end is a signal; this would be told again and again until then
            poller.register(number, select.POLLIN | (select.POLLOUT if each.has_unsent else 0))
        ready = dict(poller.poll(1000 * max(0.0, min(self._dues(), default=0.0) - self._now)))
        if ready.pop(signals.pipe, None) is not None:
            self._hear(signals.read())
        for number in ready:
            workers[number].flush()
            self._listen(workers[number])
        for worker, code in list(self._ended()):
            self._bury(worker, code)

    def _dues(self) -> Iterator[float]:
        """Yield when something is due."""
        now = self._now
        yield now + _LONGEST_WAIT
        if self._notifier.interval is not None:
            yield self._next_sign
        if self._collection.due is not None:
            yield self._collection.due
        if not self._is_stopping:
            yield from (each.due for each in self._positions if each.due > now)
        yield from (each.kill_at for each in self._workers if each.kill_at is not None)

    def _hear(self, numbers: set[int]) -> None:
        """Take note of signals."""
        if numbers & STOPS and not self._is_stopping:
            if self._setup is not None:
                logger.info("stopping")
                self._notifier.stopping()
            self._stop()
        elif signal.SIGHUP in numbers:
            self._is_reload_due = True

    def _stop(self) -> None:
        self._is_stopping = True
        for worker in self._workers:
            worker.state = replace(worker.state, is_leaving=True)
            worker.kill_at = self._now + STOP_SECONDS
            worker.signal(signal.SIGTERM)

    def _listen(self, worker: WorkerProcess) -> None:
        """Take note of what a worker says."""
        for message in worker.receive(self._now):
            self._take(worker, message)

    def _take(self, worker: WorkerProcess, message: Message) -> None:
        match message:
            case Ready(addresses):
                self._note_ready(worker, addresses)
            case NotStarted(reason):
                worker.reason = reason
            case Report():
                self._collection.hear(worker, message)
            case WholeWanted():
                self._collection.ask(worker, self._workers, self._now)

    def _note_ready(self, worker: WorkerProcess, addresses: Sequence[str]) -> None:
        worker.state = replace(worker.state, is_ready=True)
        if not worker.state.is_leaving:
            worker.kill_at = None
        self._positions[worker.state.position].vacant = None
        if self._trial is not None and worker.state.setup == self._trial.number:
            before, self._setup, self._trial = self._setup, self._trial, None
            self._config, self._addresses = self._setup.config, addresses
            claimed = {each.socket for each in self._setup.bound}
            former = [*self._leaving, *(before.bound if before is not None else ())]
            self._leaving = [each for each in former if each.socket not in claimed]
            for position in self._positions:
                position.failures, position.due = 0, 0.0

    # Workers that have ended.

    def _ended(self) -> Iterator[tuple[WorkerProcess, int]]:
        """Yield workers that have ended, with their exit code or below zero the signal; reap all else."""
        workers = {each.pid: each for each in self._workers}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in workers:
                yield workers[pid], os.waitstatus_to_exitcode(status)

    def _bury(self, worker: WorkerProcess, code: int) -> None:
        """Take note that a worker has ended."""
        self._listen(worker)
        self._workers.remove(worker)
        self._collection.forget(worker)
        self._counts.note(self._seats.pop(worker.pid), ABSENT)
        worker.close()
        state = worker.state
        if self._trial is not None and state.setup == self._trial.number:
            self._give_up(self._trial, worker, code)
        elif state.is_leaving:
            if code not in {0, -signal.SIGTERM}:  # the last it does is to give up its handler
                logger.warning("%s %s while it was stopping", worker.name, rota.ending(code))
        else:
            self._note_loss(worker, code)
        if self._setup is not None and all(each.setup >= self._setup.number for each in self._states):
            while self._leaving:
                self._pool.free(self._leaving.pop().socket)

    def _note_loss(self, worker: WorkerProcess, code: int) -> None:
        """Have a worker replaced that has ended by itself: at once, unless that happens again and again."""
        now, position = self._now, self._positions[worker.state.position]
        position.vacant = now
        position.failures = 0 if now - worker.started >= rota.STEADY_SECONDS else position.failures + 1
        pause = rota.pause_after(position.failures)
        position.due = now + pause
        logger.error(
            "%s %s%s; another one is started %s",
            *(worker.name, rota.ending(code), f": {worker.reason}" if worker.reason else ""),
            f"in {pause:.0f} s" if pause else "at once",
        )

    def _give_up(self, trial: _Setup, worker: WorkerProcess, code: int) -> None:
        """Take note that no worker can start by a configuration: it is not used."""
        self._trial = None
        trial.change.abort()
        if self._setup is None:
            self._is_stopping, self._exit_code = True, code if code in {0, 2} else 1
            if code < 0:
                logger.error("%s %s", worker.name, rota.ending(code))
        elif not self._is_stopping:
            with contextlib.suppress(AcmeException):  # what it logs to now is better than nothing
                logs.configure(self._source.logging(self._setup.config))
            tell_refused(worker.reason or f"a process that was to go by it {rota.ending(code)}")
            self._tell_unchanged()

    def _tell_unchanged(self) -> None:
        """Let systemd know that a reload is over, unless workers are still being replaced."""
        if self._setup is not None and self._told_complete == self._setup.number:
            self._notifier.ready(self._status)

    # The configuration.

    def _may_reload(self) -> bool:
        """Tell whether a reload may begin: none goes on, and not too many former workers are still busy."""
        leaving = sum(each.is_leaving for each in self._states)
        is_free = self._setup is not None and self._trial is None and not self._is_stopping
        return is_free and leaving < 2 * len(self._positions)

    def _reload(self) -> None:
        """Read the configuration anew, and try it with one worker."""
        self._notifier.reloading()

        def change(config: Configuration) -> None:
            findings = restart_needed(self._config, config)
            if findings:
                raise ConfigurationError(findings)
            trial = self._bind(config)
            try:
                logs.configure(self._source.logging(config))
            except BaseException:
                trial.change.abort()
                raise
            self._trial = trial

        if self._source.attempt(self._config, change) is None:
            self._tell_unchanged()

    def _bind(self, config: Configuration) -> _Setup:
        """Bind what a configuration listens on and is not yet bound.

        Raises:
            OSError: an address cannot be listened on; `filename` names it.
        """
        running = self._setup.sockets if self._setup is not None else {}
        change = prepare(planned(config, NoServices()), running, self._pool, self._leaving)
        self._last += 1
        # What is made until now is looked at once more, and not by collections in the workers, which would
        # write to memory that all of them share.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        sockets = {name: tuple(bound.bound) for name, bound in change.bound.items()}
        return _Setup(self._last, config, sockets, change)

    def _all_bound(self) -> list[BoundSocket]:
        setups = [each for each in (self._setup, self._trial) if each is not None]
        return [*self._leaving, *(bound for each in setups for bound in each.bound)]
