"""Whose turn it is: auth blocks take turns, in each block its clients, for each client its sets of names."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Generic, Protocol, TypeVar

_SHARE = 1 / 2
"""Of the places that others leave, so much may be used by one auth block, and by one client of a block."""


@dataclass(frozen=True, slots=True)
class Share:
    """Whose share of the places something takes.

    Args:
        block: the auth block.
        client: who asks.
        names: for which names.
        most: how many of the block may run at once, in place of its share; None for that.
    """

    block: str | None
    client: str
    names: tuple[str, ...]
    most: int | None = None

    @property
    def path(self) -> tuple[Hashable, ...]:
        """Who takes turns with whom, from the outside in."""
        return self.block, self.client, self.names


class Shared(Protocol):
    """What waits for its turn."""

    @property
    def share(self) -> Share:
        """Whose share it takes."""


T = TypeVar("T", bound=Shared)


@dataclass(slots=True, eq=False)
class _Node(Generic[T]):
    """All blocks, a block, a client of a block, or a set of names of a client.

    Args:
        children: those that take turns, the next one first.
        items: what waits, where there are no children.
        waiting: how many wait.
        running: how many run and take a place.
        behind: how many run and take none.
        most: how many may run at once by configuration.
    """

    children: OrderedDict[Hashable, _Node[T]] = field(default_factory=OrderedDict)
    items: deque[T] = field(default_factory=deque)
    waiting: int = 0
    running: int = 0
    behind: int = 0
    most: int | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.waiting or self.running or self.behind)


class FairQueue(Generic[T]):
    """What waits for one of a number of places, and who is next; for one thread at a time.

    As long as nobody else wants them, an auth block may use half of all places, and one client of it half of
    those; the less the more the others use. So there are free places for whoever comes. Where others have
    taken these as well, an auth block of which nothing runs has one of its own.

    Where too many wait, whoever has the most in the queue loses the newest.

    Args:
        most_running: how many places there are.
        most_waiting: how many may wait.
        most_behind: how many may run without a place.
        places: how many may run at once for the names of one, within its block, whoever its clients are.
    """

    def __init__(
        self, most_running: int, most_waiting: int, most_behind: int, places: Callable[[T], int]
    ) -> None:
        self.most_running = most_running
        self.most_waiting = most_waiting
        self.most_behind = most_behind
        self._places = places
        self._root: _Node[T] = _Node()
        self._of_names: Counter[tuple[str | None, tuple[str, ...]]] = Counter()  # that run, behind or not

    def __len__(self) -> int:
        """Return how many wait."""
        return self._root.waiting

    @property
    def most_of_one(self) -> int:
        """How many of one client may run at once, as long as nobody else wants a place."""
        return _share_of(_share_of(self.most_running, 0), 0)

    @property
    def running(self) -> int:
        """How many run and take a place."""
        return self._root.running

    @property
    def behind(self) -> int:
        """How many run and take no place."""
        return self._root.behind

    def put(self, item: T) -> T | None:
        """Let something wait for its turn.

        Returns:
            what does not wait any more, because there are too many: this or another one. None if all do.
        """
        path = self._path(item.share)
        for node in path:
            node.waiting += 1
        path[1].most = item.share.most
        path[-1].items.append(item)
        return self._shed(item.share) if len(self) > self.most_waiting else None

    def next(self) -> T | None:
        """Return what is to run now, which takes a place then; None while nothing may."""
        return self._take(self._root, self.most_running)

    def fall_behind(self, share: Share) -> bool:
        """Let something run on without a place, and tell whether it may."""
        path = self._path(share)
        limit = self.most_behind
        if self._root.behind >= limit:
            return False
        for parent, node in pairwise(path[:-1]):
            limit = _share_of(limit, parent.behind - node.behind)
            if node.behind >= limit:
                return False
        for node in path:
            node.running -= 1
            node.behind += 1
        return True

    def end(self, share: Share, *, behind: bool) -> None:
        """Take note that something has run.

        Args:
            share: whose.
            behind: whether it had no place in the end.
        """
        for node in self._path(share):
            if behind:
                node.behind -= 1
            else:
                node.running -= 1
        same = (share.block, share.names)
        self._of_names[same] -= 1
        if not self._of_names[same]:
            del self._of_names[same]
        self._prune(share)

    def remove(self, is_over: Callable[[T], bool]) -> list[T]:
        """Return what is to wait no longer, and forget it."""
        removed: list[T] = []
        self._sift(self._root, is_over, removed)
        for item in removed:
            self._prune(item.share)
        return removed

    def _path(self, share: Share) -> list[_Node[T]]:
        """Return the nodes that something is counted in, from the outside in."""
        path = [self._root]
        for name in share.path:
            path.append(path[-1].children.setdefault(name, _Node()))
        return path

    def _take(self, node: _Node[T], limit: int) -> T | None:
        """Return the next below a node.

        Args:
            node: the node.
            limit: how many may run there at once.
        """
        if node.items:
            return self._take_first(node)
        for name, child in node.children.items():
            if not child.waiting or (node is self._root and not self._has_place(child)):
                continue
            # Sets of names of a client have no shares: all that is wanted of them is their turn.
            most = limit if child.items else _share_of(limit, node.running - child.running)
            if child.most is not None:
                most = child.most
            item = self._take(child, most) if child.running < most else None
            if item is not None:
                node.children.move_to_end(name)
                self._count_taken(node)
                return item
        return None

    def _has_place(self, block: _Node[T]) -> bool:
        return self._root.running < self.most_running or not block.running

    def _take_first(self, leaf: _Node[T]) -> T | None:
        item = leaf.items[0]
        same = (item.share.block, item.share.names)
        if self._of_names[same] >= self._places(item):
            return None
        self._of_names[same] += 1
        leaf.items.popleft()
        self._count_taken(leaf)
        return item

    @staticmethod
    def _count_taken(node: _Node[T]) -> None:
        node.waiting -= 1
        node.running += 1

    def _shed(self, newest: Share) -> T:
        """Return the newest of whoever has the most in the queue, and forget it.

        Args:
            newest: who came last, and is the one where several have the same number.
        """
        path = [self._root]
        own: _Node[T] | None = self._root
        for name in newest.path:
            own = None if own is None else own.children.get(name)
            longest = max(reversed(path[-1].children.values()), key=lambda node: node.waiting)
            if own is not None and own.waiting == longest.waiting:
                longest = own
            elif longest is not own:
                own = None
            path.append(longest)
        item = path[-1].items.pop()
        for node in path:
            node.waiting -= 1
        self._prune(item.share)
        return item

    def _sift(self, node: _Node[T], is_over: Callable[[T], bool], removed: list[T]) -> None:
        before = len(removed)
        for child in node.children.values():
            self._sift(child, is_over, removed)
        if node.items:
            over = [item for item in node.items if is_over(item)]
            if over:
                gone = set(map(id, over))
                node.items = deque(item for item in node.items if id(item) not in gone)
                removed += over
        node.waiting -= len(removed) - before

    def _prune(self, share: Share) -> None:
        """Forget the nodes of whoever neither waits nor runs."""
        parents = [self._root]
        for name in share.path:
            child = parents[-1].children.get(name)
            if child is None:
                break
            parents.append(child)
        for parent, name in reversed(list(zip(parents, share.path, strict=False))):
            child = parent.children.get(name)
            if child is not None and child.is_empty:
                del parent.children[name]


def _share_of(places: int, used_by_others: int) -> int:
    """Return how many of some places one may use; one at least, so that nobody is locked out."""
    return max(1, math.ceil(_SHARE * (places - used_by_others)))
