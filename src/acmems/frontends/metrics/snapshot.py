"""What one process knows of itself, and what several of them know together."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client.core import Metric  # which takes two megabytes; most servers are not monitored

Sample = tuple[str, dict[str, str], float]
Family = tuple[str, str, str, Sequence[Sample]]
"""Name, type, meaning and samples of a metric, in plain types."""

ADDED: Final = frozenset(
    {
        "acmems_chains_unsaved",
        "acmems_connections",
        "acmems_connections_limit",
        "acmems_issuances",
        "acmems_issuances_limit",
        "acmems_pauses",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
    }
)
"""Gauges of which each process has a part of the whole, as of everything that is counted."""
LEAST: Final = frozenset(
    {
        "acmems_account_known",
        "acmems_ca_up",
        "acmems_certificates_earliest_not_after_timestamp_seconds",
        "acmems_certificates_earliest_renewal_timestamp_seconds",
        "acmems_state_writable",
        "acmems_storage_writable",
        "acmems_survey_timestamp_seconds",
        "acmems_thread_healthy",
        "process_start_time_seconds",
    }
)
"""Gauges of something that all processes look at: the least of them is what somebody has to know of."""
GREATEST: Final = frozenset(
    {
        "acmems_build",
        "acmems_ca_clock_ahead_seconds",
        "acmems_certificates",
        "acmems_certificates_overdue_ratio",
        "acmems_notices_waiting",
    }
)
"""Further ones, of which that is the greatest."""

_COUNTED = frozenset({"counter", "histogram"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment.

    Args:
        unhealthy: threads and processes that have ended or hang.
        lacking: what lacks to serve, in words that tell a stranger no path and no reason.
        metrics: all metrics.
        is_stopping: whether the server stops.
    """

    unhealthy: Sequence[str]
    lacking: Sequence[str]
    metrics: Iterable[Metric]
    is_stopping: bool = False


def packed(metrics: Iterable[Metric]) -> list[Family]:
    """Return metrics in plain types."""
    return [
        (
            metric.name,
            metric.type,
            metric.documentation,
            [(sample.name, sample.labels, float(sample.value)) for sample in metric.samples],
        )
        for metric in metrics
    ]


def unpacked(families: Iterable[Family]) -> list[Metric]:
    """Return what `packed` had, to be shown."""
    made = importlib.import_module("prometheus_client.core").Metric
    metrics = []
    for name, kind, meaning, samples in families:
        metric = made(name, meaning, kind)
        for sample_name, labels, value in samples:
            metric.add_sample(sample_name, labels, value)
        metrics.append(metric)
    return metrics


def together(processes: Iterable[Iterable[Family]]) -> list[Family]:
    """Return the metrics of several processes as those of one.

    What is counted is added up, as are gauges of what is shared out among the processes.
    """
    heads: dict[str, tuple[str, str]] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for families in processes:
        for name, kind, meaning, samples in families:
            heads.setdefault(name, (kind, meaning))
            found = values.setdefault(name, {})
            for sample_name, labels, value in samples:
                key = sample_name, tuple(sorted(labels.items()))
                found[key] = _joined(name, found[key], value) if key in found else value
    return [
        (
            name,
            kind,
            meaning,
            [(sample, dict(labels), value) for (sample, labels), value in values[name].items()],
        )
        for name, (kind, meaning) in heads.items()
    ]


def counted(families: Iterable[Family]) -> list[Family]:
    """Return those of some metrics that only ever grow, and must not shrink when a process ends."""
    return [family for family in families if family[1] in _COUNTED]


def _joined(name: str, one: float, other: float) -> float:
    if name in LEAST:
        return min(one, other)
    if name in GREATEST:
        return max(one, other)
    return one + other
