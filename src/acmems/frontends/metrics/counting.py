"""Counts what happens to requests and orders, as the events tell it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from acmems.events import Event, IssuedEvent, NotIssuedEvent
from acmems.frontends.metrics.outcomes import OrderOutcome, RequestOutcome, order_outcome, request_outcome

SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0)
"""Up to these seconds orders are counted: 120 is what a client waits for at most, unless told otherwise."""

# What happens to requests that a block grants, and to those of strangers: counted from zero on, because
# nothing increases that begins with one.
_GRANTED: Final[tuple[RequestOutcome, ...]] = (
    "stored",
    "issued",
    "joined",
    "stale",
    "deferred",
    "unproved",
    "limited",
    "failed",
    "bug",
)
_STRANGE: Final[tuple[RequestOutcome, ...]] = ("refused", "not-found", "invalid", "failed", "bug")


class EventCounters:
    """Counters of a registry, for the bus to tell of events; from many threads at once.

    Args:
        registry: where they are found at a scrape.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        # When a counter was made is of no use, and would double the lines.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's own
        self._requests = Counter(
            "acmems_requests",
            "Requests answered, by front end, auth block (empty while none has granted it) and outcome.",
            ("front_end", "block", "outcome"),
            registry=registry,
        )
        self._orders = Counter(
            "acmems_orders",
            "Orders that have ended, by the CA's directory and outcome.",
            ("issuer", "outcome"),
            registry=registry,
        )
        self._seconds = Histogram(
            "acmems_order_duration_seconds",
            "How long orders took, from the first step at the CA to the verified chain or the failure.",
            ("issuer", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )

    def expect(self, blocks: Iterable[str], issuers: Iterable[str], *, acme: bool = False) -> None:
        """Begin to count at zero what can be expected.

        Args:
            blocks: the names of the auth blocks.
            issuers: the URLs of the CAs' directories.
            acme: whether ACME clients can ask.
        """
        for outcome in ("answered", "limited", *_STRANGE) if acme else ():
            self._requests.labels("acme", "", outcome)
        for outcome in _STRANGE:
            self._requests.labels("sign", "", outcome)
        for outcome in ("answered", "not-found", "invalid"):
            self._requests.labels("http01", "", outcome)
        for block in blocks:
            for outcome in _GRANTED:
                self._requests.labels("sign", block, outcome)
        for issuer, order in itertools.product(issuers, get_args(OrderOutcome)):
            self._orders.labels(issuer, order)

    def count(self, event: Event) -> None:
        """Count an event; subscribed to the bus."""
        if isinstance(event, IssuedEvent):
            self._count_order(event, "issued")
        elif isinstance(event, NotIssuedEvent):
            self._count_order(event, order_outcome(event.error))
        else:
            outcome = request_outcome(event)
            if outcome is not None:
                self._requests.labels(event.front_end or "", event.block or "", outcome).inc()

    def _count_order(self, event: IssuedEvent | NotIssuedEvent, outcome: OrderOutcome) -> None:
        self._orders.labels(event.directory, outcome).inc()
        self._seconds.labels(event.directory, outcome).observe(event.seconds)
