"""One connection of a client: its states, its deadlines, and the requests on it.

At any time at most one thread owns a connection: it claimed it, and gives it back by arming it in
the epoll object (one shot) or by closing it. Only the answer to a request may come from elsewhere,
at any time; the lock is for that meeting alone, and is never held while the application runs.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import random
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from acmems.exceptions import AcmeException, DeadlinePassed, HttpRefusal, PayloadToLarge
from acmems.net.http.channel import ClientSocket, Hangup, Readiness
from acmems.net.http.exchange import Application, Exchange, Handling, HttpLimits
from acmems.net.http.framing import Head, RequestReader
from acmems.system.clock import Clock, Deadline

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RETRY_AFTER = 5.0  # seconds after which it is worth asking again for an answer that took too long


class ConnectionState(enum.Enum):
    """What a connection waits for."""

    READING = "a request"
    ANSWERING = "the application"
    WRITING = "the client to take an answer"
    LINGERING = "a refused client to stop sending"


@dataclass(slots=True)
class SharedState:
    """What all connections of one listener share.

    Args:
        application: answers their requests.
        limits: how long they may take.
        clock: measures it.
        epoll: tells when they can go on.
        on_close: called after one closed.
        open: the open ones by file descriptor.
        draining: whether to close each after its current request.
    """

    application: Application
    limits: HttpLimits
    clock: Clock
    epoll: select.epoll
    on_close: Callable[[], None]
    open: dict[int, HttpConnection] = field(default_factory=dict)
    draining: bool = False


class HttpConnection:
    """The server's end of one TCP connection; created by the thread that accepted it, which owns it.

    Args:
        service: what it shares with others.
        sock: the connected socket.
        address: the client's address and port.
    """

    __slots__ = (
        "_channel",
        "_closing",
        "_current",
        "_ended",
        "_half_closed",
        "_handling",
        "_length",
        "_lingers",
        "_lock",
        "_owned",
        "_reader",
        "_service",
        "_started",
        "_waiting",
        "address",
        "deadline",
        "since",
        "state",
    )

    def __init__(self, service: SharedState, sock: socket.socket, address: tuple[str, int]) -> None:
        self.address = address
        self.state = ConnectionState.READING
        self.since = service.clock.monotonic()
        self.deadline = self.since + service.limits.arrival_seconds
        self._service = service
        self._channel = ClientSocket(sock, service.epoll)
        self._reader = RequestReader(service.limits.head)
        self._lock = threading.Lock()
        self._half_closed = False  # the client sends no more than what has come; it may still read
        self._ended = False  # and that is received
        self._owned = True  # and a closed one stays owned for ever
        self._started: float | None = None  # when the first byte of the request came
        self._waiting: Exchange | None = None  # its head is here, its body is not
        self._handling: Handling | None = None  # what the application will do with that request
        self._length = 0  # of that body
        self._current: Exchange | None = None  # the application has it
        self._closing = False  # after the answer
        self._lingers = False  # before closing
        service.open[self._channel.number] = self

    @property
    def unproductive(self) -> bool:
        """Whether it holds a place without a complete request."""
        return self.state is ConnectionState.READING or self.state is ConnectionState.LINGERING

    def start(self) -> None:
        """Read what came with the connection; for the thread that accepted it."""
        self._receive()

    def wake(self) -> None:
        """Go on, because epoll said so."""
        with self._lock:
            if self._owned:  # an event of an earlier connection with this number; the owner will look
                return
            self._owned = True
        if self.state is ConnectionState.READING:
            self._receive()
        elif self.state is ConnectionState.ANSWERING:
            self._look_for_hangup()
        elif self.state is ConnectionState.WRITING:
            self._flush()
        else:
            self._discard()

    def expire(self, now: float) -> None:
        """End whatever took too long, if it did.

        Args:
            now: the time on the monotonic clock.
        """
        if now < self.deadline:
            return
        if self.state is ConnectionState.ANSWERING:
            exchange = self._current
            if exchange is not None:
                late = DeadlinePassed("no answer in time; ask again", retry_after=_RETRY_AFTER)
                self._deliver(exchange, self._refusal(exchange, late), close=True)
            return
        with self._lock:
            if self._owned or now < self.deadline or self._has_unread():
                return
            self._owned = True
        self._give_up()

    def sacrifice(self) -> None:
        """End this connection to make room for others, unless it has become productive."""
        with self._lock:
            if self._owned or not self.unproductive or self._has_unread():
                return
            self._owned = True
        self._give_up()

    def _has_unread(self) -> bool:
        """Tell whether its first bytes are here and no thread has come to read them.

        That is this server being late, not the client.
        """
        return self.state is ConnectionState.READING and self._started is None and self._channel.has_unread()

    def retire(self) -> None:
        """Close this connection if nothing is going on there."""
        with self._lock:
            if self._owned or self.state is not ConnectionState.READING or self._started is not None:
                return
            if self._has_unread():
                return
            self._owned = True
        self.close()

    def close(self) -> None:
        """Free the socket; for its owner, or when no other thread is left."""
        with self._lock:
            self._owned = True
            if self._current is not None:
                self._current.gone = True
            self._current = None
        self._service.open.pop(self._channel.number, None)  # before its number can be another's
        self._channel.close()
        self._service.on_close()

    # From here on, only the owner calls.

    def _arm(self, event: Readiness) -> None:
        """Give the connection back until this event."""
        with self._lock:
            self._owned = False
            self._channel.wait_for(event)

    def _receive(self) -> None:
        try:
            data = self._channel.receive()
        except OSError:
            self.close()
            return
        if data:
            if self._started is None:
                self._started = self._service.clock.monotonic()
                self.deadline = self._started + self._service.limits.arrival_seconds
            self._reader.feed(data)
        elif data is not None:
            self._half_closed = self._ended = True
        self._serve()

    def _serve(self) -> None:
        """Serve the requests that are here, one after the other, then wait for more."""
        while self._complete():
            if not self._run():
                return

    def _complete(self) -> bool:
        """Tell whether a request is here, head and body; if not, wait for it or refuse it."""
        if self._waiting is None:
            try:
                head = self._reader.head()
            except HttpRefusal as refusal:
                self._refuse(None, refusal)
                return False
            if head is None:
                self._wait_for_more()
                return False
            if not self._begin(head):
                return False
        body = self._reader.body(self._length)
        if body is None:
            self._wait_for_more()
            return False
        if self._waiting is not None:
            self._waiting.body = body
        return True

    def _begin(self, head: Head) -> bool:
        """Ask the application whether it wants the request; tell whether it does."""
        service = self._service
        arrived = self.since if self._started is None else self._started
        exchange = Exchange(
            head.method,
            head.target,
            head.version,
            head.headers,
            self.address,
            f"{random.getrandbits(32):08x}",
            Deadline(arrived + service.limits.request_seconds, service.clock.monotonic),
            head.keep_alive and not service.draining,
            self._deliver,
        )
        try:
            handling = service.application.begin(exchange)
            if head.length > handling.body_limit:
                raise PayloadToLarge(head.length, handling.body_limit)  # noqa: TRY301 - answered like begin's own
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            self._refuse(exchange, error)
            return False
        self._waiting, self._handling = exchange, handling
        self._length = head.length
        if head.expects_continue and head.length and self._reader.empty:
            self._channel.hint(_CONTINUE)
        return True

    def _wait_for_more(self) -> None:
        if self._ended:
            self.close()
        else:
            self._arm(Readiness.READABLE)
            if self._service.draining:  # a stop that came before this was given back has passed it by
                self.retire()

    def _run(self) -> bool:
        """Have the complete request answered; tell whether the next one may follow at once."""
        exchange, self._waiting = self._waiting, None
        handling, self._handling = self._handling, None
        if exchange is None or handling is None:
            return False
        self.deadline = exchange.deadline.at
        self.state = ConnectionState.ANSWERING
        self._current = exchange
        try:
            handling.run()
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            self._deliver(exchange, self._refusal(exchange, error), close=True)
        return not self._await_answer() and self._settle()

    def _await_answer(self) -> bool:
        """Give the connection back until its answer or a hangup; False if the answer is there already."""
        with self._lock:
            if self._current is None:
                return False
            self._current.gone = self._half_closed
            self._owned = False
            self._channel.wait_for(Readiness.NOTHING if self._half_closed else Readiness.HANGUP)
            return True

    def _deliver(self, exchange: Exchange, data: bytes, close: bool) -> None:
        """Send an answer; the one method that any thread may call, owner or not."""
        with self._lock:
            if self._current is not exchange:
                return
            self._current = None
            self._closing = close or not exchange.keep_alive or self._service.draining
            self._lingers = self._closing and exchange.keep_alive  # otherwise the client said that it is done
            self._send(data)
            if self._owned:
                return  # by a thread that sees it before it gives the connection back, and goes on then
            self._owned = True
        if self._settle():
            # What the client sent ahead is for a thread that serves connections, not for this one.
            self._arm(Readiness.READABLE if self._reader.empty else Readiness.AT_ONCE)

    def _refuse(self, exchange: Exchange | None, error: Exception) -> None:
        """Answer an error before the request was read to its end; after it there is nothing to go on with."""
        self._lingers = self._closing = True
        self._send(self._refusal(exchange, error))
        self._settle()

    def _refusal(self, exchange: Exchange | None, error: Exception) -> bytes:
        if not isinstance(error, AcmeException):
            reference = exchange.reference if exchange else "without a request"
            _log.error("a bug, reference %s", reference, exc_info=error)
        try:
            return self._service.application.refuse(exchange, error, self.address[0])
        except Exception:  # noqa: BLE001 - logged, and the connection closes without an answer
            _log.exception("a bug: an error could not be answered")
            return b""

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # where the client is gone, reading will tell
            self._channel.send(data)

    def _flush(self) -> None:
        try:
            self._channel.flush()
        except OSError:
            self.close()
            return
        if self._channel.pending:
            self._arm(Readiness.WRITABLE)
        elif self._settle():
            self._serve()

    def _settle(self) -> bool:
        """Do what follows an answer; tell whether that is the next request."""
        now, limits = self._service.clock.monotonic(), self._service.limits
        if self._channel.pending:
            self.state = ConnectionState.WRITING
            self.deadline = now + limits.write_seconds
            self._arm(Readiness.WRITABLE)
            return False
        if self._closing:
            self._linger(now) if self._lingers else self.close()
            return False
        self.since = now
        self._started = None if self._reader.empty else now
        self.deadline = now + (limits.idle_seconds if self._reader.empty else limits.arrival_seconds)
        self.state = ConnectionState.READING
        return True

    def _linger(self, now: float) -> None:
        """Let the client read its answer: closing while it sends would reset the connection under it.

        RFC 9112 section 9.6.
        """
        try:
            self._channel.finish()
        except OSError:
            self.close()
            return
        self.since = now
        self.deadline = now + self._service.limits.linger_seconds
        self.state = ConnectionState.LINGERING
        self._discard()

    def _discard(self) -> None:
        try:
            gone = self._channel.receive() == b""
        except OSError:
            gone = True
        self.close() if gone else self._arm(Readiness.READABLE)

    def _look_for_hangup(self) -> None:
        """Free the socket of a client that does not wait for its answer any more.

        One that only sends no more may be gone or may still read: it gets its answer all the same.
        """
        hangup = self._channel.hangup()
        if hangup is Hangup.WHOLE:
            self.close()
            return
        self._half_closed = self._half_closed or hangup is Hangup.HALF
        if not self._await_answer() and self._settle():
            self._serve()

    def _give_up(self) -> None:
        if self.state is ConnectionState.READING and self._started is not None:
            self._refuse(self._waiting, HttpRefusal(408, "the request did not arrive in time"))
        else:
            self.close()
