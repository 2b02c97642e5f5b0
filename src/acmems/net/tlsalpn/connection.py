"""One connection of a CA, or of anybody: a ClientHello, a handshake, and the end."""

from __future__ import annotations

import contextlib
import enum
import ssl

from acmems.net.listening import ClientSocket, Connection, Host, ListenerLimits, Occupancy, Readiness
from acmems.net.tlsalpn.certificate import PROTOCOL
from acmems.net.tlsalpn.hello import Hello, read_hello
from acmems.net.tlsalpn.presented import ChallengeCertificates, ChallengeContext, OtherProofs, Watcher
from acmems.x509.identifiers import Identifier

HANDSHAKE_LIMITS = ListenerLimits(connections=200, waiting=2000, crowd_grace_seconds=1.0, tick_seconds=0.1)
"""What a listener for handshakes takes on, each of which is short."""

_SECONDS = 5.0  # after which a connection is closed, whatever it does
_MOST = 65_536  # bytes that a client may send in all
_UNRECOGNIZED_NAME, _NO_PROTOCOL, _DECODE_ERROR = 112, 120, 50  # alerts (RFC 8446 section 6)
_TLS_FIRST = b"\x16"  # the first byte of whatever is TLS


class HandshakeState(enum.Enum):
    """How far a connection has come."""

    HELLO = enum.auto()
    LOOKUP = enum.auto()  # whether another server presents a proof is looked up
    HANDSHAKE = enum.auto()
    LINGERING = enum.auto()  # all is said; the client's end of it is waited for


class HandshakeService:
    """Handshakes for names whose proofs are presented; everybody else gets an alert (RFC 8737).

    Args:
        certificates: the proofs that are presented.
        others: looks up what other servers present; None: there are none.
    """

    def __init__(self, certificates: ChallengeCertificates, others: OtherProofs | None = None) -> None:
        self.certificates = certificates
        self.others = others

    def connection(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> HandshakeConnection:
        """Return the server's end of a connection that was accepted."""
        return HandshakeConnection(host, channel, peer, self)


class HandshakeConnection(Connection):
    """The server's end of one connection.

    Args:
        host: the listener.
        channel: the client's bytes.
        peer: address and port of the client.
        service: knows the proofs that are presented.
    """

    __slots__ = (
        "_count",
        "_found",
        "_incoming",
        "_outgoing",
        "_received",
        "_service",
        "_tls",
        "_watchers",
        "state",
    )

    def __init__(
        self, host: Host, channel: ClientSocket, peer: tuple[str, int], service: HandshakeService
    ) -> None:
        super().__init__(host, channel, peer)
        self.deadline = self.since + _SECONDS
        self.state = HandshakeState.HELLO
        self._service = service
        self._found: tuple[ChallengeContext | None] | None = None  # once it has been looked up
        self._received = b""
        self._count = 0
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._watchers: tuple[Watcher, ...] = ()

    def proceed(self) -> None:
        """Go on as far as is possible without waiting."""
        try:
            self._flush()
            if self.state is HandshakeState.LOOKUP and self._found is not None:
                self._shake_with(*self._found)
            while not self.is_closed and (data := self.channel.receive()) is not None:
                self._count += len(data)
                if not data or self._count > _MOST:
                    if self.state is HandshakeState.HELLO:
                        self.host.note_refusal(self)
                    self.close()
                else:
                    self._take(data)
        except OSError:  # reset by the other side, most often
            self.close()
        self.awaits = Readiness.READABLE_OR_WRITABLE if self.channel.pending else Readiness.READABLE

    def _take(self, data: bytes) -> None:
        if self.state is HandshakeState.HELLO:
            self.occupancy = Occupancy.ASKING
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
        elif self.state is HandshakeState.LOOKUP:
            self._received += data
        elif self.state is HandshakeState.HANDSHAKE:
            self._incoming.write(data)
            self._shake()

    def _greet(self, hello: Hello) -> None:
        """Begin a handshake with who knows the protocol and asks for such a name (RFC 8737 section 3)."""
        if PROTOCOL.encode() not in hello.protocols:
            self._refuse(_NO_PROTOCOL)
            return
        own = self._service.certificates.find(hello.server_name)
        others = self._service.others
        if own is None and others is not None and others.find(hello.server_name, self._find):
            self.state = HandshakeState.LOOKUP
        else:
            self._shake_with(own)

    def _find(self, proof: tuple[Identifier, str] | None) -> None:
        """Go on with what another server presents; by any thread."""
        context = None
        if proof is not None:
            with contextlib.suppress(OSError):  # no room for it: then there is none
                context = self._service.certificates.context_of(*proof)
        self._found = (context,)
        self.host.wake(self)

    def _shake_with(self, answer: ChallengeContext | None) -> None:
        if answer is None:
            self._refuse(_UNRECOGNIZED_NAME)
            return
        self.state = HandshakeState.HANDSHAKE
        self.since = self.host.clock.monotonic()
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
        self.host.note_refusal(self)
        self._outgoing.write(bytes([21, 3, 3, 0, 2, 2, alert]))
        self._finish()

    def _finish(self) -> None:
        # Closed at once, with bytes unread, the kernel would throw away what the client is still to get.
        self.state = HandshakeState.LINGERING
        self.occupancy = Occupancy.LEAVING
        self.since = self.host.clock.monotonic()
        self._received = b""
        self._flush()

    def _flush(self) -> None:
        self.channel.flush()
        data = self._outgoing.read()
        if data:
            self.channel.send(data)
        if self.state is HandshakeState.LINGERING and not self.channel.pending:
            with contextlib.suppress(OSError):
                self.channel.finish()
