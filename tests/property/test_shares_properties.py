"""Fairness, whatever comes in which order: nobody is locked out, nothing is lost, nothing is unbounded."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from acmems.system.shares import FairQueue, Share

MOST_RUNNING, MOST_WAITING, MOST_BEHIND, PLACES = 16, 20, 4, 2


@dataclass(eq=False)
class Item:
    """Something that waits for its turn."""

    share: Share


SHARES = st.builds(
    Share,
    block=st.sampled_from("ABC"),
    client=st.sampled_from("xyz"),
    names=st.sampled_from([("a",), ("b",), ("c",), ("d",)]),
    most=st.none(),
)


class QueueMachine(RuleBasedStateMachine):
    """A queue beside lists of what should be in it."""

    running = Bundle("running")
    behind = Bundle("behind")

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[Item] = FairQueue(MOST_RUNNING, MOST_WAITING, MOST_BEHIND, lambda _: PLACES)
        self.waiting: list[Item] = []
        self.begun: list[Item] = []
        self.left_behind: list[Item] = []

    def number(self, block: str | None, client: str | None = None, *, of: list[Item]) -> int:
        return sum(item.share.block == block and client in (None, item.share.client) for item in of)

    @rule(share=SHARES)
    def put(self, share: Share) -> None:
        """Who has to leave has at least as many as the one that comes, and the most of all."""
        item = Item(share)
        self.waiting.append(item)
        shed = self.queue.put(item)
        assert (shed is None) == (len(self.waiting) <= MOST_WAITING)
        if shed is not None:
            counts = {block: self.number(block, of=self.waiting) for block in "ABC"}
            assert counts[str(shed.share.block)] == max(counts.values())
            clients = {client: self.number(shed.share.block, client, of=self.waiting) for client in "xyz"}
            assert clients[shed.share.client] == max(clients.values())
            self.waiting.remove(shed)

    @rule(target=running)
    def begin(self) -> Item | None:
        """Where nothing begins, nothing may: there is no place, or all that wait have what is theirs."""
        item = self.queue.next()
        if item is not None:
            self.waiting.remove(item)
            self.begun.append(item)
            return item
        for other in self.waiting:
            share = other.share
            same = [each for each in (*self.begun, *self.left_behind) if each.share.names == share.names]
            assert (
                self.number(share.block, of=self.begun) > 0  # a block without anything begins at once
                or self.number(share.block, of=same) >= PLACES
            )
        return None

    @rule(item=consumes(running))
    def end(self, item: Item | None) -> None:
        if item in self.begun:
            self.queue.end(item.share, behind=False)
            self.begun.remove(item)

    @rule(target=behind, item=running)
    def fall_behind(self, item: Item | None) -> Item | None:
        if item in self.begun and self.queue.fall_behind(item.share):
            self.begun.remove(item)
            self.left_behind.append(item)
            return item
        return None

    @rule(item=consumes(behind))
    def end_behind(self, item: Item | None) -> None:
        if item in self.left_behind:
            self.queue.end(item.share, behind=True)
            self.left_behind.remove(item)

    @rule(client=st.sampled_from("xyz"))
    def remove(self, client: str) -> None:
        """Whoever is to go goes, and nobody else."""
        gone = self.queue.remove(lambda item: item.share.client == client)
        assert sorted(map(id, gone)) == sorted(
            id(item) for item in self.waiting if item.share.client == client
        )
        self.waiting = [item for item in self.waiting if item.share.client != client]

    @invariant()
    def counts(self) -> None:
        """What it says of itself is so, and within its limits."""
        assert len(self.queue) == len(self.waiting) <= MOST_WAITING
        assert self.queue.running == len(self.begun) <= MOST_RUNNING + 2  # a place for each other block
        assert self.queue.behind == len(self.left_behind) <= MOST_BEHIND
        for block in "ABC":
            for name in "abcd":
                same = [each for each in (*self.begun, *self.left_behind) if each.share.names == (name,)]
                assert self.number(block, of=same) <= PLACES
        if not (self.waiting or self.begun or self.left_behind):
            assert not self.queue._root.children


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@given(flood=st.integers(0, 300), others=st.lists(st.sampled_from("BCDE"), min_size=1, max_size=20))
def test_nobody_waits_for_a_flood(flood: int, others: list[str]) -> None:
    """Each of the others is served after at most one of every block for each of its own before it."""
    queue: FairQueue[Item] = FairQueue(1, 1000, 0, lambda _: 1)
    numbers = iter(range(1000))
    for block in ["A"] * flood + others:
        queue.put(Item(Share(block, "x", (str(next(numbers)),))))
    served: list[str | None] = []
    while (item := queue.next()) is not None:
        served.append(item.share.block)
        queue.end(item.share, behind=False)
    assert sorted(map(str, served)) == sorted(["A"] * flood + others)
    for block in set(others):
        last = max(number for number, each in enumerate(served) if each == block)
        assert last < others.count(block) * (len(set(others)) + 1)
