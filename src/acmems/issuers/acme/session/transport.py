"""HTTPS to one CA: a few kept connections, absolute limits in time and size, nothing repeated.

What may be sent again is decided in `retries`; here every request is made once, and a failure tells whether
the CA can have seen it.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import urllib3
from urllib3.connection import HTTPSConnection

from acmems.exceptions import DeadlinePassed
from acmems.issuers.acme.session.answers import Response
from acmems.issuers.acme.session.origin import Origin, target
from acmems.issuers.acme.session.reading import AnswerReader, BrokenAnswer
from acmems.system.clock import Deadline
from acmems.text import one_line

_IDLE = 30.0
"""Seconds after which a kept connection is not trusted any more: servers close theirs about then, and a
request on a connection that is just being closed is one whose fate nobody knows."""
_CONNECT = 10.0
"""Seconds that connecting to one of the CA's addresses may take."""
_CHUNK = 64 * 1024
_BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, BrokenAnswer, OSError)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Failure(Exception):
    """A request without a usable answer.

    Args:
        message: what happened, one line.
        sent: whether the CA may have received the request.
        final: whether trying again cannot help.
        retry_after: seconds after which the CA wants to be asked again, None if it did not say.
    """

    def __init__(
        self, message: str, *, sent: bool, final: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.final = final
        self.retry_after = retry_after


class Transport:
    """At most so many connections to one origin, each used by one thread at a time.

    A few of them keep a CA busy that answers soon: more would only queue there what can queue here, and
    there are CAs that this brings down (Pebble 2.10 locks itself up). All of them are used while answers
    take long, because then it is the distance that has to be filled.

    Args:
        origin: the CA.
        ca_file: PEM file with trust anchors beside those of the system.
        connections: how many connections there are at most.
        try_limit: seconds that one request may take from first byte sent to last byte received,
            however slowly they drip.
        monotonic: the clock, in seconds.

    Raises:
        ValueError: the file of trust anchors cannot be used.
    """

    FEW = 4
    LONG = 0.1  # seconds; four connections to a CA that answers sooner make forty requests a second
    _LONGEST = 1.0  # seconds: what longer ones say more is no news
    _WEIGHT = 0.05  # of one answer in the average

    def __init__(
        self,
        origin: Origin,
        *,
        ca_file: Path | None = None,
        connections: int = 16,
        try_limit: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        context = _tls_context(ca_file)
        proxy = _proxy_for(origin)
        self._channels = tuple(
            CAConnection(origin, context, proxy, try_limit, monotonic) for _ in range(connections)
        )
        self._monotonic = monotonic
        self._changed = threading.Condition()  # guards what follows
        self._free = list(self._channels)  # the last one was used last: few stay warm, others are never made
        self._average = 0.0  # seconds that a connection is held

    @contextlib.contextmanager
    def channel(self, deadline: Deadline) -> Iterator[CAConnection]:
        """Hold one connection, waiting for a free one if need be.

        Args:
            deadline: when waiting is over.

        Raises:
            DeadlinePassed: no connection became free in time.
        """
        with self._changed:
            patience = min(deadline.remaining, threading.TIMEOUT_MAX)
            if not self._changed.wait_for(self._has_room, patience):
                raise DeadlinePassed("all connections to the CA were busy until the deadline")
            channel = self._free.pop()
            if self._has_room():
                self._changed.notify()
        since = self._monotonic()
        try:
            yield channel
        finally:
            held = min(self._monotonic() - since, self._LONGEST)
            with self._changed:
                self._average += self._WEIGHT * (held - self._average)
                self._free.append(channel)
                self._changed.notify()

    def _has_room(self) -> bool:
        """Tell whether one more request helps."""
        used = len(self._channels) - len(self._free)
        return bool(self._free) and (used < self.FEW or self._average > self.LONG)

    def close(self) -> None:
        """End every exchange now, with a `Failure`, and begin no other."""
        for channel in self._channels:
            channel.abort()


class CAConnection:
    """One connection that is made when needed and made anew when broken; for one thread at a time."""

    def __init__(
        self,
        origin: Origin,
        context: ssl.SSLContext,
        proxy: urllib3.util.Url | None,
        try_limit: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._origin = origin
        self._context = context
        self._proxy = proxy
        self._try_limit = try_limit
        self._monotonic = monotonic
        self._connection: HTTPSConnection | None = None
        self._used_at = 0.0
        self._aborted = False

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: Deadline,
        max_size: int,
    ) -> Response:
        """Send one request and return its answer, whatever its status.

        Args:
            method: the HTTP method.
            url: a URL of this origin, already checked.
            headers: header fields to send.
            body: the body to send.
            deadline: when to give up.
            max_size: bytes that the answer's body may have.

        Raises:
            Failure: there is no answer.
            CAProtocolError: the answer is too large, or encoded although we asked for it plain.
        """
        limit = deadline.within(self._try_limit)
        sent = False
        try:
            self._refuse_if_aborted()
            connection = self._connected(limit)
            self._refuse_if_aborted()
            sent = True
            sock = connection.sock
            sock.settimeout(_seconds(limit))
            sock.sendall(_head(method, url, self._origin, headers, body) + (body or b""))
            sock.settimeout(_seconds(limit))
            reader = AnswerReader(url, max_size, bodiless=method == "HEAD")
            while not reader.complete:
                reader.feed(sock.recv(_CHUNK))
        except BaseException as error:
            self.close()  # whatever is left of this answer must not become the next one's
            if isinstance(error, _BROKEN):
                raise _failure(error, self._origin, sent=sent) from error
            raise
        if not reader.keeps:
            self.close()
        self._used_at = self._monotonic()
        return reader.answer()

    def abort(self) -> None:
        """End what is going on here, from any thread, and refuse whatever comes after it."""
        self._aborted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            # Not `close`: the number of the socket could be another's while a thread still reads from it.
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _refuse_if_aborted(self) -> None:
        if self._aborted:
            raise Failure("this server is stopping", sent=False, final=True)

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self, limit: Deadline) -> HTTPSConnection:
        kept = self._connection
        if kept is not None and kept.is_connected and self._monotonic() - self._used_at < _IDLE:
            return kept
        self.close()
        host, port = self._origin.host, self._origin.port
        if self._proxy is None:
            made = HTTPSConnection(host, port, ssl_context=self._context)
        else:
            made = HTTPSConnection(
                self._proxy.host or "", self._proxy.port, proxy=self._proxy, ssl_context=self._context
            )
            made.set_tunnel(host, port, headers=_proxy_credentials(self._proxy))
        made.timeout = min(_CONNECT, _seconds(limit))
        self._connection = made
        made.connect()
        # An end that TLS did not announce is a broken connection, not the end of an answer.
        made.sock.suppress_ragged_eofs = False  # type: ignore[union-attr] # the stubs do not know it
        return made


class _BudgetSocket(ssl.SSLSocket):
    """A TLS socket whose timeout is for everything until it is set anew, not for each system call.

    Without it a CA that sends a byte every few seconds holds a thread for days.
    """

    _until: float | None = None

    def settimeout(self, value: float | None) -> None:
        super().settimeout(value)
        self._until = None if value is None else time.monotonic() + value

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        if self._until is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            super().settimeout(left)
        return super().recv(buflen, flags)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.sslsocket_class = _BudgetSocket
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one, too
            raise ValueError(f"{ca_file}: no PEM certificates can be read from it ({error})") from error
    return context


def _head(method: str, url: str, origin: Origin, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return what stands before the body of a request."""
    fields = {"Host": origin.authority, "Accept-Encoding": "identity", **headers}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target(url)} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _seconds(limit: Deadline) -> float:
    """Return what is left as a socket timeout, for which zero would mean something else."""
    remaining = limit.remaining
    if remaining <= 0:
        raise TimeoutError("timed out")
    return min(remaining, threading.TIMEOUT_MAX)


def _failure(error: BaseException, origin: Origin, *, sent: bool) -> Failure:
    """Say in one line what went wrong on the way to the CA."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or next((a for a in cause.args if isinstance(a, BaseException)), None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted: {cause.verify_message} (see 'ca-file' in [account])"
    elif isinstance(cause, TimeoutError):
        reason = "no answer in time"
    elif isinstance(cause, ssl.SSLEOFError):
        reason = "the connection broke"
    elif isinstance(cause, OSError):
        reason = cause.strerror or str(cause)
    else:
        reason = str(error) or type(error).__name__
    final = isinstance(cause, ssl.SSLCertVerificationError)
    return Failure(f"the CA at {origin}: {one_line(reason, 200)}", sent=sent, final=final)


def _proxy_for(origin: Origin) -> urllib3.util.Url | None:
    """Return the HTTP proxy that the environment names for a CA (https_proxy, no_proxy)."""
    proxy = urllib.request.getproxies().get("https")
    if not proxy or origin.host in _LOOPBACK or urllib.request.proxy_bypass(origin.host):
        return None
    url = urllib3.util.parse_url(proxy)
    if url.scheme not in (None, "http") or not url.host:
        raise ValueError("https_proxy must be an http:// URL")
    return url


def _proxy_credentials(proxy: urllib3.util.Url) -> dict[str, str]:
    if proxy.auth is None:
        return {}
    return urllib3.util.make_headers(proxy_basic_auth=urllib.parse.unquote(proxy.auth))
