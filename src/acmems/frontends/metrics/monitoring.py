"""Everything that watches over a running server, together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry

from acmems.auth import Block
from acmems.frontends.metrics.counting import EventCounters
from acmems.frontends.metrics.front_end import MetricsFrontEnd
from acmems.frontends.metrics.monitored import Monitored
from acmems.frontends.metrics.readings import Readings, exposition
from acmems.frontends.metrics.snapshot import Snapshot
from acmems.frontends.metrics.survey import CertificateSurvey
from acmems.frontends.metrics.trials import CATrials, StateTrials, StorageTrials
from acmems.net.http import HttpResponse

METRICS, HEALTHZ, READYZ = "/metrics", "/healthz", "/readyz"
FORMAT = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""
KEPT_SECONDS = 1.0
"""For so long a scrape is the answer to further ones, so that those cost nothing."""

UNANSWERED = "the supervisor does not answer"

_UNCACHED = {"Cache-Control": "no-store"}


class Monitoring:
    """Counts and looks from `start` to `close`, and answers those who ask.

    Args:
        monitored: the server.
        everyone: returns what all processes of the server know together, where it has several; None where
            they cannot be asked.

    Attributes:
        front_end: the application of the listeners.
    """

    def __init__(self, monitored: Monitored, everyone: Callable[[], Snapshot | None] | None = None) -> None:
        self._monitored = monitored
        self._everyone = everyone or self.snapshot
        # A scrape of all processes is kept where it is the same for whichever is asked next.
        self._kept_seconds = KEPT_SECONDS if everyone is None else 0.0
        self._is_stopping = False
        self._expected: tuple[Block, ...] | None = None
        self._scraped, self._scraped_until = b"", -math.inf
        self._survey = CertificateSurvey(monitored)
        self._storages = StorageTrials(monitored)
        self._state = StateTrials(monitored)
        self._ca = CATrials(monitored)
        threads = (self._survey.thread, self._storages.thread, self._state.thread, self._ca.thread)
        readings = Readings(monitored, self._survey, self._storages, self._state, self._ca, own=threads)
        self._registry = CollectorRegistry()
        self._counters = EventCounters(self._registry)
        self._registry.register(readings)
        pages = {METRICS: self._metrics, HEALTHZ: self._health, READYZ: self._readiness}
        self.front_end = MetricsFrontEnd(pages, monitored.bus, monitored.clock)

    def start(self) -> None:
        """Begin to count and to look."""
        self._expect()
        self._monitored.bus.subscribe(self._counters.count)
        self._monitored.bus.subscribe(self._ca.hear)
        for each in (self._survey, self._storages, self._state, self._ca):
            each.thread.start()

    def stop(self) -> None:
        """Look no more, and say that the server stops; it is alive until it has."""
        self._is_stopping = True
        self._survey.close()
        self._storages.thread.close()
        self._state.thread.close()
        self._ca.thread.close()

    def _expect(self) -> None:
        """Have counters of all auth blocks that are configured now, which may be others than before."""
        blocks = self._monitored.config.auth.blocks
        if blocks is not self._expected:
            self._expected = blocks
            self._counters.expect(
                [block.name for block in blocks],
                dict.fromkeys(each.options.directory_url for each in self._monitored.issuers),
                acme="acme" in self._monitored.config.tls,
            )

    def snapshot(self) -> Snapshot:
        """Return what this process knows; its metrics are read as they are looked through."""
        self._expect()
        unhealthy = [each.name for each in self._monitored.watched if not each.is_healthy()]
        return Snapshot(unhealthy, list(self._lacking()), self._registry.collect(), self._is_stopping)

    def _metrics(self) -> HttpResponse:
        now = self._monitored.clock.monotonic()
        if now >= self._scraped_until:
            snapshot = self._everyone()
            if snapshot is None:
                return _answer(503, UNANSWERED)
            self._scraped = exposition(snapshot.metrics)
            self._scraped_until = now + self._kept_seconds
        return HttpResponse(200, self._scraped, FORMAT, _UNCACHED)

    def _health(self) -> HttpResponse:
        snapshot = self._everyone()
        if snapshot is None:
            return _answer(503, UNANSWERED)
        if snapshot.is_stopping:
            return _answer(200, "stopping")
        ended = [f"ended or hanging: {name}" for name in snapshot.unhealthy]
        return _answer(503, *ended) if ended else _answer(200, "ok")

    def _readiness(self) -> HttpResponse:
        snapshot = self._everyone()
        if snapshot is None:
            return _answer(503, UNANSWERED)
        if snapshot.lacking:
            return _answer(503, *snapshot.lacking)
        return _answer(200, "ready", *(each.words for each in self._monitored.expiries))

    def _lacking(self) -> Iterator[str]:
        """Yield what the server lacks to serve, in words that tell a stranger no path and no reason."""
        if self._is_stopping:
            yield "the server is stopping"
        yield from (failure for _, failure in self._storages.failures() if failure is not None)
        if (failure := self._state.failure) is not None:
            yield failure
        yield from (each.words for each in self._monitored.expiries if each.is_over)
        accounts = self._monitored.issuers  # none where only local CAs issue
        if accounts and not any(each.is_account_known for each in accounts):
            yield "the account at the CA is not known: the log says why"


def _answer(status: int, *lines: str) -> HttpResponse:
    return HttpResponse(status, "".join(f"{line}\n" for line in lines).encode(), headers=_UNCACHED)
