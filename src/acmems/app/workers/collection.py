"""How a server of several processes is, all of them together."""

from __future__ import annotations

from collections.abc import Sequence

from acmems.app.workers.messages import MetricsWanted, Report, Whole
from acmems.app.workers.worker_process import WorkerProcess
from acmems.frontends.metrics.snapshot import Family, counted, together

_KEPT_SECONDS = 1.0  # for which an answer is the answer to further questions
_ANSWER_SECONDS = 1.5  # in which workers answer; a worker that asks waits for twice as long


class WholeCollection:
    """Asks the workers how they are when one of them wants to know it of all.

    What has been counted by processes that have ended is counted on: sums never shrink.
    """

    def __init__(self) -> None:
        self._askers: list[WorkerProcess] = []
        self._awaited: list[WorkerProcess] = []
        self._until: float | None = (
            None  # when the workers that have not answered are not waited for any more
        )
        self._known: Whole | None = None
        self._known_until = 0.0
        self._ended: list[Family] = []

    @property
    def due(self) -> float | None:
        """When `finish` is to be called at the latest, on the monotonic clock; None where nobody asks."""
        return self._until

    def ask(self, asker: WorkerProcess, workers: Sequence[WorkerProcess], now: float) -> None:
        """Let a worker know how all of them are, as soon as that is known.

        Args:
            asker: the worker.
            workers: all that there are.
            now: the time on the monotonic clock.
        """
        if self._known is not None and now < self._known_until:
            asker.send(self._known)
            return
        self._askers.append(asker)
        if self._until is None:
            self._until = now + _ANSWER_SECONDS
            self._awaited = [each for each in workers if each.state.is_ready]
            for each in self._awaited:
                each.send(MetricsWanted())

    def hear(self, worker: WorkerProcess, report: Report) -> None:
        """Take note of what a worker says of itself."""
        worker.report = report
        if report.metrics is not None:
            worker.metrics = list(report.metrics)
            if worker in self._awaited:
                self._awaited.remove(worker)

    def forget(self, worker: WorkerProcess) -> None:
        """Go on without a worker that has ended."""
        self._ended = together([self._ended, counted(worker.metrics)])
        self._askers = [each for each in self._askers if each is not worker]
        self._awaited = [each for each in self._awaited if each is not worker]

    def is_done(self, now: float) -> bool:
        """Tell whether somebody has asked, and all is known that there is to wait for."""
        return self._until is not None and (not self._awaited or now >= self._until)

    def finish(
        self, workers: Sequence[WorkerProcess], faults: Sequence[str], now: float, *, is_stopping: bool
    ) -> None:
        """Answer those who have asked.

        Args:
            workers: all that there are.
            faults: what is wrong with them.
            now: the time on the monotonic clock.
            is_stopping: whether the server stops.
        """
        staying = [each for each in workers if not each.state.is_leaving]
        lacking = dict.fromkeys(line for each in staying for line in each.report.lacking)
        if is_stopping:
            lacking = {"the server is stopping": None, **lacking}
        leaving = (counted(each.metrics) for each in workers if each.state.is_leaving)
        metrics = together([*(each.metrics for each in staying), *leaving, self._ended])
        self._known = Whole(list(faults), list(lacking), metrics, is_stopping)
        self._known_until = now + _KEPT_SECONDS
        for asker in self._askers:
            asker.send(self._known)
        self._askers, self._awaited, self._until = [], [], None
