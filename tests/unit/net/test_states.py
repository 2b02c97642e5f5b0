"""The tables of a connection's states."""

from __future__ import annotations

import pytest

from acmems.net.http.states import TRANSITIONS, USES, ConnectionEvent, ConnectionState
from acmems.net.listening import Occupancy, Readiness

FIRST = ConnectionState.IDLE


def test_every_state_is_in_the_tables() -> None:
    """Each state has its transitions and its use, each event leads from one state at least."""
    assert set(TRANSITIONS) == set(USES) == set(ConnectionState)
    assert {event for row in TRANSITIONS.values() for event in row} == set(ConnectionEvent)


def test_every_state_is_reached() -> None:
    """From a new connection every state can come."""
    reached, fresh = {FIRST}, [FIRST]
    while fresh:
        found = set(TRANSITIONS[fresh.pop()].values()) - reached
        reached |= found
        fresh += found
    assert reached == set(ConnectionState)


@pytest.mark.parametrize("state", ConnectionState)
def test_who_has_asked_is_busy(state: ConnectionState) -> None:
    """From a whole request, or a refusal, until its answer is taken, a connection is not to be ended."""
    after = {ConnectionEvent.REQUEST, ConnectionEvent.REFUSAL, ConnectionEvent.ANSWER}
    is_busy = any(row.get(event) is state for row in TRANSITIONS.values() for event in after)
    assert (USES[state][1] is Occupancy.BUSY) is is_busy


def test_requests_are_read_one_by_one() -> None:
    """Nothing is read while an answer is made or sent: what a client sends ahead waits in the kernel."""
    reading = {state for state, (awaits, _) in USES.items() if awaits is Readiness.READABLE}
    assert reading == {ConnectionState.IDLE, ConnectionState.READING, ConnectionState.LINGERING}
