"""One connection of a CA, or of anybody: a ClientHello, a handshake, and the end."""

from __future__ import annotations

import contextlib
import enum
import logging
import socket
import ssl
from collections.abc import Callable

from acmems.net.tlsalpn.certificate import PROTOCOL
from acmems.net.tlsalpn.hello import Hello, read_hello
from acmems.net.tlsalpn.shown import ChallengeContext, Watcher
from acmems.system.clock import Deadline

logger = logging.getLogger(__name__)

_PIECE = 16_384  # bytes read at once
_MOST = 65_536  # bytes that a client may send in all
_UNRECOGNIZED_NAME, _NO_PROTOCOL, _DECODE_ERROR = 112, 120, 50  # alerts (RFC 8446 section 6)
_TLS_FIRST = b"\x16"  # the first byte of whatever is TLS


class HandshakeState(enum.Enum):
    """How far a connection has come."""

    HELLO = enum.auto()
    HANDSHAKE = enum.auto()
    LINGERING = enum.auto()  # all is said; the client's end of it is waited for


class HandshakeConnection:
    """The server's side of one connection; used by one thread.

    Args:
        sock: connected and non-blocking.
        client: the address of the other side.
        find: returns what to make a handshake for a server name with.
        deadline: when it is closed, whatever has happened.
        since: when it was accepted, on the monotonic clock.
    """

    def __init__(
        self,
        sock: socket.socket,
        client: str,
        find: Callable[[str], ChallengeContext | None],
        deadline: Deadline,
        since: float,
    ) -> None:
        self.socket = sock
        self.client = client
        self.deadline = deadline
        self.since = since
        self.state = HandshakeState.HELLO
        self.is_wanted = False  # whether it has asked for a name that is on show
        self.is_closed = False
        self._find = find
        self._received = b""
        self._count = 0
        self._out = bytearray()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._watchers: tuple[Watcher, ...] = ()

    @property
    def wants_to_write(self) -> bool:
        """Whether there is something that the kernel has not taken yet."""
        return bool(self._out)

    def wake(self) -> None:
        """Go on as far as can be without waiting; it may be closed afterwards."""
        try:
            self._flush()
            while not self.is_closed:
                data = self.socket.recv(_PIECE)
                self._count += len(data)
                if not data or self._count > _MOST:
                    self.close()
                else:
                    self._take(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # reset by the other side, most often
            self.close()

    def close(self) -> None:
        """Close it; more calls change nothing."""
        self.is_closed = True
        self.socket.close()

    def _take(self, data: bytes) -> None:
        if self.state is HandshakeState.HELLO:
            self._received += data
            try:
                hello = read_hello(self._received)
            except ValueError:
                if self._received.startswith(_TLS_FIRST):
                    self._refuse(_DECODE_ERROR)
                else:
                    self.close()
                return
            if hello is not None:
                self._greet(hello)
        elif self.state is HandshakeState.HANDSHAKE:
            self._incoming.write(data)
            self._shake()

    def _greet(self, hello: Hello) -> None:
        """Begin a handshake with who knows the protocol and asks for a name on show (RFC 8737 section 3)."""
        if PROTOCOL.encode() not in hello.protocols:
            self._refuse(_NO_PROTOCOL)
            return
        answer = self._find(hello.server_name)
        if answer is None:
            self._refuse(_UNRECOGNIZED_NAME)
            return
        self.is_wanted = True
        self.state = HandshakeState.HANDSHAKE
        self._watchers = answer.watchers
        self._tls = answer.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._received)
        self._received = b""
        self._shake()

    def _shake(self) -> None:
        if self._tls is None:
            return
        is_done = False
        try:
            self._tls.do_handshake()
            is_done = self._tls.selected_alpn_protocol() == PROTOCOL
            # Sends close_notify, and then wants the client's, which nobody waits for.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError:  # what the client sent is wrong; OpenSSL has an alert for it
            pass
        self._finish()
        if is_done:
            for watcher in self._watchers:
                watcher()

    def _refuse(self, alert: int) -> None:
        """Send a fatal alert, in a record of its own."""
        self._out += bytes([21, 3, 3, 0, 2, 2, alert])
        self._finish()

    def _finish(self) -> None:
        # Closed at once, with bytes unread, the kernel would throw away what the client is still to get.
        self.state = HandshakeState.LINGERING
        self._received = b""
        self._flush()

    def _flush(self) -> None:
        self._out += self._outgoing.read()
        if self._out:
            with contextlib.suppress(BlockingIOError):
                del self._out[: self.socket.send(self._out)]
        if self.state is HandshakeState.LINGERING and not self._out:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
