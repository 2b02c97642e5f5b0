"""What a protocol implements: the server's end of one connection, as its listener sees it."""

from __future__ import annotations

import abc
import enum
import math
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
    | LEAVING | after its grace, with those | is not waited for |
    """

    NEW = "nothing has come yet"
    ASKING = "what is asked for has begun to come"
    BUSY = "what was asked for is being done or sent"
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

    @property
    def is_crowded(self) -> bool:
        """Whether there are more clients than places, so that connections are better not kept."""

    def release(self, connection: Connection) -> None:
        """Forget a connection that closes, before its descriptor becomes another's."""

    def wake(self, connection: Connection) -> None:
        """Have a connection proceed soon; from any thread."""


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
        watched: what the listener waits for on its behalf; the listener's own note.
        is_closed: whether it has ended.
    """

    __slots__ = (
        "awaits",
        "channel",
        "deadline",
        "host",
        "is_closed",
        "occupancy",
        "peer",
        "since",
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
        self.watched: Readiness | None = None
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

    def close(self) -> None:
        """Free the socket; more calls change nothing."""
        if not self.is_closed:
            self.is_closed = True
            self.host.release(self)
            self.channel.close()


class StreamService(Protocol):
    """A protocol that is spoken on the connections of a listener."""

    def connection(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> Connection:
        """Return the server's end of a connection that was accepted.

        Args:
            host: the listener.
            channel: the client's bytes.
            peer: address and port of the client; IPv4 in its own form.
        """
