"""Chains in memory: bounded, and never one that may have been changed meanwhile."""

from __future__ import annotations

import pytest
from tests.chains import make_chain, make_request

from acmems.state.chains.recent import _BESIDE_PEM, RecentChains

REQUEST = make_request()
CHAIN, OTHER, THIRD = (make_chain(REQUEST) for _ in range(3))
SIZE = len(CHAIN.pem) + _BESIDE_PEM


@pytest.fixture
def recent() -> RecentChains:
    return RecentChains(2 * SIZE + 50)


def test_the_least_recent_goes(recent: RecentChains) -> None:
    """Where memory is short, what was not asked for longest is forgotten."""
    recent.keep("one", CHAIN, recent.reading())
    recent.keep("two", OTHER, recent.reading())
    assert recent.get("one") == CHAIN
    recent.keep("three", THIRD, recent.reading())
    assert (recent.get("one"), recent.get("two"), recent.get("three")) == (CHAIN, None, THIRD)


def test_the_bound_holds(recent: RecentChains) -> None:
    """What is kept again, replaced or dropped is counted once."""
    for _ in range(10):
        recent.keep("one", CHAIN, recent.reading())
        recent.keep("one", OTHER, recent.reading())
    recent.forget(CHAIN)  # which is not there any more
    assert recent.get("one") == OTHER
    recent.keep("two", CHAIN, recent.reading())
    assert recent.get("one") == OTHER
    recent.forget(CHAIN)
    assert recent.get("two") is None
    assert recent._bytes == len(OTHER.pem) + _BESIDE_PEM


@pytest.mark.parametrize("subject", ["one", CHAIN.fingerprint], ids=["identity", "chain"])
def test_what_is_being_changed(recent: RecentChains, subject: str) -> None:
    """It is forgotten, and what is read before the change has ended is not kept."""
    recent.keep("one", CHAIN, recent.reading())
    before = recent.reading()
    recent.begin_change([subject])
    assert recent.get("one") is None
    recent.keep("one", CHAIN, before)
    during = recent.reading()
    recent.keep("one", CHAIN, during)
    assert recent.get("one") is None
    recent.begin_change([subject])  # another change to the same
    recent.end_change([subject])
    recent.keep("one", CHAIN, recent.reading())
    assert recent.get("one") is None
    recent.end_change([subject])
    recent.keep("one", CHAIN, during)
    assert recent.get("one") is None
    recent.keep("one", CHAIN, recent.reading())
    assert recent.get("one") == CHAIN


def test_others_are_left_alone(recent: RecentChains) -> None:
    """A change concerns its own chains only."""
    recent.keep("one", CHAIN, recent.reading())
    recent.begin_change(["two"])
    assert recent.get("one") == CHAIN
    recent.keep("three", OTHER, recent.reading())
    assert recent.get("three") == OTHER
