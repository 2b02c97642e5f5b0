"""Everything that watches over a running server, together."""

from __future__ import annotations

import math
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest

from acmems.auth import Block
from acmems.frontends.metrics.counting import EventCounters
from acmems.frontends.metrics.front_end import MetricsFrontEnd
from acmems.frontends.metrics.monitored import Monitored
from acmems.frontends.metrics.readings import Readings
from acmems.frontends.metrics.survey import CertificateSurvey
from acmems.frontends.metrics.trials import CATrials, StateTrials, StorageTrials
from acmems.net.http import HttpResponse

METRICS, HEALTHZ, READYZ = "/metrics", "/healthz", "/readyz"
FORMAT = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus reads."""
KEPT_SECONDS = 1.0
"""For so long a scrape is the answer to further ones, so that those cost nothing."""

_UNCACHED = {"Cache-Control": "no-store"}


class Monitoring:
    """Counts and looks from `start` to `close`, and answers those who ask.

    Args:
        monitored: the server.

    Attributes:
        front_end: the application of the listeners.
    """

    def __init__(self, monitored: Monitored) -> None:
        self._monitored = monitored
        self._is_stopping = False
        self._expected: tuple[Block, ...] | None = None
        self._scraped, self._scraped_until = b"", -math.inf
        self._survey = CertificateSurvey(monitored)
        self._storages = StorageTrials(monitored)
        self._state = StateTrials(monitored)
        self._ca = CATrials(monitored)
        self._registry = CollectorRegistry()
        self._counters = EventCounters(self._registry)
        threads = (self._survey.thread, self._storages.thread, self._state.thread, self._ca.thread)
        self._registry.register(
            Readings(monitored, self._survey, self._storages, self._state, self._ca, own=threads)
        )
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
                [block.name for block in blocks], self._monitored.issuer.options.directory_url
            )

    def _metrics(self) -> HttpResponse:
        now = self._monitored.clock.monotonic()
        if now >= self._scraped_until:
            self._expect()
            self._scraped = generate_latest(self._registry)
            self._scraped_until = now + KEPT_SECONDS
        return HttpResponse(200, self._scraped, FORMAT, _UNCACHED)

    def _health(self) -> HttpResponse:
        if self._is_stopping:
            return _answer(200, "stopping")
        ended = [each.name for each in self._monitored.watched if not each.is_healthy()]
        return _answer(503, *(f"ended or hanging: {name}" for name in ended)) if ended else _answer(200, "ok")

    def _readiness(self) -> HttpResponse:
        lacking = list(self._lacking())
        return _answer(503, *lacking) if lacking else _answer(200, "ready")

    def _lacking(self) -> Iterator[str]:
        """Yield what the server lacks to serve, in words that tell a stranger no path and no reason."""
        if self._is_stopping:
            yield "the server is stopping"
        yield from (failure for _, failure in self._storages.failures() if failure is not None)
        if (failure := self._state.failure) is not None:
            yield failure
        if not self._monitored.issuer.is_account_known:
            yield "the account at the CA is not known: the log says why"


def _answer(status: int, *lines: str) -> HttpResponse:
    return HttpResponse(status, "".join(f"{line}\n" for line in lines).encode(), headers=_UNCACHED)
