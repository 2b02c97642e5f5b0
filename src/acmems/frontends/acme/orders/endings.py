"""Which failures end an order of an ACME client, and which only make it take longer: one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from acmems import exceptions
from acmems.exceptions import AcmeException
from acmems.frontends.acme.problems import document_of, encoded, problem_of

# True where the order goes on, so that asking again may bring its certificate. Subclasses come before bases.
PASSES: Final[Mapping[type[AcmeException], bool]] = {
    exceptions.DeadlinePassed: True,  # the work goes on outside
    exceptions.ClientGone: True,
    exceptions.QueueFull: True,
    exceptions.StorageUnavailable: True,
    exceptions.LeaseLost: True,
    exceptions.AuthorizationNotYetProcessed: True,
    exceptions.AuthorizationNotYetRequested: True,
    exceptions.CAUnavailable: True,
    exceptions.AcmeException: False,
}
QUIET: Final = (exceptions.DeadlinePassed, exceptions.ClientGone, exceptions.QueueFull)
"""What is in the ordinary course of things where a CA takes its time, or many clients come at once."""
SHORTEST_PAUSE, LONGEST_PAUSE = 2, 300
"""Seconds that clients are told to wait before they ask again; some give up where it is much longer."""


SHORT_LIMIT = 60.0
"""Seconds: a limit that has room again so soon is waited for, as clients do no more than that."""


def passes(error: BaseException) -> bool:
    """Tell whether an order goes on in spite of a failure.

    Args:
        error: the failure; anything but an `AcmeException` is a bug.
    """
    if isinstance(error, exceptions.RateLimited) and (error.retry_after or math.inf) <= SHORT_LIMIT:
        return True
    return next((PASSES[kind] for kind in type(error).__mro__ if kind in PASSES), False)


def error_document(error: BaseException, reference: str) -> str:
    """Return what an order that has ended by a failure tells of it, as JSON.

    Args:
        error: the failure.
        reference: names the request in the log.
    """
    return encoded(document_of(problem_of(error, reference))).decode()


def seconds_until_next(age: float, retry_after: float | None) -> int:
    """Return the seconds after which a client should look at an order again.

    Args:
        age: for how many seconds it has been processed; the longer it takes, the more.
        retry_after: what a failure that passes has told, None for nothing.
    """
    wanted = age / 4 if retry_after is None else retry_after
    return max(SHORTEST_PAUSE, min(LONGEST_PAUSE if retry_after else 10, math.ceil(wanted)))
