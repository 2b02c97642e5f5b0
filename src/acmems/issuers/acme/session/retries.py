"""Which failures are worth another try, and when it comes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from http import HTTPStatus

from acmems.exceptions import CAProblem, CAProtocolError, CAUnavailable, DeadlinePassed, FateUnknown
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.responses import Response
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps

TRIES = 5
"""How often a request is made that fails for reasons of the moment."""
BACKOFF = 0.25
"""Seconds before the second try, on average; doubled for each one after it."""

_OF_THE_MOMENT = frozenset({500, 502, 503, 504})


class Retries:
    """Repeat what failed for reasons of the moment, where that does no harm.

    Args:
        clock: time.
        random: numbers in [0, 1), which spread the tries of many.

    Attributes:
        stopped: set by `stop`.
    """

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self._random = random
        self.stopped = Signal()
        self._not_before = 0.0  # what an overloaded CA said to one request holds for all

    def stop(self) -> None:
        """End all waiting for a next try, now and from now on, with `CAUnavailable`."""
        self.stopped.set()

    def run(
        self, attempt: Callable[[], Steps[Response]], deadline: Deadline, *, repeatable: bool
    ) -> Steps[Response]:
        """Return the first good response.

        Args:
            attempt: makes the request once; raises Failure.
            deadline: when to give up.
            repeatable: whether it does no harm if the CA gets the request twice.

        Raises:
            FateUnknown: the request is not repeatable, was sent, and its answer was lost.
            CAUnavailable: every try failed, or the next one would come after the deadline.
            DeadlinePassed: the time is over.
            CAProblem, RateLimited, CAProtocolError: the answer says so.
        """
        tries = 0
        while True:
            if deadline.passed:
                raise DeadlinePassed("there was no time left to ask the CA")
            yield from self._hold_off(deadline)
            try:
                response = yield from attempt()
                return judge(response, self._clock.now())
            except Failure as failure:
                if failure.sent and not repeatable:
                    raise FateUnknown(str(failure), retry_after=failure.retry_after) from failure
                tries += 1
                yield from self._pause(tries, failure, deadline)

    def _hold_off(self, deadline: Deadline) -> Steps[None]:
        """Wait as long as the CA wants not to be asked, or raise where that is too long."""
        seconds = self._not_before - self._clock.monotonic()
        if seconds <= 0:
            return
        if seconds >= deadline.remaining or (yield self.stopped.wait(seconds)):
            raise CAUnavailable("the CA is overloaded and wants no requests for now", retry_after=seconds)

    def _pause(self, tries: int, failure: Failure, deadline: Deadline) -> Steps[None]:
        """Wait for the next try, never shorter than the CA wants, or raise that there is none."""
        if deadline.passed:
            raise DeadlinePassed(str(failure), retry_after=failure.retry_after) from failure
        if failure.retry_after:
            self._not_before = max(self._not_before, self._clock.monotonic() + failure.retry_after)
        seconds = BACKOFF * 2 ** (tries - 1) * (0.5 + self._random()) + (failure.retry_after or 0.0)
        if (
            failure.final
            or tries >= TRIES
            or seconds >= deadline.remaining
            or (yield self.stopped.wait(seconds))
        ):
            raise CAUnavailable(str(failure), retry_after=failure.retry_after) from failure


def judge(response: Response, now: datetime.datetime) -> Response:
    """Return a good response, raise what any other means.

    Args:
        response: what the CA answered.
        now: the wall clock (aware), which a `Retry-After` date is compared with.

    Raises:
        Failure: the CA is overloaded or broken for the moment.
        RateLimited: it has had enough of us for now.
        CAProblem: it refuses.
        CAProtocolError: it redirects.
    """
    if response.status < 300:  # noqa: PLR2004 - HTTP's own
        return response
    if response.status < 400:  # noqa: PLR2004 - HTTP's own
        raise CAProtocolError(f"the CA redirects {response.url}, which ACME does not know")
    error = response.error(now)
    if response.status in _OF_THE_MOMENT and isinstance(error, CAProblem):
        # 503 says "not now". A gateway's 502 or 504 does not know what became of the request, and
        # neither does whoever answers 500.
        raise Failure(
            f"the CA answers {response.status}: {error}",
            sent=response.status != HTTPStatus.SERVICE_UNAVAILABLE,
            retry_after=error.retry_after,
        )
    raise error
