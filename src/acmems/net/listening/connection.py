"""What a protocol implements: the server's end of one connection, as its listener sees it."""

from __future__ import annotations

import abc
import enum
import math
import socket
from collections.abc import Callable
from typing import Protocol

from acmems.net.listening.channel import ClientSocket, Readiness
from acmems.system.clock import Clock


class Occupancy(enum.Enum):
    """What a connection uses its place for; it decides who is ended for others, and by a stop.

    | occupancy | ended for newcomers | ended by a stop |
    |---|---|---|
    | NEW | after its grace | after its grace |
    | ASKING | after its grace | by its deadline |
    | BUSY | never | by its deadline |
    | SERVED | at once, before all others | after its grace |
    | UNREAD | after its grace, with those | by its deadline |
    | LEAVING | after its grace, with those | is not waited for |

    Nobody whose address holds most has any grace where someone waits whose address holds less.
    """

    NEW = "nothing has come yet"
    ASKING = "what is asked for has begun to come"
    BUSY = "what was asked for is being done or sent"
    UNREAD = "the client does not take what is sent"
    SERVED = "all that was asked for is done"
    LEAVING = "all is said; the client's end is waited for"


class Host(Protocol):
    """What a listener is to its connections."""

    @property
    def clock(self) -> Clock:
        """Measures how long connections take."""

    @property
    def is_draining(self) -> bool:
        """Whether each connection is to end after what it does now."""

    def is_awaited(self, connection: Connection) -> bool:
        """Tell whether others wait for the place of a connection, so that it is better not kept."""

    def release(self, connection: Connection) -> None:
        """Forget a connection that closes, before its descriptor becomes another's."""

    def wake(self, connection: Connection) -> None:
        """Have a connection proceed when it is its address's turn; from any thread."""

    def again(self, connection: Connection) -> None:
        """Have a connection proceed when it is its address's turn."""

    def hand_over(self, connection: Connection, step: Callable[[], None]) -> None:
        """Have a step taken when it is the turn of a connection's address, open or not; from any thread."""

    def note_refusal(self, connection: Connection) -> None:
        """Count what a connection has asked for and does not get; who is refused a lot has to wait."""

    def share(self, connection: Connection, host: str | None) -> bool:
        """Count what a connection of a proxy does as done by one of the proxy's clients.

        Args:
            connection: the proxy's.
            host: the client's address; None: by the proxy again.

        Returns:
            Whether that client may have one more place; if not, nothing changes.
        """


class Connection(abc.ABC):
    """The server's end of one connection.

    The listener's thread calls all methods. None of them MUST block; what one raises closes the connection.
    After each step the listener waits for what `awaits` says, and calls `expire` when `deadline` has passed.

    Args:
        host: the listener.
        channel: the client's bytes.
        peer: address and port of the client; IPv4 in its own form.

    Attributes:
        occupancy: what it uses its place for.
        since: since when it does.
        deadline: when `expire` is called, on the monotonic clock.
        awaits: what it waits for.
        share: whose share it counts for; the listener's own note, as are the next three.
        watched: what the listener waits for on its behalf.
        is_queued: whether it has asked for a turn.
        step: takes that turn.
        is_closed: whether it has ended.
    """

    __slots__ = (
        "awaits",
        "channel",
        "deadline",
        "host",
        "is_closed",
        "is_queued",
        "occupancy",
        "peer",
        "share",
        "since",
        "step",
        "watched",
    )

    def __init__(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> None:
        self.host = host
        self.channel = channel
        self.peer = peer
        self.occupancy = Occupancy.NEW
        self.since = host.clock.monotonic()
        self.deadline = math.inf
        self.awaits = Readiness.READABLE
        self.share = ""
        self.step = _nothing
        self.watched: Readiness | None = None
        self.is_queued = False
        self.is_closed = False

    @abc.abstractmethod
    def proceed(self) -> None:
        """Go on as far as is possible without waiting; it may be called though nothing has happened."""

    def expire(self) -> None:
        """End what took too long."""
        self.close()

    def give_way(self) -> None:
        """Close, at once, to make room for others."""
        self.close()

    def is_overlooked(self) -> bool:
        """Tell whether bytes have come that the listener has not come to read yet.

        That is this server being late, not the client: neither its deadline nor its place is at stake then.
        """
        return self.awaits is Readiness.READABLE and self.channel.has_unread()

    def step_back(self) -> socket.socket:
        """End, and return the socket: nothing has come yet, and another may begin with it later."""
        self.is_closed = True
        self.host.release(self)
        return self.channel.detach()

    def close(self) -> None:
        """Free the socket; more calls change nothing."""
        if not self.is_closed:
            self.is_closed = True
            self.host.release(self)
            self.channel.close()


def _nothing() -> None:
    """Take no turn: the connection is nobody's."""


class StreamService(Protocol):
    """A protocol that is spoken on the connections of a listener."""

    def connection(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> Connection:
        """Return the server's end of a connection that was accepted.

        Args:
            host: the listener.
            channel: the client's bytes.
            peer: address and port of the client; IPv4 in its own form.
        """
