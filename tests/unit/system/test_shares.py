"""Whose turn it is: shares of auth blocks and clients, turns, and who has to leave a full queue."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from acmems.system.shares import FairQueue, Share


@dataclass(eq=False)
class Asking:
    """Something that waits for its turn, with names of its own unless told otherwise."""

    block: str = "A"
    client: str = "192.0.2.1"
    names: tuple[str, ...] = ()
    most: int | None = None
    share: Share = field(init=False)

    def __post_init__(self) -> None:
        self.share = Share(self.block, self.client, self.names or (f"{id(self)}.example.org",), self.most)


def queue(running: int = 8, waiting: int = 100, behind: int = 8, places: int = 3) -> FairQueue[Asking]:
    return FairQueue(running, waiting, behind, lambda _: places)


def fill(made: FairQueue[Asking], *items: Asking) -> list[Asking]:
    """Have some wait, and return those that had to leave."""
    return [shed for item in items if (shed := made.put(item)) is not None]


def begin(made: FairQueue[Asking]) -> list[Asking]:
    """Begin whatever may."""
    begun = []
    while (item := made.next()) is not None:
        begun.append(item)
    return begun


def some(number: int, block: str = "A", client: str = "192.0.2.1", most: int | None = None) -> list[Asking]:
    return [Asking(block, client, most=most) for _ in range(number)]


class TestShares:
    """How many may run at once."""

    def test_one_client_alone(self) -> None:
        """It may use a quarter of the places: others find one free at once."""
        made = queue(256, 1000)
        fill(made, *some(300))
        assert len(begin(made)) == made.most_of_one == 64

    def test_clients_of_one_block(self) -> None:
        """Together they may use half of the places."""
        made = queue(256, 1000)
        fill(made, *(Asking("A", f"192.0.2.{number}") for number in range(250)))
        assert len(begin(made)) == 128

    def test_a_free_place_for_whoever_comes(self) -> None:
        """However many blocks and clients use all they may, the next block begins one at once."""
        made = queue(256, 1000)
        for number in range(20):
            fill(made, *some(100, f"block {number}"))
            begin(made)
            newcomer = Asking("newcomer")
            made.put(newcomer)
            assert begin(made) == [newcomer]
            made.end(newcomer.share, behind=False)
        assert made.running <= 256 + 20

    def test_several_free_places(self) -> None:
        """One block that uses all it may leaves room for many orders of another."""
        made = queue(256, 1000)
        fill(made, *some(300))
        begin(made)
        fill(made, *some(100, "B"))
        assert len(begin(made)) == 48

    @pytest.mark.parametrize(("places", "used"), [(1, 1), (2, 1), (3, 1), (5, 2), (8, 2), (9, 3)])
    def test_few_places(self, places: int, used: int) -> None:
        """Halves are rounded up, and there is always one place to use."""
        made = queue(places)
        fill(made, *some(20))
        assert len(begin(made)) == used

    @pytest.mark.parametrize(("most", "used"), [(5, 3), (64, 32), (200, 100)])
    def test_a_number_of_its_own(self, most: int, used: int) -> None:
        """What the configuration says of a block holds in place of its share, of which a client has half."""
        made = queue(256, 1000)
        fill(made, *some(300, "A", most=most), *some(20, "B"))
        assert Counter(item.block for item in begin(made)) == {"A": used, "B": 20}

    def test_the_same_names(self) -> None:
        """Of those for the same names of a block no more run than the budget allows, whoever asks."""
        made = queue(100)
        names = ("a.example.org",)
        same = [Asking("A", f"192.0.2.{number % 3}", names) for number in range(9)]
        others = [Asking("B", names=names), Asking("A", names=("b.example.org",))]
        fill(made, *same, *others)
        begun = begin(made)
        assert sum(item in same for item in begun) == 3
        assert all(item in begun for item in others)
        made.end(begun[0].share, behind=False)
        assert len(begin(made)) == 1

    def test_what_runs_behind_counts_for_its_names(self) -> None:
        """What nobody waits for any more takes no place, but it may still fail."""
        made = queue(100, places=1)
        first, second = (Asking(names=("a.example.org",)) for _ in range(2))
        fill(made, first, second)
        assert begin(made) == [first]
        assert made.fall_behind(first.share)
        assert (made.running, made.behind, begin(made)) == (0, 1, [])
        made.end(first.share, behind=True)
        assert begin(made) == [second]

    def test_shares_of_what_runs_behind(self) -> None:
        """One block cannot take all the places behind, either."""
        made = queue(100, behind=8)
        fill(made, *some(20), *some(20, "B"))
        begun = begin(made)
        mine, theirs = ([item for item in begun if item.block == block] for block in "AB")
        assert [made.fall_behind(item.share) for item in mine[:8]] == [True] * 2 + [False] * 6
        assert [made.fall_behind(item.share) for item in theirs[:3]] == [True, True, False]


class TestTurns:
    """Who is next."""

    def test_blocks_take_turns(self) -> None:
        """A block with many waits for one with few no longer than for one of them."""
        made = queue(1)
        fill(made, *some(5), *some(2, "B"))
        assert [item.block for item in self.served(made, 7)] == ["A", "B", "A", "B", "A", "A", "A"]

    def test_clients_of_a_block_take_turns(self) -> None:
        """Within a block, each client has its turn."""
        made = queue(1)
        fill(made, *some(4, client="one"), *some(2, client="two"))
        assert [item.client for item in self.served(made, 6)] == ["one", "two", "one", "two", "one", "one"]

    def test_in_the_order_of_arrival(self) -> None:
        """One client's requests are served in the order in which they came."""
        made = queue(1)
        items = some(5)
        fill(made, *items)
        assert self.served(made, 5) == items

    @staticmethod
    def served(made: FairQueue[Asking], number: int) -> list[Asking]:
        """Run one after the other."""
        found = []
        for _ in range(number):
            item = made.next()
            assert item is not None
            found.append(item)
            made.end(item.share, behind=False)
        return found


class TestFull:
    """Who has to leave."""

    def test_the_newest_of_who_has_the_most(self) -> None:
        """Who comes to a full queue takes the place of the block and client with the most in it."""
        made = queue(waiting=10)
        one, two = some(6, client="one"), some(4, client="two")
        assert fill(made, *one, *two) == []
        assert fill(made, *some(1, "B")) == [one[-1]]
        assert fill(made, *some(1, "B")) == [one[-2]]
        assert len(made) == 10

    def test_itself(self) -> None:
        """Who has the most already is refused itself."""
        made = queue(waiting=3)
        items = some(5)
        assert fill(made, *items) == items[3:]

    def test_a_tie(self) -> None:
        """Among equals it is the one that comes: nobody is pushed out by somebody who has as many."""
        made = queue(waiting=4)
        mine, theirs = some(3, "B"), some(2, "A")
        assert fill(made, *theirs, *mine) == [mine[2]]

    def test_a_client_cannot_fill_the_queue_of_its_block(self) -> None:
        """Another client of the same block finds room."""
        made = queue(waiting=50)
        fill(made, *some(200, client="one"))
        other = some(20, client="two")
        shed = fill(made, *other)
        assert {item.client for item in shed} == {"one"}
        assert made.remove(lambda item: item.client == "two") == other


class TestEnd:
    """Nothing is left of what is over."""

    def test_nothing_is_remembered(self) -> None:
        """Neither of what ran, nor of what was removed or refused."""
        made = queue(4, waiting=10)
        fill(made, *some(8), *some(8, "B"), *(Asking("C", f"192.0.2.{number}") for number in range(8)))
        begun = begin(made)
        for item in begun[:2]:
            assert made.fall_behind(item.share)
        made.remove(lambda _: True)
        for number, item in enumerate(begun):
            made.end(item.share, behind=number < 2)
        assert (len(made), made.running, made.behind) == (0, 0, 0)
        assert not made._root.children
        assert not made._of_names
