"""The bytes of one client's connection: taken as they come, given as they are taken, never waited for."""

from __future__ import annotations

import contextlib
import enum
import select
import socket

_CHUNK = 64 * 1024


class Readiness(enum.Enum):
    """What a connection can be waited for; that its client is gone altogether is told without being asked."""

    READABLE = select.EPOLLIN
    WRITABLE = select.EPOLLOUT
    READABLE_OR_WRITABLE = select.EPOLLIN | select.EPOLLOUT
    HANGUP = select.EPOLLRDHUP
    NOTHING = 0


class Hangup(enum.Enum):
    """How much of a connection its client has ended."""

    NONE = "nothing"
    HALF = "its sending; it may still read"
    WHOLE = "everything"


class ClientSocket:
    """A connected socket, of which nothing is ever waited for.

    Protocols know a connection by this only: what carries the bytes can become another thing without them.

    Args:
        sock: the socket.

    Attributes:
        number: the file descriptor.
    """

    __slots__ = ("_rest", "_socket", "number")

    def __init__(self, sock: socket.socket) -> None:
        self.number = sock.fileno()
        self._socket = sock
        self._rest: memoryview | None = None

    @property
    def pending(self) -> int:
        """How many bytes the client has not taken yet of what was sent."""
        return 0 if self._rest is None else len(self._rest)

    @property
    def has_begun(self) -> bool:
        """Whether something has come that a later connection at the same socket could not begin with."""
        return False

    @property
    def is_established(self) -> bool:
        """Whether the client can be spoken to."""
        return True

    @property
    def peer_certificate(self) -> bytes | None:
        """The client's certificate, in DER, verified; None where it has shown none."""
        return None

    def receive(self) -> bytes | None:
        """Return what has come: None for nothing, no bytes for the end.

        Raises:
            OSError: the client is gone.
        """
        try:
            return self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def has_unread(self) -> bool:
        """Tell whether bytes have come that nobody has received."""
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def send(self, data: bytes) -> None:
        """Send what the client takes at once, keep the rest for `flush`.

        Raises:
            OSError: the client is gone.
        """
        self._rest = memoryview(data if self._rest is None else bytes(self._rest) + data)
        self.flush()

    def flush(self) -> None:
        """Send what the client takes now of what it has not taken before.

        Raises:
            OSError: the client is gone.
        """
        if self._rest is None:
            return
        try:
            sent = self._socket.send(self._rest, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._rest = None
            raise
        self._rest = self._rest[sent:] if sent < len(self._rest) else None

    def hint(self, data: bytes) -> None:
        """Send a few bytes that the client can do without."""
        with contextlib.suppress(OSError):
            self._socket.send(data, socket.MSG_DONTWAIT)

    def hangup(self) -> Hangup:
        """Ask the socket itself: what epoll said may have been about an earlier one of this number."""
        poller = select.poll()
        poller.register(self.number, select.POLLRDHUP)
        events = sum(event for _, event in poller.poll(0))
        if events & (select.POLLHUP | select.POLLERR):
            return Hangup.WHOLE
        return Hangup.HALF if events & select.POLLRDHUP else Hangup.NONE

    def finish(self) -> None:
        """Tell the client that nothing more is sent.

        Raises:
            OSError: the client is gone.
        """
        self._socket.shutdown(socket.SHUT_WR)

    def detach(self) -> socket.socket:
        """Return the socket, which is not this channel's any more."""
        return self._socket

    def close(self) -> None:
        """Free the socket."""
        with contextlib.suppress(OSError):
            self._socket.close()
