"""Who may have what, and who goes first where there are not places enough, as rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar, cast

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, lists, sampled_from, tuples

from acmems.net.listening import Connection, Descriptors, ListenerLimits, Occupancy
from acmems.net.listening.limits import is_spare, spare
from acmems.net.listening.shares import PROXIES, Places, Tally, TurnQueue, WaitingRoom

NOW = 1000.0
LIMITS = ListenerLimits(grace_seconds=1.0, crowd_grace_seconds=5.0)


@dataclass
class Place:
    """What the rules know of a connection."""

    occupancy: Occupancy
    idle: float
    peer: tuple[str, int] = ("192.0.2.1", 4711)

    @property
    def since(self) -> float:
        return NOW - self.idle


def places(*known: Place) -> list[Connection]:
    return [cast("Connection", place) for place in known]


@pytest.mark.parametrize(
    ("idle", "crowded", "expected"),
    [
        (0.0, 0.0, "S"),
        (0.9, 0.0, "S"),
        (1.0, 0.0, "S L U N A"),
        (3.0, 2.0, "S L U N A"),
        (3.0, 2.1, "S L U"),
        (4.9, 4.9, "S L U"),
        (5.0, 5.0, "S L U N A"),
        (5.0, 99.0, "S L U N A"),
    ],
)
@pytest.mark.parametrize("occupancy", Occupancy)
def test_who_may_be_ended_for_newcomers(
    occupancy: Occupancy, idle: float, crowded: float, expected: str
) -> None:
    """Who was served; who was idle for its grace before the crowd came, or very long; nobody who is busy."""
    (place,) = places(Place(occupancy, idle))
    assert is_spare(place, LIMITS, NOW, NOW - crowded) is (occupancy.name[0] in expected.split())


def test_in_which_order() -> None:
    """Those that were served go first, then the others; among both, the longest idle."""
    known = places(
        Place(Occupancy.NEW, 9.0),
        Place(Occupancy.SERVED, 1.0),
        Place(Occupancy.BUSY, 99.0),
        Place(Occupancy.ASKING, 10.0),
        Place(Occupancy.LEAVING, 2.0),
        Place(Occupancy.UNREAD, 3.0),
    )
    new, served, _, asking, leaving, unread = known
    assert spare(known, LIMITS, NOW, NOW) == [unread, leaving, served, asking, new]


@pytest.mark.parametrize(
    ("descriptors", "connections", "waiting"),
    [(100_000, 2000, 16_000), (18_000, 2000, 16_000), (5000, 2000, 3000), (100, 50, 50), (0, 8, 8)],
)
def test_limits_within_descriptors(descriptors: int, connections: int, waiting: int) -> None:
    """Places come before those that wait for one, of which there are never none."""
    limits = ListenerLimits().within(descriptors)
    assert (limits.connections, limits.waiting) == (connections, waiting)


@pytest.mark.threat("fair shares", "few descriptors")
@pytest.mark.parametrize(
    ("most", "public", "management", "each"),
    [(256, 1, 64, 64), (256, 0, 128, 0), (256, 4, 64, 16), (1024, 2, 432, 216), (20_000, 1, 13_840, 6000)],
)
def test_descriptors_are_shared_out(most: int, public: int, management: int, each: int) -> None:
    """Half of them, or 160, are kept for what all certificates need; of the rest, half is for management."""
    assert Descriptors.shared(most, public) == Descriptors(management, each)


@pytest.mark.parametrize(("refusals", "tick", "most"), [(500, 0.25, 125), (500, 0.1, 50), (1, 0.1, 1)])
def test_refusals_of_a_tick(refusals: int, tick: float, most: int) -> None:
    """What an address may have refused in a second is spread over its ticks."""
    assert ListenerLimits(refusals=refusals, tick_seconds=tick).refusals_a_tick == most


class TestPlaces:
    def test_one_address_alone_gets_four_fifths(self) -> None:
        """An address enters as long as it holds less than four times what is free."""
        places = Places(100)
        assert fill(places, "one") == 80
        assert fill(places, "two") == 16
        assert fill(places, "three") == 3

    def test_the_last_place_is_for_who_has_none(self) -> None:
        """With one place left, whoever holds less than four may have it; with none, nobody may."""
        places = Places(5)
        assert fill(places, "one") == 4
        assert places.may_enter("two")
        places.enter("two")
        assert not places.may_enter("three")
        assert places.may_enter("three", ended="one")

    def test_proxies_may_have_all(self) -> None:
        """Trusted proxies have no share of their own, and what they hold is free for their clients."""
        places = Places(10)
        assert fill(places, PROXIES) == 10
        assert not places.may_enter("one")
        assert places.may_enter("one", ended=PROXIES)


def fill(places: Places, share: str) -> int:
    """Let a share enter as often as it may; return how often that was."""
    before = places.held(share)
    while places.may_enter(share):
        places.enter(share)
    return places.held(share) - before


class TestTally:
    @given(steps=lists(tuples(sampled_from("abcde"), booleans())))
    def test_the_largest_is_always_known(self, steps: list[tuple[str, bool]]) -> None:
        """Whatever is added and removed, total and largest are those of the counts."""
        tally, counts = Tally(), Counter[str]()
        for share, adds in steps:
            if adds:
                tally.add(share)
                counts[share] += 1
            elif counts[share]:
                tally.remove(share)
                counts[share] -= 1
            most = max(counts.values(), default=0)
            assert tally.total == counts.total()
            assert (tally.largest is None) is (most == 0)
            assert tally.largest is None or counts[tally.largest] == most
            assert all(tally.count(each) == counts[each] for each in "abcde")


class TestTurnQueue:
    def test_shares_take_turns(self) -> None:
        """Each share has one thing taken in its turn, in the order of arrival."""
        turns = fill_in(TurnQueue(), "a1 a2 a3 b1 c1 b2")
        assert [turns.take() for _ in range(7)] == ["a1", "b1", "c1", "a2", "b2", "a3", None]
        assert len(turns) == 0

    def test_who_comes_anew_is_first(self) -> None:
        """A share that had nothing queued is next, but not again before the others have had their turns."""
        turns = fill_in(TurnQueue(), "a1 a2 a3 a4 b1 b2 b3")
        assert [turns.take() for _ in range(3)] == ["a1", "b1", "a2"]
        fill_in(turns, "c1")
        assert turns.take() == "c1"
        fill_in(turns, "c2")
        assert [turns.take() for _ in range(4)] == ["b2", "a3", "c2", "b3"]
        fill_in(turns, "d1")
        assert [turns.take() for _ in range(3)] == ["d1", "a4", None]
        assert not turns._queues

    def test_some_may_not_have_their_turn(self) -> None:
        """A share that may not have its turn is passed over, and keeps what it has."""
        turns = fill_in(TurnQueue(), "a1 a2 b1")
        assert [turns.take(lambda share: share != "a") for _ in range(2)] == ["b1", None]
        assert len(turns) == 2
        assert turns.take() == "a1"


class TestWaitingRoom:
    def test_shares_take_turns(self) -> None:
        """Each share has one taken in its turn, if it may, in the order of arrival."""
        room = fill_in(WaitingRoom(), "a1 a2 a3 b1 c1 b2")
        taken = [room.take(lambda share: share != "c") for _ in range(6)]
        assert taken == ["a1", "b1", "a2", "b2", "a3", None]
        assert (len(room), room.count("c")) == (1, 1)

    def test_the_newest_is_dropped(self) -> None:
        """What is dropped is the newest of its share."""
        room = fill_in(WaitingRoom(), "a1 a2 b1")
        assert room.largest == "a"
        assert room.drop("a") == "a2"
        assert sorted(room.shares(9)) == ["a", "b"]
        assert room.take_of("a") == "a1"
        assert room.take_of("b") == "b1"
        assert room.largest is None


Q = TypeVar("Q", TurnQueue[str], WaitingRoom[str])


def fill_in(queue: Q, things: str) -> Q:
    for thing in things.split():
        queue.add(thing[0], thing)
    return queue
