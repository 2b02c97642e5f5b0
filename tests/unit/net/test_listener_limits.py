"""Who goes first where there are not places enough, as rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import pytest

from acmems.net.listening import Connection, ListenerLimits, Occupancy
from acmems.net.listening.limits import beyond_share, is_spare, spare

NOW = 1000.0
LIMITS = ListenerLimits(per_address=2, grace_seconds=1.0, crowd_grace_seconds=5.0)


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
        (1.0, 0.0, "S L N A"),
        (3.0, 2.0, "S L N A"),
        (3.0, 2.1, "S L"),
        (4.9, 4.9, "S L"),
        (5.0, 5.0, "S L N A"),
        (5.0, 99.0, "S L N A"),
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
    )
    new, served, _, asking, leaving = known
    assert spare(known, LIMITS, NOW, NOW) == [leaving, served, asking, new]


def test_what_is_beyond_a_share() -> None:
    """Of each address that holds more than its share so many go as are too many, but none in its grace."""
    other = ("192.0.2.2", 4711)
    known = places(
        Place(Occupancy.NEW, 6.0),
        Place(Occupancy.NEW, 7.0),
        Place(Occupancy.SERVED, 6.0),
        Place(Occupancy.NEW, 1.0),
        Place(Occupancy.BUSY, 9.0),
        Place(Occupancy.NEW, 9.0, other),
        Place(Occupancy.NEW, 9.0, other),
    )
    assert beyond_share(known, LIMITS, NOW) == [known[2], known[1]]
    assert beyond_share(known[:2], LIMITS, NOW) == []
    assert beyond_share(places(*[Place(Occupancy.NEW, 1.0)] * 9), LIMITS, NOW) == []


@pytest.mark.parametrize(("connections", "share"), [(10, 64), (512, 64), (2000, 250)])
def test_the_share_that_nobody_set(connections: int, share: int) -> None:
    """It is an eighth of all, and enough for one busy address in any case."""
    assert ListenerLimits(connections).share == share
