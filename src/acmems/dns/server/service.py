"""The sockets of the name server: UDP and TCP on every address, served by one thread."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from acmems.dns.server.answer import answer, truncated
from acmems.dns.server.rates import Rates, Verdict
from acmems.dns.server.zone import Zone
from acmems.net.address import Address
from acmems.system.clock import SYSTEM, Clock
from acmems.system.threads import Turns

_LONGEST_WAIT = 10.0  # seconds for which one turn waits for sockets
_LONGEST_TURN = 60.0  # seconds, the wait for sockets included
_PAUSE = 0.1  # seconds after a turn that failed; the next one may fail at once for the same reason
_IDLE = 5.0  # seconds that a TCP connection may be silent, or take for a message
_MOST_CONNECTIONS = 100
_MOST_BACKLOG = 65536  # octets of answers that a TCP client has not taken yet
_MOST_DATAGRAM = 4096
_AT_ONCE = 64  # datagrams taken from one socket before others have their turn


@dataclass(slots=True, eq=False)
class _Stream:
    """One TCP connection."""

    sock: socket.socket
    until: float
    received: bytearray = field(default_factory=bytearray)
    sending: bytearray = field(default_factory=bytearray)


class NameService:
    """Answers for one zone until it is closed.

    Args:
        name: what it is called in the log.
        zone: what it answers for.
        listeners: addresses to listen on, UDP and TCP.
        rate_limit: queries a second of one network that are answered in full over UDP.
        clock: for limits and idle connections.

    Raises:
        OSError: an address cannot be listened on; `filename` names it.
    """

    def __init__(
        self,
        name: str,
        zone: Zone,
        listeners: Sequence[Address],
        rate_limit: int,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self._zone = zone
        self._clock = clock
        self._rates = Rates(rate_limit, clock.monotonic)
        self._selector = selectors.DefaultSelector()
        self._streams: OrderedDict[_Stream, None] = OrderedDict()  # the longest silent first
        self._closing = False
        self._woken, self._wake = socket.socketpair()
        self._sockets = contextlib.ExitStack()
        for each in (self._woken, self._wake, self._selector):
            self._sockets.enter_context(contextlib.closing(each))
        self._selector.register(self._woken, selectors.EVENT_READ)
        self.addresses: tuple[Address, ...] = ()
        try:
            self.addresses = tuple(map(self._listen, listeners))
        except OSError:
            self._sockets.close()
            raise
        self._turns = Turns(name, longest=_LONGEST_TURN, clock=clock)
        self._thread = threading.Thread(target=self._run, name=f"acmems-{name}", daemon=True)
        self._thread.start()

    def is_healthy(self) -> bool:
        """Tell whether its thread lives and gets on."""
        return self._thread.is_alive() and not self._turns.is_stuck

    def close(self) -> None:
        """Stop answering, and close all sockets."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self._thread.join()

    def _listen(self, address: Address) -> Address:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        tcp = self._bound(socket.socket(family, socket.SOCK_STREAM), address)
        tcp.listen(128)
        taken = Address(address.host, tcp.getsockname()[1])
        udp = self._bound(socket.socket(family, socket.SOCK_DGRAM), taken)
        self._selector.register(tcp, selectors.EVENT_READ, self._accept)
        self._selector.register(udp, selectors.EVENT_READ, self._datagrams)
        return taken

    def _bound(self, sock: socket.socket, address: Address) -> socket.socket:
        self._sockets.callback(sock.close)
        sock.setblocking(False)
        if sock.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address.host, address.port))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(address)) from None
        return sock

    def _run(self) -> None:
        while not self._closing:
            # The CA must find an answer whatever one stranger did.
            if not self._turns.run(self._turn):
                self._clock.sleep(_PAUSE)
        for stream in list(self._streams):
            self._drop(stream)
        self._sockets.close()

    def _turn(self) -> None:
        pause = _LONGEST_WAIT
        now = self._clock.monotonic()
        for stream in list(self._streams):
            if stream.until > now:
                pause = min(stream.until - now, _LONGEST_WAIT)
                break
            self._drop(stream)
        for key, events in self._selector.select(pause):
            if key.fileobj is self._woken:
                return
            if isinstance(key.data, _Stream):
                self._serve(key.data, events)
            else:
                key.data(key.fileobj)

    def _datagrams(self, udp: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                query, client = udp.recvfrom(_MOST_DATAGRAM)
            except OSError:  # nothing more; or a client of before is unreachable
                return
            verdict = self._rates.take(client[0])
            if verdict is Verdict.DROP or client[1] == 0:
                continue
            reply = truncated(query) if verdict is Verdict.TRUNCATE else answer(query, self._zone)
            if reply is not None:
                with contextlib.suppress(OSError):
                    udp.sendto(reply, client)

    def _accept(self, tcp: socket.socket) -> None:
        try:
            sock, _ = tcp.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self._clock.sleep(0.05)  # the listener stays ready, and would be asked again at once
            return
        sock.setblocking(False)
        stream = _Stream(sock, self._clock.monotonic() + _IDLE)
        if len(self._streams) >= _MOST_CONNECTIONS:
            self._drop(next(iter(self._streams)))
        self._streams[stream] = None
        self._selector.register(sock, selectors.EVENT_READ, stream)

    def _serve(self, stream: _Stream, events: int) -> None:
        if stream not in self._streams:
            return  # dropped in this very turn
        try:
            if events & selectors.EVENT_READ:
                data = stream.sock.recv(65536)
                if not data:
                    self._drop(stream)
                    return
                stream.received += data
            self._answer(stream)
            while stream.sending:
                del stream.sending[: stream.sock.send(stream.sending)]
                if not stream.sending:  # room for the answers to what was asked meanwhile
                    self._answer(stream)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(stream)
            return
        wanted = selectors.EVENT_WRITE if stream.sending else selectors.EVENT_READ
        self._selector.modify(stream.sock, wanted, stream)

    def _answer(self, stream: _Stream) -> None:
        """Answer complete messages, each behind two octets of length (RFC 1035 section 4.2.2)."""
        while len(stream.received) >= 2 and len(stream.sending) < _MOST_BACKLOG:  # noqa: PLR2004 - the length
            size = int.from_bytes(stream.received[:2], "big")
            if len(stream.received) < 2 + size:
                return
            query = bytes(stream.received[2 : 2 + size])
            del stream.received[: 2 + size]
            # Only whole messages count: whoever sends octets one by one is silent.
            stream.until = self._clock.monotonic() + _IDLE
            self._streams.move_to_end(stream)
            reply = answer(query, self._zone, stream=True)
            if reply is not None:
                stream.sending += len(reply).to_bytes(2, "big") + reply

    def _drop(self, stream: _Stream) -> None:
        self._streams.pop(stream, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(stream.sock)
        stream.sock.close()
