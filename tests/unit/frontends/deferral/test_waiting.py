"""Connections that wait for an answer for a while."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from tests.chains import make_chain, make_request
from tests.issuing import StandingTime
from tests.steps import settle, wait_for

from acmems.frontends.deferral.waiting import WaitingExchange, WaitingExchanges
from acmems.issuing.requests import Delivery
from acmems.system.steps import StepLoop

DELIVERY = Delivery(make_chain(make_request()), "issued")


class Room:
    """Where they wait, and what each is told."""

    def __init__(self) -> None:
        self.time = StandingTime()
        self.loop = StepLoop(self.time.clock())
        self.waiting = WaitingExchanges(self.loop, self.time.clock())
        self.told: list[str] = []
        self.over: set[str] = set()

    def add(self, name: str, future: Future[Delivery], seconds: float = 10.0) -> None:
        waiting = WaitingExchange(
            self.time.seconds + seconds,
            is_over=lambda: name in self.over,
            on_end=lambda: self.told.append(f"{name} ended"),
            on_late=lambda: self.told.append(f"{name} late"),
        )
        self.waiting.add(future, waiting)

    def pass_time(self, seconds: float) -> None:
        settle(self.loop)
        self.time.seconds += seconds
        settle(self.loop)


@pytest.fixture
def room() -> Iterator[Room]:
    made = Room()
    yield made
    made.loop.close()


def test_who_is_late_is_told_once(room: Room) -> None:
    """And goes on waiting, for the end."""
    future: Future[Delivery] = Future()
    room.add("one", future)
    room.add("two", future, 20.0)
    room.pass_time(9.5)
    assert room.told == []
    for _ in range(5):
        room.pass_time(1.0)
    assert room.told == ["one late"]
    future.set_result(DELIVERY)
    assert room.told == ["one late", "one ended", "two ended"]
    assert len(room.waiting) == 0


def test_each_waits_for_its_own(room: Room) -> None:
    """The end of one is not that of another; what has ended already is told at once."""
    first: Future[Delivery] = Future()
    other: Future[Delivery] = Future()
    room.add("one", first)
    room.add("two", other)
    first.set_result(DELIVERY)
    room.add("three", first)
    assert room.told == ["one ended", "three ended"]


def test_who_has_hung_up(room: Room) -> None:
    """Is told nothing, and forgotten at the next look."""
    future: Future[Delivery] = Future()
    for name in ("one", "two", "three"):
        room.add(name, future)
    room.over.add("one")
    room.pass_time(0.2)
    assert len(room.waiting) == 2
    room.over.add("two")
    future.set_result(DELIVERY)
    assert room.told == ["three ended"]


def test_nobody_looks_where_nobody_waits(room: Room) -> None:
    """And somebody does again once somebody waits."""
    future: Future[Delivery] = Future()
    room.add("one", future)
    room.over.add("one")
    room.pass_time(0.2)
    wait_for(lambda: not room.waiting._is_watched)
    room.add("two", future)
    room.pass_time(11.0)
    assert room.told == ["two late"]


def test_a_server_that_stops(room: Room) -> None:
    """Nobody looks any more; the end is told all the same."""
    room.loop.close()
    future: Future[Delivery] = Future()
    room.add("one", future)
    future.set_result(DELIVERY)
    assert room.told == ["one ended"]
