"""Which failures are worth another try, and when it comes."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from acmems.exceptions import (
    AcmeException,
    CAProblem,
    CAProtocolError,
    CAUnavailable,
    DeadlinePassed,
    FateUnknown,
    RateLimited,
)
from acmems.issuers.acme.session.connection import Failure
from acmems.issuers.acme.session.responses import Response
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import Signal, Steps

TRIES = 5
"""How often a request is made that fails for reasons of the moment."""
BACKOFF = 0.25
"""Seconds before the second try, on average; doubled for each one after it."""
LONGEST_HOLD = 120.0
"""Seconds for which an overloaded CA gets no request of a kind; then one tries whether it still is."""
LONGEST_LIMIT = 30.0
"""Seconds; a rate limit that ends sooner is waited for, a longer one is for whoever asked to know."""

_MOST_HOLDS = 100  # beyond that, those that are over are forgotten
_OVERLOADED = "the CA is overloaded and wants no such requests for now"
_OF_THE_MOMENT = frozenset({500, 502, 503, 504})


@dataclass(slots=True, eq=False)
class _Hold:
    """A kind of request that the CA does not want for now.

    Args:
        until: when it may be tried again, in seconds of the monotonic clock.
        probe: set when the request that tries it has ended; None where none is under way.
    """

    until: float
    probe: Signal | None = None


class Retries:
    """Repeat what failed for reasons of the moment, where that does no harm.

    What an overloaded CA says to one request (503 with `Retry-After`) holds for all of its kind, and for no
    other: a CA that takes no orders may well deliver chains.

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
        self._holds: dict[str, _Hold] = {}
        self._asked = 0  # requests that go on
        self._unanswered_since = 0.0  # of the monotonic clock, while requests go on

    @property
    def silence(self) -> float:
        """Seconds for which nothing that was asked is answered; 0 while nothing is. For any thread."""
        return self._clock.monotonic() - self._unanswered_since if self._asked else 0.0

    def stop(self) -> None:
        """End all waiting for a next try, now and from now on, with `CAUnavailable`."""
        self.stopped.set()

    def run(
        self, attempt: Callable[[], Steps[Response]], deadline: Deadline, *, repeatable: bool, kind: str
    ) -> Steps[Response]:
        """Return the first good response.

        Args:
            attempt: makes the request once; raises Failure.
            deadline: when to give up.
            repeatable: whether it does no harm if the CA gets the request twice.
            kind: what is asked for, such as `newOrder`; one that the CA does not want for now is held back.

        Raises:
            FateUnknown: the request is not repeatable, was sent, and its answer was lost.
            CAUnavailable: every try failed, or the next one would come after the deadline.
            DeadlinePassed: the time is over.
            RateLimited: the CA has had enough of us, for longer than `LONGEST_LIMIT` or the deadline.
            CAProblem, CAProtocolError: the answer says so.
        """
        self._begin()
        try:
            return (yield from self._repeat(attempt, deadline, repeatable=repeatable, kind=kind))
        finally:
            self._end()

    def _begin(self) -> None:
        if not self._asked:
            self._unanswered_since = self._clock.monotonic()
        self._asked += 1

    def _end(self) -> None:
        self._asked -= 1

    def _repeat(
        self, attempt: Callable[[], Steps[Response]], deadline: Deadline, *, repeatable: bool, kind: str
    ) -> Steps[Response]:
        tries = 0
        while True:
            if deadline.passed:
                raise DeadlinePassed("there was no time left to ask the CA")
            hold = yield from self._admit(kind, deadline)
            try:
                return (yield from self._try(attempt, kind, hold))
            except Failure as failure:
                if failure.sent and not repeatable:
                    raise FateUnknown(
                        str(failure), retry_after=failure.retry_after, is_internal=failure.is_internal
                    ) from failure
                tries += 1
                yield from self._pause(tries, failure, deadline)
            except RateLimited as limited:  # so the CA has not done what was asked
                tries += 1
                yield from self._sit_out(tries, limited, deadline)

    def refuse_held(self, kind: str) -> None:
        """Refuse what a request needs first, such as a nonce, while the CA does not want to be asked for it.

        Raises:
            Failure: it does not; says for how many seconds.
        """
        seconds = self._held(kind)
        if seconds > 0:
            raise Failure(_OVERLOADED, sent=False, retry_after=seconds)

    def _held(self, kind: str) -> float:
        """Return the seconds for which the CA wants no requests of a kind; zero where it takes them."""
        hold = self._holds.get(kind)
        return 0.0 if hold is None else max(0.0, hold.until - self._clock.monotonic())

    def _admit(self, kind: str, deadline: Deadline) -> Steps[_Hold | None]:
        """Wait as long as the CA wants no such requests, or raise where that is too long.

        Returns:
            what the request is the first to try again, None if nothing.
        """
        while (hold := self._holds.get(kind)) is not None:
            seconds = self._held(kind)
            if seconds > 0:
                waited = seconds < deadline.remaining and not (yield self.stopped.wait(seconds))
            elif hold.probe is None:
                hold.probe = Signal()
                return hold
            else:
                waited = yield hold.probe.wait(deadline.remaining)
            if not waited:
                raise CAUnavailable(_OVERLOADED, retry_after=self._held(kind) or None)
        return None

    def _try(self, attempt: Callable[[], Steps[Response]], kind: str, hold: _Hold | None) -> Steps[Response]:
        """Make a request once; whatever the CA answers, but that it is overloaded, ends a hold."""
        try:
            response = judge((yield from attempt()), self._clock.now())
            self._unanswered_since = self._clock.monotonic()
        except Failure as failure:
            if failure.retry_after:
                self._hold_back(failure.kind or kind, failure.retry_after)
            raise
        except AcmeException as error:
            if not isinstance(error, DeadlinePassed):
                self._unanswered_since = self._clock.monotonic()
            self._release(kind, hold)
            raise
        finally:
            if hold is not None and hold.probe is not None:
                hold.probe.set()
                hold.probe = None
        self._release(kind, hold)
        return response

    def _hold_back(self, kind: str, seconds: float) -> None:
        now = self._clock.monotonic()
        if len(self._holds) >= _MOST_HOLDS:
            self._holds = {name: hold for name, hold in self._holds.items() if hold.until > now}
        hold = self._holds.setdefault(kind, _Hold(now))
        hold.until = max(hold.until, now + seconds)

    def _release(self, kind: str, hold: _Hold | None) -> None:
        if hold is not None and self._holds.get(kind) is hold:
            del self._holds[kind]

    def _pause(self, tries: int, failure: Failure, deadline: Deadline) -> Steps[None]:
        """Wait for the next try, never shorter than the CA wants, or raise that there is none."""
        if deadline.passed:
            raise DeadlinePassed(str(failure), retry_after=failure.retry_after) from failure
        seconds = self._backoff(tries) + (failure.retry_after or 0.0)
        if (
            failure.final
            or tries >= TRIES
            or seconds >= deadline.remaining
            or (yield self.stopped.wait(seconds))
        ):
            raise CAUnavailable(str(failure), retry_after=failure.retry_after) from failure

    def _sit_out(self, tries: int, limited: RateLimited, deadline: Deadline) -> Steps[None]:
        """Wait until a rate limit is over that soon is, or raise it."""
        seconds = self._backoff(tries) + (limited.retry_after or 0.0)
        if (
            limited.retry_after is None
            or limited.retry_after > LONGEST_LIMIT
            or tries >= TRIES
            or seconds >= deadline.remaining
        ):
            raise limited
        self._end()  # it has answered, and is not asked meanwhile
        is_stopped = yield self.stopped.wait(seconds)
        self._begin()
        if is_stopped:
            raise limited

    def _backoff(self, tries: int) -> float:
        return BACKOFF * 2.0 ** (tries - 1) * (0.5 + self._random())


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
            retry_after=None if error.retry_after is None else min(error.retry_after, LONGEST_HOLD),
            is_internal=error.code == "serverInternal" and error.is_acme,
        )
    raise error
