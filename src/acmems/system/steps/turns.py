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

    __slots__ = ("_inner", "_items")

    def __init__(self) -> None:
        self._inner: OrderedDict[Hashable, OwnerQueue[T]] = OrderedDict()
        self._items: deque[T] = deque()

    def __bool__(self) -> bool:
        """Tell whether anything waits."""
        return bool(self._items or self._inner)

    @property
    def first(self) -> T:
        """What is next, which stays next until it is removed.

        Raises:
            IndexError: nothing waits.
        """
        return self._items[0] if self._items or not self._inner else next(iter(self._inner.values())).first

    def put(self, item: T, owner: Owner) -> None:
        """Let something wait.

        Args:
            item: what waits.
            owner: for whom.
        """
        if owner:
            self._inner.setdefault(owner[0], OwnerQueue()).put(item, owner[1:])
        else:
            self._items.append(item)

    def remove(self, item: T, owner: Owner) -> None:
        """Let something wait no longer; the next one is of another owner, if there is one.

        Args:
            item: what was put.
            owner: for whom.

        Raises:
            KeyError, ValueError: it does not wait.
        """
        if not owner:
            self._items.remove(item)
            return
        inner = self._inner[owner[0]]
        inner.remove(item, owner[1:])
        if not inner:
            del self._inner[owner[0]]
        else:
            self._inner.move_to_end(owner[0])
