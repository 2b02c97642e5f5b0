"""One connection of a client: its states, its deadlines, and the requests on it.

The listener's thread does everything here but give answers to requests, which may come from any thread at any
time. The lock is for that meeting alone, and is never held while the application runs.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acmems.exceptions import AcmeException, DeadlinePassed, HttpRefusal, PayloadToLarge
from acmems.net.address import IPNetwork
from acmems.net.http.exchange import Application, Exchange, Handling, HttpLimits
from acmems.net.http.forwarded import forwarded_for
from acmems.net.http.framing import Head, RequestReader
from acmems.net.http.states import TRANSITIONS, USES, ClientEnd, ConnectionEvent, ConnectionState, Ending
from acmems.net.http.unfinished import UnfinishedRequests
from acmems.net.listening import ClientSocket, Connection, Hangup, Host, Occupancy, Readiness
from acmems.net.tls import HandshakeError
from acmems.system.clock import Deadline

_log = logging.getLogger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SOON = {"Retry-After": "5"}
_RETRY_AFTER = 5.0  # seconds after which it is worth asking again for an answer that took too long


@dataclass(slots=True)
class _Arriving:
    """A request whose head is accepted and whose body may still be on its way."""

    exchange: Exchange
    handling: Handling
    head: Head


class HttpService:
    """HTTP/1.1 on the connections of a listener.

    Args:
        application: answers the requests.
        limits: how long clients and the application may take, or what returns how long they may now.
        trusted_proxies: whose `X-Forwarded-For` says for whom a request counts, or what returns whose does.

    Attributes:
        unfinished: what has come of requests that are not whole.
    """

    def __init__(
        self,
        application: Application,
        limits: HttpLimits | Callable[[], HttpLimits] | None = None,
        trusted_proxies: Sequence[IPNetwork] | Callable[[], Sequence[IPNetwork]] = (),
    ) -> None:
        self.application = application
        fixed = HttpLimits() if limits is None else limits
        self._limits = fixed if callable(fixed) else lambda: fixed
        proxies = trusted_proxies if callable(trusted_proxies) else tuple(trusted_proxies)
        self._proxies = proxies if callable(proxies) else lambda: proxies
        self.unfinished: UnfinishedRequests[HttpConnection] = UnfinishedRequests(
            lambda: self.limits.unfinished_bytes
        )

    @property
    def limits(self) -> HttpLimits:
        """How long clients and the application may take."""
        return self._limits()

    @property
    def trusted_proxies(self) -> Sequence[IPNetwork]:
        """Whose `X-Forwarded-For` says for whom a request counts."""
        return self._proxies()

    def connection(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> HttpConnection:
        """Return the server's end of a connection that was accepted."""
        return HttpConnection(host, channel, peer, self)


class HttpConnection(Connection):
    """The server's end of one connection.

    Args:
        host: the listener.
        channel: the client's bytes.
        peer: address and port of the client.
        service: what it shares with others.
    """

    __slots__ = (
        "_arriving",
        "_began",
        "_client_end",
        "_current",
        "_ending",
        "_is_behind",
        "_is_client_done",
        "_is_waiting",
        "_lock",
        "_reader",
        "_service",
        "state",
    )

    def __init__(
        self, host: Host, channel: ClientSocket, peer: tuple[str, int], service: HttpService
    ) -> None:
        super().__init__(host, channel, peer)
        self.state = ConnectionState.IDLE
        self.deadline = self.since + service.limits.arrival_seconds
        self._service = service
        self._reader = RequestReader(service.limits.head)
        self._client_end = ClientEnd.OPEN
        self._ending = Ending.KEEP  # after the current answer
        self._is_behind = False  # a request may be here already, and waits for its turn
        self._is_client_done = False  # it has said that it asks for nothing else
        self._began = self.since  # when the first byte of the request came
        self._arriving: _Arriving | None = None
        self._lock = threading.Lock()  # guards what follows, and sending
        self._current: Exchange | None = None  # the application has it
        self._is_waiting = False  # for an answer, which has to wake it

    def proceed(self) -> None:
        """Go on as far as is possible without waiting."""
        state = self.state
        if state is ConnectionState.IDLE or state is ConnectionState.READING:
            if self._is_behind:
                self._serve()
            else:
                self._receive()
        elif state is ConnectionState.ANSWERING:
            self._look()
        elif state is ConnectionState.WRITING:
            self._flush()
        else:
            self._discard()

    def expire(self) -> None:
        """End what took too long, with an answer where one is due."""
        exchange = self._current
        if self.state is ConnectionState.ANSWERING and exchange is not None:
            late = DeadlinePassed("no answer in time; ask again", retry_after=_RETRY_AFTER)
            self._deliver(exchange, self._refusal(exchange, late), close=True)
            self._look()
        elif self.state is ConnectionState.READING:
            self._refuse(self._unfinished, _late())
        else:
            self.close()

    def drop_request(self) -> None:
        """Refuse the request that is coming: too much is being sent by this address, and by all."""
        if self.state is not ConnectionState.READING:  # what was sent ahead of an answer
            self._reader.clear()
            self._ending = Ending.LINGER
            return
        busy = HttpRefusal(503, "too much is being sent to this server at once; ask again", _SOON)
        self._refuse(self._unfinished, busy)
        self.host.again(self)  # which has it watched for what it awaits now

    def give_way(self) -> None:
        """Close at once; whoever has begun to ask is told why, without waiting for it."""
        if self.state is ConnectionState.READING:
            self.channel.hint(self._refusal(self._unfinished, _late()))
        self.close()

    def is_overlooked(self) -> bool:
        """Tell whether bytes of a request have come that nobody has read yet."""
        return self.state is not ConnectionState.LINGERING and super().is_overlooked()

    def close(self) -> None:
        """Free the socket; an answer that comes later goes nowhere."""
        with self._lock:
            if self._current is not None:
                self._current.gone = True
            self._current = None
            self._is_waiting = False
        if self._service.unfinished.total:
            self._service.unfinished.forget(self)
        super().close()

    @property
    def _unfinished(self) -> Exchange | None:
        """The request whose head has come without its body."""
        return None if self._arriving is None else self._arriving.exchange

    def _advance(self, event: ConnectionEvent) -> None:
        self.state = TRANSITIONS[self.state][event]
        self.awaits, self.occupancy = USES[self.state]

    def _receive(self) -> None:
        data = self._arrived()
        if data is None or self.is_closed:
            return
        if not data:
            self._client_end = ClientEnd.FINISHED
        elif self.state is ConnectionState.IDLE:
            self._begin_to_read(self.host.clock.monotonic())
        self._reader.feed(data)
        self._serve()
        if not self._reader.empty and not self.is_closed:
            for connection in self._service.unfinished.note(self, self._reader.size):
                connection.drop_request()
        elif self._service.unfinished.total:
            self._service.unfinished.forget(self)

    def _arrived(self) -> bytes | None:
        """Return what has come, None for nothing; close what is broken."""
        try:
            data = self.channel.receive()
        except HandshakeError as error:
            self._refuse_handshake(error)
            return None
        except OSError:
            data = b""
            self.close()
        if data == b"" and self.occupancy is Occupancy.NEW:
            self.host.note_refusal(self)  # it has cost as much
        return data

    def _refuse_handshake(self, error: HandshakeError) -> None:
        """Tell whose client does not speak TLS as this server does; in plain HTTP where it speaks that."""
        refusal = HttpRefusal(400, str(error))
        if error.is_plain:
            self._begin_to_read(self.host.clock.monotonic())
            self._refuse(None, refusal)
            return
        self.host.note_refusal(self)
        self._refusal(None, refusal)  # for the operator: the client has got an alert
        self.close()

    def _begin_to_read(self, now: float) -> None:
        if self.occupancy is not Occupancy.NEW:
            self.since = now
        self._began = now
        self.deadline = now + self._service.limits.arrival_seconds
        self._advance(ConnectionEvent.BYTES)

    def _serve(self) -> None:
        """Serve a request that is here; the next one has its turn after everybody else's."""
        self._is_behind = False
        if self._complete() and self._run():
            self._serve_later()

    def _serve_later(self) -> None:
        self._is_behind = True
        self.host.again(self)

    def _complete(self) -> bool:
        """Tell whether a request is here, head and body; if not, wait for it or refuse it."""
        if self._arriving is None:
            try:
                head = self._reader.head()
            except HttpRefusal as refusal:
                self._refuse(None, refusal)
                return False
            if head is not None:
                self._arriving = self._begin(head)
                if self._arriving is None:
                    return False
        arriving = self._arriving
        try:
            body = None if arriving is None else self._body(arriving)
        except (HttpRefusal, PayloadToLarge) as refusal:
            self._refuse(self._unfinished, refusal)
            return False
        if arriving is None or body is None:
            if self._client_end is ClientEnd.FINISHED:
                self.close()
            return False
        arriving.exchange.body = body
        return True

    def _body(self, arriving: _Arriving) -> bytes | None:
        if arriving.head.is_chunked:
            return self._reader.chunked_body(arriving.handling.body_limit)
        return self._reader.body(arriving.head.length)

    def _begin(self, head: Head) -> _Arriving | None:
        """Ask the application whether it wants a request; None if it does not, and has been told so."""
        host, limits = self.host, self._service.limits
        is_kept = head.keep_alive and not host.is_awaited(self)
        self._is_client_done = not head.keep_alive
        exchange = Exchange(
            head.method,
            head.target,
            head.version,
            head.headers,
            self.peer,
            f"{random.getrandbits(32):08x}",
            Deadline(self._began + limits.request_seconds, host.clock.monotonic),
            lambda: is_kept and not host.is_draining,
            self._deliver,
            self._hand_over,
            head.is_chunked,
            self.channel.peer_certificate,
        )
        try:
            if self._service.trusted_proxies:
                self._count_for_client(head)
            handling = self._service.application.begin(exchange)
            if head.length > handling.body_limit:
                raise PayloadToLarge(head.length, handling.body_limit)  # noqa: TRY301 - answered like begin's own
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            self._refuse(exchange, error)
            return None
        if head.expects_continue and (head.length or head.is_chunked) and self._reader.empty:
            self.channel.hint(_CONTINUE)
        return _Arriving(exchange, handling, head)

    def _hand_over(self, step: Callable[[], None]) -> None:
        self.host.hand_over(self, step)

    def _count_for_client(self, head: Head) -> None:
        """Let a proxy's request count for whoever it comes from.

        Raises:
            HttpRefusal: there are too many of them already.
        """
        proxies = self._service.trusted_proxies
        client = forwarded_for(self.peer[0], head.headers.get_all("X-Forwarded-For", []), proxies)
        if client is not None and str(client) != self.peer[0] and not self.host.share(self, str(client)):
            raise HttpRefusal(503, "too many requests of this address are being answered; ask again", _SOON)

    def _run(self) -> bool:
        """Have the complete request answered; tell whether the next one may follow at once."""
        arriving, self._arriving = self._arriving, None
        if arriving is None:
            return False
        exchange = arriving.exchange
        self.deadline = exchange.deadline.at
        self._advance(ConnectionEvent.REQUEST)
        self._current = exchange
        try:
            arriving.handling.run()
        except Exception as error:  # noqa: BLE001 - whatever the application raises, the client gets an answer
            self._deliver(exchange, self._refusal(exchange, error), close=True)
        return self._is_answered() and self._settle()

    def _is_answered(self) -> bool:
        """Tell whether the application has answered; if not, its answer or a hangup is waited for."""
        with self._lock:
            if self._current is not None:
                if self._client_end is not ClientEnd.OPEN:
                    self._current.gone = True
                    self.awaits = Readiness.NOTHING
                self._is_waiting = True
                return False
        self._advance(ConnectionEvent.ANSWER)
        return True

    def _look(self) -> None:
        """Go on after an answer; free the socket of a client that does not wait for its answer any more.

        One that only sends no more may be gone or may still read: it gets its answer all the same.
        """
        if self._current is not None:
            hangup = self.channel.hangup()
            if hangup is Hangup.WHOLE:
                self.close()
                return
            if hangup is Hangup.HALF and self._client_end is ClientEnd.OPEN:
                self._client_end = ClientEnd.FINISHING
        if self._is_answered() and self._settle():
            self._serve_later()

    def _deliver(self, exchange: Exchange, data: bytes, close: bool) -> None:
        """Send an answer; the one method that any thread may call."""
        with self._lock:
            if self._current is not exchange:
                return
            self._current = None
            if exchange.is_refusal:
                self.host.note_refusal(self)
            # Where the listener has begun to drain since the answer was made, that says that it is kept.
            if close or not exchange.keep_alive:
                is_at_once = self._is_client_done or self.host.is_awaited(self)
                self._ending = Ending.CLOSE if is_at_once else Ending.LINGER
            self._send(data)
            is_waiting, self._is_waiting = self._is_waiting, False
        if is_waiting:
            self.host.wake(self)

    def _refuse(self, exchange: Exchange | None, error: Exception) -> None:
        """Answer an error before the request was read to its end; after it there is nothing to go on with."""
        self.host.note_refusal(self)
        self._ending = Ending.LINGER
        self._arriving = None
        self._advance(ConnectionEvent.REFUSAL)
        self._send(self._refusal(exchange, error))
        self._reader.clear()
        self._service.unfinished.forget(self)
        self._settle()

    def _refusal(self, exchange: Exchange | None, error: Exception) -> bytes:
        if not isinstance(error, AcmeException):
            reference = exchange.reference if exchange else "without a request"
            _log.error("a bug, reference %s", reference, exc_info=error)
        try:
            return self._service.application.refuse(exchange, error, self.peer[0])
        except Exception:  # noqa: BLE001 - logged, and the connection closes without an answer
            _log.exception("a bug: an error could not be answered")
            return b""

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # where the client is gone, reading will tell
            self.channel.send(data)

    def _flush(self) -> None:
        try:
            self.channel.flush()
        except OSError:
            self.close()
            return
        if not self.channel.pending and self._settle():
            self._serve_later()

    def _settle(self) -> bool:
        """Do what follows an answer; tell whether more of the client's bytes are here."""
        now, limits = self.host.clock.monotonic(), self._service.limits
        if self.channel.pending:
            self.since = now
            self.occupancy = Occupancy.UNREAD
            self.deadline = now + limits.write_seconds
        elif self._ending is Ending.LINGER:
            self._linger(now)
        elif self._ending is Ending.CLOSE or (self._reader.empty and self._client_end is ClientEnd.FINISHED):
            self.close()
        else:
            self.since = now
            self.deadline = now + limits.idle_seconds
            if self._service.trusted_proxies:
                self.host.share(self, None)
            self._advance(ConnectionEvent.TAKEN)
            if not self._reader.empty:
                self._begin_to_read(now)
                return True
        return False

    def _linger(self, now: float) -> None:
        """Let the client read its answer: closing while it sends would reset the connection under it."""
        try:
            self.channel.finish()
        except OSError:
            self.close()
            return
        self.since = now
        self.deadline = now + self._service.limits.linger_seconds
        self._advance(ConnectionEvent.LAST_TAKEN)
        self._discard()

    def _discard(self) -> None:
        try:
            gone = self.channel.receive() == b""
        except OSError:
            gone = True
        if gone:
            self.close()


def _late() -> HttpRefusal:
    return HttpRefusal(408, "the request did not arrive in time")
