"""The metrics of several processes, as those of one."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, generate_latest
from tests.monitoring import Stand

from acmems.frontends.metrics.counting import EventCounters
from acmems.frontends.metrics.monitoring import Monitoring
from acmems.frontends.metrics.snapshot import (
    ADDED,
    GREATEST,
    LEAST,
    Family,
    counted,
    packed,
    together,
    unpacked,
)


def gauge(name: str, value: float, **labels: str) -> Family:
    return (name, "gauge", "A gauge.", [(name, labels, value)])


def test_every_gauge_is_decided(stand: Stand) -> None:
    """Each gauge that a server shows is either added up, or the least or greatest of it counts."""
    gauges = {each.name for each in Monitoring(stand).snapshot().metrics if each.type in {"gauge", "info"}}
    assert gauges
    assert gauges - ADDED - LEAST - GREATEST == set()
    assert not ADDED & LEAST
    assert not (ADDED | LEAST) & GREATEST


def test_each_gauge_in_its_way() -> None:
    """What is shared out is added up; of what all look at, the worst counts; labels stay apart."""
    one = [
        gauge("acmems_connections", 3, listener="mgmt"),
        gauge("acmems_storage_writable", 1, storage="disk"),
        gauge("acmems_certificates_overdue_ratio", 0.25, block="web"),
    ]
    other = [
        gauge("acmems_connections", 4, listener="mgmt"),
        gauge("acmems_connections", 5, listener="metrics"),
        gauge("acmems_storage_writable", 0, storage="disk"),
        gauge("acmems_certificates_overdue_ratio", 0.5, block="web"),
    ]
    found = {
        (sample[0], *sample[1].values()): sample[2]
        for family in together([one, other])
        for sample in family[3]
    }
    assert found == {
        ("acmems_connections", "mgmt"): 7,
        ("acmems_connections", "metrics"): 5,
        ("acmems_storage_writable", "disk"): 0,
        ("acmems_certificates_overdue_ratio", "web"): 0.5,
    }


def test_what_is_shown_is_what_was_collected() -> None:
    """On their way between processes metrics lose nothing: counters, histograms, infinite bounds."""
    registry = CollectorRegistry()
    counters = EventCounters(registry)
    counters.expect(["web"], "https://ca.example/dir", acme=True)
    counters._seconds.labels("https://ca.example/dir", "issued").observe(1.5)

    class Moved:
        def collect(self) -> object:
            return unpacked(packed(registry.collect()))

    assert generate_latest(Moved()) == generate_latest(registry)  # type: ignore[arg-type]  # it collects


def test_two_processes_count_together() -> None:
    """Counters and the buckets of histograms are added up."""
    registry = CollectorRegistry()
    counters = EventCounters(registry)
    counters._seconds.labels("ca", "issued").observe(1.5)
    counters._orders.labels("ca", "issued").inc(3)
    families = packed(registry.collect())
    found = {
        (sample[0], sample[1].get("le")): sample[2]
        for family in together([families, counted(families)])
        for sample in family[3]
    }
    assert found["acmems_orders_total", None] == 6
    assert found["acmems_order_duration_seconds_bucket", "1.0"] == 0
    assert found["acmems_order_duration_seconds_bucket", "+Inf"] == 2
    assert math.isclose(found["acmems_order_duration_seconds_sum", None], 3.0)
