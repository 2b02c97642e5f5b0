"""A CA that is down is not asked, but for one request from time to time."""

from __future__ import annotations

import pytest
from tests.issuing import StandingTime

from acmems.exceptions import (
    CAProtocolError,
    CAUnavailable,
    ChallengeFailed,
    FateUnknown,
    RateLimited,
)
from acmems.issuers.breaker import FIRST_SECONDS, LONGEST_SECONDS, PROBE_SECONDS, CircuitBreaker

DOWN = CAUnavailable("refused")


@pytest.fixture
def time() -> StandingTime:
    return StandingTime()


@pytest.fixture
def breaker(time: StandingTime) -> CircuitBreaker:
    return CircuitBreaker(time.clock())


@pytest.mark.parametrize("error", [DOWN, FateUnknown("lost"), CAProtocolError("no JSON")])
def test_a_failure_opens_it(breaker: CircuitBreaker, error: Exception) -> None:
    """From then on nothing is let through, and it is told how long."""
    assert breaker.admit()
    breaker.note(error)
    assert not breaker.admit()
    assert breaker.is_open
    assert breaker.seconds_left == FIRST_SECONDS


def test_many_at_once(breaker: CircuitBreaker, time: StandingTime) -> None:
    """All that were under way when the CA went down are one failure; a try that fails is another one."""
    for _ in range(12):
        breaker.note(DOWN)
    assert breaker.seconds_left == FIRST_SECONDS
    time.seconds += FIRST_SECONDS
    assert breaker.admit()
    breaker.note(DOWN)
    breaker.note(DOWN)
    assert breaker.seconds_left == 2 * FIRST_SECONDS


@pytest.mark.parametrize("error", [None, RateLimited("too many"), ChallengeFailed("http-01", "www", "404")])
def test_an_answer_closes_it(breaker: CircuitBreaker, error: Exception | None) -> None:
    """A CA that issues, limits or refuses is not down."""
    breaker.note(DOWN)
    breaker.note(error)
    assert breaker.admit()
    assert not breaker.is_open
    assert breaker.seconds_left == 0


def test_one_request_tries(breaker: CircuitBreaker, time: StandingTime) -> None:
    """When its time is over one request is let through; another one where that has not ended in time."""
    breaker.note(DOWN)
    time.seconds += FIRST_SECONDS
    assert breaker.seconds_left == 0
    assert [breaker.admit() for _ in range(3)] == [True, False, False]
    time.seconds += PROBE_SECONDS
    assert [breaker.admit() for _ in range(3)] == [True, False, False]


def test_the_time_grows(breaker: CircuitBreaker, time: StandingTime) -> None:
    """Each try that fails doubles it, up to a limit; an answer begins anew."""
    seconds = []
    for _ in range(6):
        breaker.note(DOWN)
        seconds.append(breaker.seconds_left)
        time.seconds += breaker.seconds_left
    assert seconds == [30, 60, 120, 240, 300, 300]
    assert seconds[-1] == LONGEST_SECONDS
    breaker.note(None)
    breaker.note(DOWN)
    assert breaker.seconds_left == FIRST_SECONDS
