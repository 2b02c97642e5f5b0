"""One HTTPS connection to a CA, made when needed, with absolute limits in time and size."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping

from acmems.issuers.acme.session import sockets
from acmems.issuers.acme.session.origin import Origin, target
from acmems.issuers.acme.session.proxy import Proxy, open_tunnel
from acmems.issuers.acme.session.reading import BrokenResponse, ResponseReader
from acmems.issuers.acme.session.responses import Response
from acmems.system.clock import Deadline
from acmems.system.openssl import words_of
from acmems.system.steps import StepLoop, Steps, Watched
from acmems.text import one_line

_IDLE = 30.0
"""Seconds after which a kept connection is not trusted any more: servers close theirs about then, and the
fate of a request on a connection that is just being closed is unknown."""
_NO_TLS = frozenset({"wrong version number", "record layer failure", "http request"})
"""What OpenSSL says of an answer that is no TLS, such as plain HTTP."""
_BROKEN = (BrokenResponse, OSError)  # TimeoutError and ssl.SSLError are OSErrors


class Failure(Exception):
    """A request without a usable response.

    Args:
        message: what happened, one line.
        sent: whether the CA may have received the request.
        final: whether trying again cannot help.
        retry_after: seconds after which the CA wants to be asked again, None if it did not say.
        is_internal: whether the ACME server itself has answered that it failed.

    Attributes:
        kind: what was asked for, where it was not what the caller wants, None where it was.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool,
        final: bool = False,
        retry_after: float | None = None,
        is_internal: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind: str | None = None
        self.sent = sent
        self.final = final
        self.retry_after = retry_after
        self.is_internal = is_internal


class CAConnection:
    """One connection, made anew when it is broken; for one request at a time.

    Args:
        origin: the CA.
        context: makes its TLS.
        proxy: what to connect through, None for nothing.
        addresses: sorts those of the CA, or of the proxy.
        try_limit: seconds that one request may take from its first byte to the last byte of the response,
            however slowly that drips.
        loop: runs the steps.
    """

    def __init__(
        self,
        origin: Origin,
        context: ssl.SSLContext,
        proxy: Proxy | None,
        *,
        addresses: sockets.Addresses,
        try_limit: float,
        loop: StepLoop,
    ) -> None:
        self._origin = origin
        self._context = context
        self._proxy = proxy
        self._addresses = addresses
        self._try_limit = try_limit
        self._loop = loop
        self._socket: socket.socket | None = None
        self._watched: Watched | None = None
        self._race: sockets.Race | None = None  # while it connects
        self._used_at = 0.0
        self._is_aborted = False

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return self._socket is not None

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: Deadline,
        max_size: int,
    ) -> Steps[Response]:
        """Send one request and return the response, whatever its status.

        Args:
            method: the HTTP method.
            url: a URL of this origin, already checked.
            headers: header fields to send.
            body: the body to send.
            deadline: when to give up.
            max_size: bytes that the response's body may have.

        Raises:
            Failure: there is no response.
            CAProtocolError: the response is too large, or encoded although we asked for it plain.
        """
        limit = deadline.within(self._try_limit)
        sent = False
        try:
            sock, watched = yield from self._connected(limit)
            self._refuse_if_over(limit)
            sent = True
            yield from sockets.send(
                sock, watched, _head(method, url, self._origin, headers, body) + (body or b""), limit
            )
            reader = ResponseReader(url, max_size, bodiless=method == "HEAD")
            while not reader.complete:
                reader.feed((yield from sockets.receive(sock, watched, limit)))
        except BaseException as error:
            self.close()  # whatever is left of this response must not become the next one's
            if isinstance(error, _BROKEN):
                failure = (
                    _stopping(sent=sent) if self._is_aborted else _failure(error, self._origin, sent=sent)
                )
                raise failure from error
            raise
        if reader.keeps:
            # Whatever comes from here on makes an edge of its own, so that nobody need try to read.
            watched.readable = watched.over or sockets.pending(sock) or sockets.has_bytes(sock)
        else:
            self.close()
        self._used_at = self._loop.clock.monotonic()
        return reader.response()

    def forbid(self) -> None:
        """Refuse every later request. For any thread."""
        self._is_aborted = True

    def abort(self) -> None:
        """End what is going on here, and refuse whatever comes after it."""
        self.forbid()
        if self._race is not None:
            self._race.abort()
        if self._socket is not None:
            # Not `close`: the steps that wait for it are to see its end first. And not the method of a TLS
            # socket: that would forget its TLS, which those steps are in the middle of.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._watched is not None:
            self._loop.unwatch(self._watched)
            self._watched = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _refuse_if_over(self, limit: Deadline) -> None:
        if self._is_aborted:
            raise _stopping(sent=False)
        if limit.passed:
            raise TimeoutError("timed out")

    def _connected(self, limit: Deadline) -> Steps[tuple[socket.socket, Watched]]:
        sock, watched = self._socket, self._watched
        if sock is not None and watched is not None:
            fresh = self._loop.clock.monotonic() - self._used_at < _IDLE
            if fresh and not watched.over and sockets.is_silent(sock, watched):
                return sock, watched
        self.close()
        self._refuse_if_over(limit)
        return (yield from self._connect(limit))

    def _connect(self, limit: Deadline) -> Steps[tuple[socket.socket, Watched]]:
        host, port = self._origin.host, self._origin.port
        if self._proxy is not None:
            host, port = self._proxy.host, self._proxy.port
        found = yield from sockets.addresses_of(host, port)
        self._refuse_if_over(limit)
        race = self._race = sockets.Race(self._loop, self._connect_to, limit)
        try:
            lane, place = yield from race.run(self._addresses.sort(found))
        finally:
            self._race = None
        self._socket, self._watched = lane.socket, lane.watched
        self._addresses.note(place)
        if self._socket is None or self._watched is None:
            raise ConnectionAbortedError("the connection was ended")
        return self._socket, self._watched

    def _connect_to(self, lane: sockets.Lane, place: sockets.Place, limit: Deadline) -> Steps[None]:
        sock, watched = yield from lane.connect(place, limit)
        if self._proxy is not None:
            yield from open_tunnel(sock, watched, self._proxy, self._origin, limit)
        # An end that TLS did not announce is a broken connection, not the end of a response.
        wrapped = self._context.wrap_socket(
            sock,
            server_hostname=self._origin.host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        lane.socket = wrapped
        yield from sockets.handshake(wrapped, watched, limit)


def _head(method: str, url: str, origin: Origin, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return what stands before the body of a request."""
    lines = [f"{method} {target(url)} HTTP/1.1", f"Host: {origin.authority}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _stopping(*, sent: bool) -> Failure:
    return Failure("this server is stopping", sent=sent, final=True)


def _reason(words: str) -> str:
    """Say what it means on the way to the CA what OpenSSL says."""
    if words.startswith("unexpected eof"):  # an `ssl.SSLEOFError`, or not, as OpenSSL and Python are made
        return "the connection broke"
    return f"no TLS is spoken at this port ({words})" if words in _NO_TLS else f"TLS failed: {words}"


def _failure(error: BaseException, origin: Origin, *, sent: bool) -> Failure:
    """Say in one line what went wrong on the way to the CA."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted: {error.verify_message} (see 'ca-file' in [account])"
    elif isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, ssl.SSLError):
        reason = _reason(words_of(error))
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = str(error) or type(error).__name__
    final = isinstance(error, ssl.SSLCertVerificationError)
    return Failure(f"the CA at {origin}: {one_line(reason, 200)}", sent=sent, final=final)
