"""What is kept of requests that are not whole yet: bounded together, by address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Sender(Protocol):
    """A connection on which requests come."""

    @property
    def share(self) -> str:
        """Whose share it counts for."""


S = TypeVar("S", bound=Sender)


class UnfinishedRequests(Generic[S]):
    """How many bytes are kept of whose requests.

    Where all together are too many, the address that has sent most loses what has come on its fullest
    connection: so strangers who send a lot take nothing from those who send a little.

    Args:
        most: bytes of all together, or what returns how many they may be now.

    Attributes:
        total: bytes that are kept.
        dropped: requests that were given up so far.
    """

    def __init__(self, most: int | Callable[[], int]) -> None:
        self.dropped = 0
        self._limit = most if callable(most) else lambda: most
        self._sizes: dict[S, int] = {}
        self.total = 0

    def note(self, sender: S, size: int) -> list[S]:
        """Take note of how much is kept for a connection; return those whose requests are to be given up.

        Args:
            sender: the connection.
            size: bytes that are kept for it now.
        """
        self.total += size - self._sizes.get(sender, 0)
        self._sizes[sender] = size
        given_up = []
        while self.total > self._limit():
            largest = self._largest()
            self.forget(largest)
            given_up.append(largest)
        self.dropped += len(given_up)
        return given_up

    def forget(self, sender: S) -> None:
        """Take note that nothing is kept for a connection any more."""
        self.total -= self._sizes.pop(sender, 0)

    def _largest(self) -> S:
        """Return the fullest connection of the address that has sent most."""
        shares: Counter[str] = Counter()
        for sender, size in self._sizes.items():
            shares[sender.share] += size
        ((share, _),) = shares.most_common(1)
        return max((one for one in self._sizes if one.share == share), key=self._sizes.__getitem__)
