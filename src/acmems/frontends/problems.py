"""What an error is to a client: the one table from exceptions to HTTP statuses, and the words."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from acmems import exceptions
from acmems.events import FailedEvent, RefusedEvent
from acmems.exceptions import AcmeException, HttpRefusal
from acmems.net.http.response import HttpResponse, phrase
from acmems.text import one_line

# The one place that decides what an error is to a client. Subclasses are looked up before bases.
STATUS: Mapping[type[AcmeException], int] = {
    exceptions.PayloadToLarge: 413,
    exceptions.PayloadInvalid: 415,
    exceptions.PolicyRefusal: 403,
    exceptions.InvalidDomainName: 421,
    exceptions.NoChallengeMethodsSupported: 421,
    exceptions.ChallengeFailed: 421,
    exceptions.PreCheckFailed: 421,
    exceptions.CaaRefusal: 421,
    exceptions.AuthorizationNotYetProcessed: 503,
    exceptions.AuthorizationNotYetRequested: 503,
    exceptions.RateLimited: 429,
    exceptions.LimitReached: 429,
    exceptions.NamesPaused: 429,
    exceptions.QueueFull: 429,
    exceptions.ClientGone: 503,
    exceptions.ActFailed: 500,
    exceptions.AccountError: 503,
    exceptions.LocalCaUnusable: 503,
    exceptions.NeedToAgreeToTOS: 503,
    exceptions.DeadlinePassed: 504,
    exceptions.ValidatorUnavailable: 421,
    exceptions.StateUnavailable: 503,
    exceptions.StorageUnavailable: 503,
    exceptions.LeaseLost: 503,
    exceptions.CAUnavailable: 503,
    exceptions.FateUnknown: 503,
    exceptions.ClocksDiffer: 503,
    exceptions.CAError: 502,
    exceptions.CAProblem: 502,
    exceptions.CAProtocolError: 502,
    exceptions.DirectoryUnusable: 502,
    exceptions.ChallengesUnknownStatus: 502,
    exceptions.CertificateUnusable: 502,
    exceptions.ConfigurationError: 500,
    exceptions.AcmeException: 500,
}
TOLD_IN_SUMS = (exceptions.QueueFull, exceptions.ClientGone)
"""What comes in thousands, so that the log has no line for each."""
CLOSING = frozenset({403, 404})
"""Statuses that strangers get; the connection ends after them, so that each further try costs a new one."""
REFUSED = "no auth block of this server accepts the request: ask its administrator"
# What went wrong on this side is the administrator's business, and so are the paths and names in its words.
_OURS: Mapping[type[AcmeException], str] = {
    exceptions.AccountError: "the account of this server at the CA cannot be used",
    exceptions.StateUnavailable: "this server cannot note its orders at the moment, so that it places none",
    exceptions.StorageUnavailable: "this server cannot keep certificates at the moment",
}
# Characters, also in the log: what a CA says of each of a hundred long names fits.
_LONGEST_REASON = 80 * 1024
JSON_TYPES = ("application/problem+json", "application/json")
"""What clients accept that want to read answers with a program."""
_RETRY_AFTER = {429: 600.0, 503: 30.0, 504: 10.0}  # seconds, where nobody said better


def status_of(error: BaseException) -> int:
    """Return the HTTP status that an error means to a client.

    Args:
        error: the error; anything but an `AcmeException` is a bug.
    """
    if isinstance(error, HttpRefusal):
        return error.status
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def is_refusal(status: int) -> bool:
    """Tell whether a status says that the request is not acceptable; further ones may have to wait."""
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR


def reason_of(error: BaseException, reference: str) -> str:
    """Return one line that tells a client what to do.

    Args:
        error: the error.
        reference: names the request in the log.
    """
    status = status_of(error)
    if status == HTTPStatus.FORBIDDEN:
        return REFUSED
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"this is a bug of the server: tell its administrator the reference {reference}"
    for kind, words in _OURS.items():
        if isinstance(error, kind):
            return f"{words}: ask again later, or tell its administrator the reference {reference}"
    return one_line(f"{error}{_tried_again(error)}", _LONGEST_REASON)


def for_operator(error: BaseException) -> str:
    """Return what the log says of an error: what happened, and what to do where that is known.

    Args:
        error: the error.
    """
    advice = getattr(error, "advice", "")
    return f"{error}{_tried_again(error)}{f'; {advice}' if advice else ''}"


def _tried_again(error: BaseException) -> str:
    """Return when something is tried again that has failed before, as the end of a line; else nothing."""
    until: datetime.datetime | None = getattr(error, "tried_again", None)
    if until is None:
        return ""
    whole = until.astimezone(datetime.UTC).replace(microsecond=0) + datetime.timedelta(seconds=1)
    return f"; this was tried before, and is tried again after {whole:%Y-%m-%d %H:%M:%S} UTC"


def retry_after_of(error: BaseException) -> int | None:
    """Return the seconds after which a client should ask again, None if that is up to it.

    Args:
        error: the error.
    """
    seconds = getattr(error, "retry_after", None)
    if seconds is None:
        seconds = (
            60.0 if isinstance(error, exceptions.ValidatorUnavailable) else _RETRY_AFTER.get(status_of(error))
        )
    return None if seconds is None else max(1, math.ceil(seconds))


def problem_response(error: BaseException, reference: str, accept: str = "") -> HttpResponse:
    """Return the answer to a request that failed: one line of text, or a problem document (RFC 9457).

    Args:
        error: the error.
        reference: names the request in the log.
        accept: the client's `Accept` header.
    """
    headers = dict(error.headers) if isinstance(error, HttpRefusal) else {}
    retry_after = retry_after_of(error)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    return problem(status_of(error), reason_of(error, reference), headers, accept)


def problem(status: int, reason: str, headers: Mapping[str, str], accept: str = "") -> HttpResponse:
    """Return an answer that gives a reason: one line of text, or a problem document (RFC 9457).

    Who does not see `Retry-After` reads it at the end, unless the reason says already when to ask again.

    Args:
        status: the HTTP status.
        reason: what the client is told, in one line.
        headers: further header fields.
        accept: the client's `Accept` header.
    """
    retry_after = headers.get("Retry-After")
    if retry_after is not None and "again" not in reason:
        reason = f"{reason}; ask again in {retry_after} s"
    if any(kind in accept for kind in JSON_TYPES):
        document = {"type": "about:blank", "title": phrase(status), "status": status, "detail": reason}
        return HttpResponse(status, json.dumps(document).encode(), "application/problem+json", headers)
    return HttpResponse(status, f"{reason}\n".encode(), headers=headers)


def failure_event(error: BaseException, **known: Any) -> RefusedEvent | FailedEvent:
    """Return what the operator is told of a request that failed.

    Args:
        error: the error; anything but an `AcmeException` is a bug, and its traceback is logged.
        known: what is known of the request, as fields of the event.
    """
    status = status_of(error)
    if isinstance(error, AcmeException):
        reason = one_line(for_operator(error), _LONGEST_REASON)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR or isinstance(error, HttpRefusal):
            return RefusedEvent(status=status, reason=reason, **known)
        return FailedEvent(stage="request", status=status, reason=reason, **known)
    reason = f"a bug: {type(error).__name__}"
    return FailedEvent(stage="request", status=status, reason=reason, bug=error, **known)
