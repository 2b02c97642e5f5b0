"""The states of a connection that speaks HTTP/1.1, as tables (RFC 9112 section 9)."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from acmems.net.listening import Occupancy, Readiness


class ConnectionState(enum.Enum):
    """What a connection waits for."""

    IDLE = "a request"
    READING = "the rest of a request"
    ANSWERING = "the application"
    WRITING = "the client to take an answer"
    LINGERING = "the client to end, after the last answer"

    __hash__ = object.__hash__  # of the tables below, which every request goes through; Enum's is much slower


class ConnectionEvent(enum.Enum):
    """What brings a connection from one state to the next."""

    BYTES = "a request has begun to come"
    REQUEST = "a request is whole"
    REFUSAL = "a request is refused before it is whole"
    ANSWER = "the application has answered"
    TAKEN = "the client has taken an answer, and may ask again"
    LAST_TAKEN = "the client has taken the last answer"

    __hash__ = object.__hash__


class ClientEnd(enum.Enum):
    """How much of the connection its client has ended, as far as is known."""

    OPEN = "nothing"
    FINISHING = "it sends no more than what has come, some of which may be unread; it may still read"
    FINISHED = "it sends no more, and all that came is read"


class Ending(enum.Enum):
    """What becomes of the connection when the client has taken an answer."""

    KEEP = "it waits for the next request"
    CLOSE = "it is closed: the client has said that it sends no more, or others wait for its place"
    LINGER = "it is closed once the client has read the answer (RFC 9112 section 9.6)"


TRANSITIONS: Mapping[ConnectionState, Mapping[ConnectionEvent, ConnectionState]] = {
    ConnectionState.IDLE: {
        ConnectionEvent.BYTES: ConnectionState.READING,
    },
    ConnectionState.READING: {
        ConnectionEvent.REQUEST: ConnectionState.ANSWERING,
        ConnectionEvent.REFUSAL: ConnectionState.WRITING,
    },
    ConnectionState.ANSWERING: {
        ConnectionEvent.ANSWER: ConnectionState.WRITING,
    },
    ConnectionState.WRITING: {
        ConnectionEvent.TAKEN: ConnectionState.IDLE,
        ConnectionEvent.LAST_TAKEN: ConnectionState.LINGERING,
    },
    ConnectionState.LINGERING: {},
}
"""What follows what; a connection may also be closed in any state."""

USES: Mapping[ConnectionState, tuple[Readiness, Occupancy]] = {
    ConnectionState.IDLE: (Readiness.READABLE, Occupancy.SERVED),
    ConnectionState.READING: (Readiness.READABLE, Occupancy.ASKING),
    ConnectionState.ANSWERING: (Readiness.HANGUP, Occupancy.BUSY),
    ConnectionState.WRITING: (Readiness.WRITABLE, Occupancy.BUSY),
    ConnectionState.LINGERING: (Readiness.READABLE, Occupancy.LEAVING),
}
"""What a listener waits for in each state, and what the connection uses its place for."""
