"""How requests and orders end, in words: every error and every status has one."""

from __future__ import annotations

import datetime
import inspect
from concurrent.futures import CancelledError
from typing import Any, get_args

import pytest

from acmems import exceptions
from acmems.events import (
    AnsweredEvent,
    DeferredEvent,
    DeliveredEvent,
    Event,
    FailedEvent,
    IssuedEvent,
    RefusedEvent,
    RequestedEvent,
    Source,
)
from acmems.exceptions import AcmeException
from acmems.frontends.metrics.outcomes import (
    ORDERS,
    OrderOutcome,
    RequestOutcome,
    order_outcome,
    request_outcome,
)
from acmems.frontends.problems import STATUS

ERRORS = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, AcmeException) and not error.__name__.startswith("_")
]
NOW = datetime.datetime(2026, 11, 26, tzinfo=datetime.UTC)
KNOWN: dict[str, Any] = {"reference": "r", "client": "192.0.2.1"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_an_outcome(error: type[AcmeException]) -> None:
    """Each public exception stands in the table itself."""
    assert error in ORDERS


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (exceptions.ChallengeFailed("a.example.org", "no route", ""), "unproved"),
        (exceptions.RateLimited("too many"), "limited"),
        (exceptions.CAUnavailable("down"), "unavailable"),
        (exceptions.NeedToAgreeToTOS("https://ca.example.org/terms"), "account"),
        (exceptions.CertificateUnusable("another key"), "unusable"),
        (CancelledError(), "stopped"),
        (ZeroDivisionError(), "bug"),
    ],
)
def test_orders(error: Exception, outcome: OrderOutcome) -> None:
    """An order ends as its error says; one that the stop of the server ends is no failure of the CA."""
    assert order_outcome(error) == outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "answered"),
        (304, "answered"),
        (400, "invalid"),
        (403, "refused"),
        (404, "not-found"),
        (405, "invalid"),
        (415, "invalid"),
        (421, "unproved"),
        (429, "limited"),
        (500, "bug"),
        (501, "failed"),
        (503, "failed"),
    ],
)
def test_statuses(status: int, outcome: RequestOutcome) -> None:
    """A request that brought no chain ends as its status says, whichever event tells it."""
    events: list[Event] = [
        AnsweredEvent(status=status, **KNOWN),
        RefusedEvent(status=status, reason="no", **KNOWN),
        FailedEvent(stage="request", status=status, reason="no", **KNOWN),
    ]
    assert [request_outcome(event) for event in events] == [outcome] * 3


def test_every_status_of_an_error_has_an_outcome() -> None:
    """Whatever an error means to a client is counted under a word of the list."""
    words = {request_outcome(AnsweredEvent(status=status, **KNOWN)) for status in STATUS.values()}
    assert words < set(get_args(RequestOutcome))


@pytest.mark.parametrize("source", get_args(Source))
def test_chains(source: Source) -> None:
    """A chain that was sent is counted by where it came from."""
    assert request_outcome(DeliveredEvent(status=200, source=source, seconds=1.0, **KNOWN)) == source


def test_what_is_fetched_later() -> None:
    """A promise is counted as one; what comes of it is counted when it is fetched."""
    assert request_outcome(DeferredEvent(status=202, **KNOWN)) == "deferred"
    assert request_outcome(AnsweredEvent(status=202, **KNOWN)) == "answered"


@pytest.mark.parametrize(
    "event",
    [
        RequestedEvent(**KNOWN),
        FailedEvent(stage="deferred", status=421, reason="no route", **KNOWN),
        FailedEvent(stage="store", status=200, reason="full", **KNOWN),
        FailedEvent(stage="renew", status=200, reason="down", **KNOWN),
    ],
    ids=lambda event: getattr(event, "stage", event.word),
)
def test_what_ends_no_request(event: Event) -> None:
    """What happens on the way of a request is not counted as its end."""
    assert request_outcome(event) is None


def test_an_issued_certificate_is_no_request() -> None:
    """An order is counted as an order."""
    event = IssuedEvent(directory="https://ca.example.org", not_after=NOW, seconds=1.0, **KNOWN)
    assert request_outcome(event) is None
