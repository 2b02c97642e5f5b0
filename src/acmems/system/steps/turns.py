"""Whose work steps do, and a queue in which those who work for different ones take turns."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")
Owner = tuple[Hashable, ...]
"""For whom something is done, from the outside in, such as an auth block and a client of it."""

OWNER: ContextVar[Owner] = ContextVar("owner", default=("",))
"""For whom the running steps work; the steps that they start inherit it."""


class OwnerQueue(Generic[T]):
    """What waits: the first parts of its owners take turns, then their next parts, then it is by arrival."""

    __slots__ = ("inner", "items")

    def __init__(self) -> None:
        self.inner: OrderedDict[Hashable, OwnerQueue[T]] = OrderedDict()
        self.items: deque[T] = deque()

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self.items or self.inner)

    @property
    def first(self) -> T:
        """What is next, which stays next until it is removed.

        Raises:
            IndexError: nothing waits.
        """
        queue = self
        while queue.inner and not queue.items:
            queue = next(iter(queue.inner.values()))
        return queue.items[0]

    def put(self, item: T, owner: Owner) -> None:
        """Let something wait.

        Args:
            item: what waits.
            owner: for whom.
        """
        queue = self
        for part in owner:
            inner = queue.inner.get(part)
            if inner is None:
                inner = queue.inner[part] = OwnerQueue()
            queue = inner
        queue.items.append(item)

    def remove(self, item: T, owner: Owner) -> None:
        """Let something wait no longer; the next one is of another owner, if there is one.

        Args:
            item: what was put.
            owner: for whom.

        Raises:
            KeyError, ValueError: it does not wait.
        """
        if not owner:
            self.items.remove(item)
            return
        inner = self.inner[owner[0]]
        inner.remove(item, owner[1:])
        if not inner:
            del self.inner[owner[0]]
        else:
            self.inner.move_to_end(owner[0])
