"""All that is known of a server at the moment of a scrape, as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from acmems import __version__
from acmems.frontends.metrics.monitored import Monitored
from acmems.frontends.metrics.survey import STATES, CertificateSurvey
from acmems.frontends.metrics.trials import CATrials, StateTrials, StorageTrials
from acmems.notices.counts import DELIVERY_OUTCOMES
from acmems.system.threads import HealthCheck

_START = "process_start_time_seconds"


def exposition(metrics: Iterable[Metric]) -> bytes:
    """Return metrics as text, as Prometheus reads them."""
    return generate_latest(_Collected(metrics))


class _Collected(Collector):
    """Metrics that were collected already.

    Args:
        metrics: the metrics.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics


class Readings(Collector):
    """Reads what is in memory; for any thread, and without waiting for disk or network.

    Args:
        monitored: the server.
        survey: what is known of its certificates.
        storages: whether its storages can be written.
        state: whether what must survive can be written.
        ca: whether its CA answers.
        own: further threads that are shown, beside those that the server needs.
    """

    def __init__(
        self,
        monitored: Monitored,
        survey: CertificateSurvey,
        storages: StorageTrials,
        state: StateTrials,
        ca: CATrials,
        *,
        own: Iterable[HealthCheck],
    ) -> None:
        self._monitored = monitored
        self._survey = survey
        self._storages = storages
        self._state = state
        self._ca = ca
        self._own = tuple(own)
        self._started = monitored.clock.now().timestamp()
        self._process = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric but those that are counted as things happen."""
        yield InfoMetricFamily("acmems_build", "What is running.", {"version": __version__})
        yield from self._of_process()
        yield from self._of_health()
        yield from self._of_ca()
        yield from self._of_certificates()
        yield from self._of_work()
        yield from self._of_connections()
        yield from self._of_notices()

    def _of_process(self) -> Iterator[Metric]:
        # The start is noted here: what /proc tells cannot be converted where the unit hides the rest of it.
        yield from (metric for metric in self._process.collect() if metric.name != _START)
        yield GaugeMetricFamily(
            _START, "Start time of the process since unix epoch in seconds.", self._started
        )

    def _of_health(self) -> Iterator[Metric]:
        threads = _gauge("acmems_thread_healthy", "Whether a thread lives and gets on.", "thread")
        for each in (*self._monitored.watched, *self._own):
            threads.add_metric([each.name], each.is_healthy())
        yield threads
        storages = _gauge(
            "acmems_storage_writable", "Whether a test file could be written to a storage.", "storage"
        )
        for name, failure in self._storages.failures():
            storages.add_metric([name], failure is None)
        yield storages
        state = GaugeMetricFamily(
            "acmems_state_writable",
            "Whether what must survive a crash could be written when it was last tried.",
        )
        if self._monitored.state is not None:
            state.add_metric([], self._state.failure is None)
        yield state

    def _of_ca(self) -> Iterator[Metric]:
        account = _gauge(
            "acmems_account_known",
            "Whether the CA has confirmed the account, and not refused it since.",
            "issuer",
            "account",
        )
        up = _gauge("acmems_ca_up", "Whether the CA answered when it was last asked.", "issuer")
        at = {issuer.options.directory_url: issuer for issuer in self._monitored.issuers}
        for issuer in self._monitored.issuers:
            account.add_metric([issuer.options.directory_url, issuer.options.name], issuer.is_account_known)
        for directory, answers in self._ca.answers.items():
            up.add_metric([directory], answers)
        yield from (account, up)
        ahead = _gauge(
            "acmems_ca_clock_ahead_seconds",
            "How far the CA's clock is ahead of this server's; negative if it is behind.",
            "issuer",
        )
        for directory, issuer in at.items():
            if (seconds := issuer.clock_ahead) is not None:
                ahead.add_metric([directory], seconds.total_seconds())
        yield ahead

    def _of_certificates(self) -> Iterator[Metric]:
        counts = _gauge(
            "acmems_certificates",
            "Stored certificates by auth block and state: fresh, due for renewal, overdue (half of the time "
            "from then to the end is over) or expired.",
            "block",
            "state",
        )
        due = _gauge(
            "acmems_certificates_earliest_renewal_timestamp_seconds",
            "When the first renewal of a certificate of the block is due.",
            "block",
        )
        end = _gauge(
            "acmems_certificates_earliest_not_after_timestamp_seconds",
            "When the first certificate of the block expires.",
            "block",
        )
        overdue = _gauge(
            "acmems_certificates_overdue_ratio",
            "The largest share that is over of the time from a renewal's being due (0) to the certificate's "
            "end (1).",
            "block",
        )
        for block, certificates in self._survey.blocks.items():
            for state in STATES:
                counts.add_metric([block, state], certificates.states[state])
            overdue.add_metric([block], certificates.overdue)
            if certificates.first_due is not None and certificates.first_end is not None:
                due.add_metric([block], certificates.first_due)
                end.add_metric([block], certificates.first_end)
        yield from (counts, due, end, overdue)
        looked = GaugeMetricFamily(
            "acmems_survey_timestamp_seconds", "When stored certificates were last looked through."
        )
        if self._survey.ended is not None:
            looked.add_metric([], self._survey.ended.timestamp())
        yield looked

    def _of_work(self) -> Iterator[Metric]:
        work = self._monitored.issuances.workload
        issuances = _gauge(
            "acmems_issuances",
            "Issuances that wait for their turn (queued), run, or go on though nobody waits for them "
            "any more (behind).",
            "state",
        )
        for state, number in (("queued", work.queued), ("running", work.running), ("behind", work.behind)):
            issuances.add_metric([state], number)
        yield issuances
        yield GaugeMetricFamily("acmems_issuances_limit", "How many issuances may run at once.", work.most)
        yield GaugeMetricFamily(
            "acmems_chains_unsaved", "Chains in memory that their storage did not take yet.", work.unsaved
        )
        pauses = _gauge("acmems_pauses", "Pauses after failures, by what they stop.", "subject")
        lasting: Counter[str] = Counter()
        for issuance in self._monitored.issuances:
            lasting.update(issuance.pauses.lasting())
        for subject, number in lasting.items():
            pauses.add_metric([subject], number)
        yield pauses

    def _of_connections(self) -> Iterator[Metric]:
        occupied = _gauge("acmems_connections", "Open connections of clients.", "listener")
        places = _gauge("acmems_connections_limit", "How many connections may be open at once.", "listener")
        shed = CounterMetricFamily(
            "acmems_connections_shed", "Connections ended to make room for others.", labels=("listener",)
        )
        for listener in self._monitored.listeners:
            occupied.add_metric([listener.name], listener.occupied)
            places.add_metric([listener.name], listener.places)
            shed.add_metric([listener.name], listener.shed)
        yield from (occupied, places, shed)

    def _of_notices(self) -> Iterator[Metric]:
        counts = self._monitored.notices.counts
        waiting = _gauge("acmems_notices_waiting", "Notices that their target has not taken yet.", "target")
        deliveries = CounterMetricFamily(
            "acmems_notice_deliveries",
            "Tries to deliver a notice, by how they ended; lost: it was too old to be tried again.",
            labels=("target", "outcome"),
        )
        done = counts.deliveries
        for target in self._monitored.config.notices:
            waiting.add_metric([target], counts.waiting.get(target, 0))
            for outcome in DELIVERY_OUTCOMES:
                deliveries.add_metric([target, outcome], done.get((target, outcome), 0))
        yield from (waiting, deliveries)


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, labels=labels)
