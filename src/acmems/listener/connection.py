"""One connection of a client: its states, its deadlines, and the requests on it.

At any time at most one thread owns a connection: it claimed it, and gives it back by arming it in
the epoll object (one shot) or by closing it. Only the answer to a request may come from elsewhere,
at any time; the lock is for that meeting alone, and is never held while the application runs.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import secrets
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from acmems.clock import Clock, Deadline
from acmems.exceptions import AcmeException, DeadlinePassed, HttpRefusal, PayloadToLarge
from acmems.listener.exchange import Application, Exchange, Limits
from acmems.listener.framing import Head, RequestReader

_log = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RETRY_AFTER = 5.0  # seconds after which it is worth asking again for an answer that took too long

# What epoll waits for. That a client is gone altogether (EPOLLHUP, EPOLLERR) it tells without being asked.
_READABLE = select.EPOLLIN
_WRITABLE = select.EPOLLOUT
_AT_ONCE = select.EPOLLIN | select.EPOLLOUT
_HANGUP = select.EPOLLRDHUP
_NOTHING = 0


class State(enum.Enum):
    """What a connection waits for."""

    READING = "a request"
    ANSWERING = "the application"
    WRITING = "the client to take an answer"
    LINGERING = "a refused client to stop sending"


@dataclass(slots=True)
class Service:
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
    limits: Limits
    clock: Clock
    epoll: select.epoll
    on_close: Callable[[], None]
    open: dict[int, Connection] = field(default_factory=dict)
    draining: bool = False


class Connection:
    """The server's end of one TCP connection; created by the thread that accepted it, which owns it.

    Args:
        service: what it shares with others.
        sock: the connected socket.
        address: the client's address and port.
    """

    __slots__ = (
        "_armed",
        "_closing",
        "_current",
        "_fd",
        "_length",
        "_lingers",
        "_lock",
        "_out",
        "_owned",
        "_reader",
        "_service",
        "_socket",
        "_started",
        "_waiting",
        "address",
        "deadline",
        "half_closed",
        "since",
        "state",
    )

    def __init__(self, service: Service, sock: socket.socket, address: tuple[str, int]) -> None:
        self.address = address
        self.state = State.READING
        self.since = service.clock.monotonic()
        self.deadline = self.since + service.limits.arrival_seconds
        self.half_closed = False  # the client sends no more; it may still read
        self._service = service
        self._socket = sock
        self._fd = sock.fileno()
        self._reader = RequestReader(service.limits.head)
        self._lock = threading.Lock()
        self._owned = True  # and a closed one stays owned for ever
        self._armed = False  # whether epoll knows the socket
        self._started: float | None = None  # when the first byte of the request came
        self._waiting: Exchange | None = None  # its head is here, its body is not
        self._length = 0  # of that body
        self._current: Exchange | None = None  # the application has it
        self._out: memoryview | None = None  # what of an answer the client has not taken yet
        self._closing = False  # after the answer
        self._lingers = False  # before closing
        service.open[self._fd] = self

    @property
    def unproductive(self) -> bool:
        """Whether it holds a place without a complete request."""
        return self.state is State.READING or self.state is State.LINGERING

    def start(self) -> None:
        """Read what came with the connection; for the thread that accepted it."""
        self._receive()

    def wake(self) -> None:
        """Go on, because epoll said so."""
        with self._lock:
            if self._owned:  # an event of an earlier connection with this number; the owner will look
                return
            self._owned = True
        if self.state is State.READING:
            self._receive()
        elif self.state is State.ANSWERING:
            self._look_for_hangup()
        elif self.state is State.WRITING:
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
        if self.state is State.ANSWERING:
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
            if self._owned or not (self.unproductive or self.half_closed) or self._has_unread():
                return
            self._owned = True
        self._give_up()

    def _has_unread(self) -> bool:
        """Tell whether its first bytes are here and no thread has come to read them.

        That is this server being late, not the client.
        """
        if self.state is not State.READING or self._started is not None:
            return False
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def retire(self) -> None:
        """Close this connection if nothing is going on there."""
        with self._lock:
            if self._owned or self.state is not State.READING or self._started is not None:
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
        self._service.open.pop(self._fd, None)  # before its number can be another's
        with contextlib.suppress(OSError):
            self._socket.close()
        self._service.on_close()

    # From here on, only the owner calls.

    def _arm(self, events: int) -> None:
        """Give the connection back until one of these events."""
        with self._lock:
            self._arm_locked(events)

    def _arm_locked(self, events: int) -> None:
        self._owned = False
        if self._armed:
            self._service.epoll.modify(self._fd, events | select.EPOLLONESHOT)
        else:
            self._armed = True
            self._service.epoll.register(self._fd, events | select.EPOLLONESHOT)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        else:
            if not data:
                self.half_closed = True
            elif self._started is None:
                self._started = self._service.clock.monotonic()
                self.deadline = self._started + self._service.limits.arrival_seconds
            self._reader.feed(data)
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
            secrets.token_hex(4),
            Deadline(arrived + service.limits.request_seconds, service.clock.monotonic),
            head.keep_alive and not service.draining,
            self._deliver,
        )
        try:
            allowed = service.application.begin(exchange)
            if head.length > allowed:
                raise PayloadToLarge(head.length, allowed)  # noqa: TRY301 - answered like begin's own
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            self._refuse(exchange, error)
            return False
        self._waiting = exchange
        self._length = head.length
        if head.expects_continue and head.length and self._reader.empty:
            with contextlib.suppress(OSError):  # if it can not be sent, reading will tell
                self._socket.send(_CONTINUE, socket.MSG_DONTWAIT)
        return True

    def _wait_for_more(self) -> None:
        if self.half_closed:
            self.close()
        else:
            self._arm(_READABLE)

    def _run(self) -> bool:
        """Have the complete request answered; tell whether the next one may follow at once."""
        exchange, self._waiting = self._waiting, None
        if exchange is None:
            return False
        self.deadline = exchange.deadline.at
        self.state = State.ANSWERING
        self._current = exchange
        try:
            self._service.application.run(exchange)
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            self._deliver(exchange, self._refusal(exchange, error), close=True)
        with self._lock:
            if self._current is exchange:  # the answer comes later
                self._arm_locked(_NOTHING if self.half_closed else _HANGUP)
                return False
        return self._settle()

    def _deliver(self, exchange: Exchange, data: bytes, close: bool) -> None:
        """Send an answer; the one method that any thread may call, owner or not."""
        with self._lock:
            if self._current is not exchange:
                return
            self._current = None
            self._lingers = close and exchange.keep_alive  # otherwise the client itself said that it is done
            self._closing = close or not exchange.keep_alive or self._service.draining
            self._send(data)
            if self._owned:
                return  # by the thread in `run`, which goes on from there
            self._owned = True
        if self._settle():
            # What the client sent ahead is for a thread that serves connections, not for this one.
            self._arm(_READABLE if self._reader.empty else _AT_ONCE)

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
            return self._service.application.refuse(exchange, error)
        except Exception:  # noqa: BLE001 - logged, and the connection closes without an answer
            _log.exception("a bug: an error could not be answered")
            return b""

    def _send(self, data: bytes) -> None:
        """Send what the client takes at once, keep the rest."""
        try:
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone
            self._closing, self._lingers, self._out = True, False, None
            return
        self._out = memoryview(data)[sent:] if sent < len(data) else None

    def _flush(self) -> None:
        if self._out is not None:
            self._send(self._out.tobytes())
        if self._out is not None:
            self._arm(_WRITABLE)
        elif self._settle():
            self._serve()

    def _settle(self) -> bool:
        """Do what follows an answer; tell whether that is the next request."""
        now, limits = self._service.clock.monotonic(), self._service.limits
        if self._out is not None:
            self.state = State.WRITING
            self.deadline = now + limits.write_seconds
            self._arm(_WRITABLE)
            return False
        if self._closing:
            self._linger(now) if self._lingers else self.close()
            return False
        self.since = now
        self._started = None if self._reader.empty else now
        self.deadline = now + (limits.idle_seconds if self._reader.empty else limits.arrival_seconds)
        self.state = State.READING
        return True

    def _linger(self, now: float) -> None:
        """Let the client read its answer: closing while it sends would reset the connection under it.

        RFC 9112 section 9.6.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.since = now
        self.deadline = now + self._service.limits.linger_seconds
        self.state = State.LINGERING
        self._discard()

    def _discard(self) -> None:
        try:
            gone = not self._socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            gone = False
        except OSError:
            gone = True
        self.close() if gone else self._arm(_READABLE)

    def _look_for_hangup(self) -> None:
        """Free the socket of a client that does not wait for its answer any more.

        Asks again, because what epoll said may have been about an earlier connection of this number.
        A client that only sends no more still gets its answer; it goes first when room is needed.
        """
        poller = select.poll()
        poller.register(self._fd, select.POLLRDHUP)
        events = sum(event for _, event in poller.poll(0))
        if events & (select.POLLHUP | select.POLLERR):
            self.close()
            return
        self.half_closed = self.half_closed or bool(events & select.POLLRDHUP)
        self._arm_again()

    def _arm_again(self) -> None:
        with self._lock:
            if self._current is None:  # it was answered while this thread looked
                pass
            self._arm_locked(_NOTHING if self.half_closed else _HANGUP)

    def _give_up(self) -> None:
        if self.state is State.READING and self._started is not None and not self.half_closed:
            self._refuse(self._waiting, HttpRefusal(408, "the request did not arrive in time"))
        else:
            self.close()
