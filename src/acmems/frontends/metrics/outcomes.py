"""How requests and orders end, as words for labels: each from a list, so that there are never many."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import CancelledError
from http import HTTPStatus
from typing import Literal

from acmems import exceptions
from acmems.events import (
    AnsweredEvent,
    DeferredEvent,
    DeliveredEvent,
    Event,
    FailedEvent,
    RefusedEvent,
    Source,
)
from acmems.exceptions import AcmeException

RequestOutcome = Literal[
    Source,  # a chain was sent
    "deferred",  # the chain is to be fetched later
    "answered",  # something other than a chain was sent, such as the answer to a challenge
    "refused",  # no auth block accepts it
    "not-found",  # there is nothing at this path
    "invalid",  # it is no acceptable request, or its CSR is not
    "unproved",  # the CA did not take a name, or could not validate it
    "limited",  # the CA, or what protects it here, wants to be asked later
    "failed",  # the CA, a storage or the account fails, or the time was over
    "bug",
]
OrderOutcome = Literal[
    "issued",
    "refused",  # the CA does not take the names or the CSR
    "unproved",  # the CA could not validate a name, or it could not be proved to it
    "not-asked",  # by what the DNS says, the CA could not issue it, so that none was placed
    "limited",  # the CA has had enough requests
    "unavailable",  # the CA does not answer, or the time was over
    "nonsense",  # it answers what ACME does not know, or refuses for a reason of its own
    "unusable",  # what it issued is not what was asked for
    "clock",  # its clock and that of this server differ
    "account",  # the account cannot be used
    "storage",  # the chain could not be kept
    "stopped",  # this server stopped meanwhile
    "bug",
]

_BY_STATUS: Mapping[int, RequestOutcome] = {
    HTTPStatus.FORBIDDEN: "refused",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.MISDIRECTED_REQUEST: "unproved",
    HTTPStatus.TOO_MANY_REQUESTS: "limited",
    HTTPStatus.INTERNAL_SERVER_ERROR: "bug",
}
# Subclasses are looked up before bases.
ORDERS: Mapping[type[AcmeException], OrderOutcome] = {
    exceptions.PayloadToLarge: "refused",
    exceptions.PayloadInvalid: "refused",
    exceptions.PolicyRefusal: "refused",
    exceptions.HttpRefusal: "refused",
    exceptions.InvalidDomainName: "refused",
    exceptions.NoChallengeMethodsSupported: "unproved",
    exceptions.ChallengeFailed: "unproved",
    exceptions.PreCheckFailed: "not-asked",
    exceptions.CaaRefusal: "not-asked",
    exceptions.ValidatorUnavailable: "unproved",
    exceptions.AuthorizationNotYetProcessed: "unavailable",
    exceptions.AuthorizationNotYetRequested: "unavailable",
    exceptions.RateLimited: "limited",
    exceptions.LimitReached: "limited",
    exceptions.NamesPaused: "limited",
    exceptions.QueueFull: "limited",
    exceptions.ClientGone: "stopped",
    exceptions.ActFailed: "refused",
    exceptions.AccountError: "account",
    exceptions.LocalCaUnusable: "account",
    exceptions.NeedToAgreeToTOS: "account",
    exceptions.DeadlinePassed: "unavailable",
    exceptions.StateUnavailable: "storage",
    exceptions.StorageUnavailable: "storage",
    exceptions.LeaseLost: "unavailable",
    exceptions.CAUnavailable: "unavailable",
    exceptions.FateUnknown: "unavailable",
    exceptions.ClocksDiffer: "clock",
    exceptions.CAError: "nonsense",
    exceptions.CAProblem: "nonsense",
    exceptions.DirectoryUnusable: "nonsense",
    exceptions.CAProtocolError: "nonsense",
    exceptions.ChallengesUnknownStatus: "nonsense",
    exceptions.CertificateUnusable: "unusable",
    exceptions.ConfigurationError: "account",
    exceptions.AcmeException: "bug",
}


def request_outcome(event: Event) -> RequestOutcome | None:
    """Return how the request ended that an event tells of, None where it tells of something else."""
    if isinstance(event, DeliveredEvent):
        return event.source
    if isinstance(event, DeferredEvent):
        return "deferred"
    if isinstance(event, RefusedEvent | AnsweredEvent) or (
        isinstance(event, FailedEvent) and event.stage == "request"
    ):
        return _of_status(event.status)
    return None


def _of_status(status: int) -> RequestOutcome:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status < HTTPStatus.BAD_REQUEST:
        return "answered"
    return "invalid" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "failed"


def order_outcome(error: Exception) -> OrderOutcome:
    """Return how an order ended that brought no certificate.

    Args:
        error: why; anything but an `AcmeException` is a bug, unless the server stops.
    """
    if isinstance(error, CancelledError):
        return "stopped"
    return next((ORDERS[kind] for kind in type(error).__mro__ if kind in ORDERS), "bug")
