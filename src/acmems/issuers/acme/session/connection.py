"""One HTTPS connection to a CA, made when needed, with absolute limits in time and size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import ssl
import termios
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acmems.issuers.acme.session.origin import Origin, target
from acmems.issuers.acme.session.reading import BrokenResponse, ResponseReader
from acmems.issuers.acme.session.responses import Response
from acmems.system.clock import Deadline
from acmems.system.steps import StepLoop, Steps, Watched, in_thread
from acmems.text import Secret, one_line

_IDLE = 30.0
"""Seconds after which a kept connection is not trusted any more: servers close theirs about then, and the
fate of a request on a connection that is just being closed is unknown."""
_CONNECT = 10.0  # seconds that connecting to one of the CA's addresses may take
_CHUNK = 64 * 1024
_NO_BYTES = bytes(4)  # the C int 0
_LONGEST_TUNNEL_HEAD = 16 * 1024
_TUNNEL_OPENED = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9][ \r]")
_BROKEN = (BrokenResponse, OSError)  # TimeoutError and ssl.SSLError are OSErrors
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Failure(Exception):
    """A request without a usable response.

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


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy on the way to the CA.

    Args:
        host: its name or address.
        port: its TCP port.
        credentials: what `Proxy-Authorization` says, None where it wants none.
    """

    host: str
    port: int
    credentials: Secret | None = None


class CAConnection:
    """One connection, made anew when it is broken; for one request at a time.

    Args:
        origin: the CA.
        context: makes its TLS.
        proxy: what to connect through, None for nothing.
        try_limit: seconds that one request may take from its first byte to the last byte of the response,
            however slowly that drips.
        loop: runs the steps.
    """

    def __init__(
        self,
        origin: Origin,
        context: ssl.SSLContext,
        proxy: Proxy | None,
        try_limit: float,
        loop: StepLoop,
    ) -> None:
        self._origin = origin
        self._context = context
        self._proxy = proxy
        self._try_limit = try_limit
        self._loop = loop
        self._socket: socket.socket | None = None
        self._watched: Watched | None = None
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
            yield from _send(
                sock, watched, _head(method, url, self._origin, headers, body) + (body or b""), limit
            )
            reader = ResponseReader(url, max_size, bodiless=method == "HEAD")
            while not reader.complete:
                reader.feed((yield from _receive(sock, watched, limit)))
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
            watched.readable = watched.over or _pending(sock) or _has_bytes(sock)
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
            if fresh and not watched.over and _is_silent(sock, watched):
                return sock, watched
        self.close()
        self._refuse_if_over(limit)
        yield from self._connect(limit)
        if self._socket is None or self._watched is None:  # aborted meanwhile
            raise ConnectionAbortedError("the connection was ended")
        return self._socket, self._watched

    def _connect(self, limit: Deadline) -> Steps[None]:
        host, port = self._origin.host, self._origin.port
        if self._proxy is not None:
            host, port = self._proxy.host, self._proxy.port
        error: OSError | None = None
        for family, address in (yield from _addresses(host, port)):
            self._refuse_if_over(limit)
            try:
                yield from self._connect_to(family, address, limit.within(_CONNECT))
            except OSError as failed:
                self.close()
                error = failed
                if isinstance(failed, ssl.SSLCertVerificationError):
                    raise
            else:
                return
        raise error or OSError("its name has no address")

    def _connect_to(self, family: int, address: tuple[str, int], limit: Deadline) -> Steps[None]:
        sock: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket = sock
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            sock.connect(address)
        # Only now: a socket that does not even connect counts as one whose end has come.
        watched = self._watched = self._loop.watch(sock.fileno())
        if not (yield watched.until_writable(limit)):
            raise TimeoutError("timed out")
        if failed := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(failed, os.strerror(failed))
        if self._proxy is not None:
            yield from _open_tunnel(sock, watched, self._proxy, self._origin, limit)
        # An end that TLS did not announce is a broken connection, not the end of a response.
        wrapped = self._context.wrap_socket(
            sock,
            server_hostname=self._origin.host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._socket = wrapped
        yield from _handshake(wrapped, watched, limit)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what makes TLS with a CA.

    Args:
        ca_file: PEM file with trust anchors beside those of the system.

    Raises:
        ValueError: the file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one, too
            raise ValueError(f"{ca_file}: no PEM certificates can be read from it ({error})") from error
    return context


def proxy_for(origin: Origin) -> Proxy | None:
    """Return the HTTP proxy that the environment names for a CA (https_proxy, no_proxy).

    Raises:
        ValueError: it names something else.
    """
    named = urllib.request.getproxies().get("https")
    if not named or origin.host in _LOOPBACK or urllib.request.proxy_bypass(origin.host):
        return None
    unusable = ValueError("https_proxy must be an http:// URL")
    try:
        url = urllib.parse.urlsplit(named if "://" in named else f"http://{named}")
        port = url.port or 80
    except ValueError:  # a broken address or port
        raise unusable from None
    if url.scheme != "http" or not url.hostname:
        raise unusable
    credentials = None
    if url.username is not None:
        user, password = urllib.parse.unquote(url.username), urllib.parse.unquote(url.password or "")
        credentials = Secret("Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii"))
    return Proxy(url.hostname, port, credentials)


def _addresses(host: str, port: int) -> Steps[list[tuple[int, tuple[str, int]]]]:
    """Return the addresses of a host; names are looked up in a thread, because that blocks."""

    def look_up(flags: int) -> list[tuple[int, tuple[str, int]]]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
        return [(family, (str(place[0]), int(place[1]))) for family, _, _, _, place in found]

    try:
        return look_up(socket.AI_NUMERICHOST)
    except socket.gaierror:
        return (yield from in_thread(lambda: look_up(0)))
    except UnicodeError:
        raise OSError(f"{host} is no host name") from None


def _open_tunnel(
    sock: socket.socket, watched: Watched, proxy: Proxy, origin: Origin, limit: Deadline
) -> Steps[None]:
    """Have a proxy connect to the CA (RFC 9110 section 9.3.6)."""
    place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
    lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
    if proxy.credentials is not None:
        lines.append(f"Proxy-Authorization: {proxy.credentials.reveal()}")
    yield from _send(sock, watched, "\r\n".join([*lines, "", ""]).encode("latin-1"), limit)
    head = b""
    # Byte by byte, so that nothing of what follows the head is taken.
    while not head.endswith(b"\r\n\r\n"):
        byte = yield from _receive(sock, watched, limit, 1)
        head += byte
        if not byte or len(head) > _LONGEST_TUNNEL_HEAD:
            raise ConnectionError("the proxy did not answer a CONNECT")
    if not _TUNNEL_OPENED.match(head):
        status = one_line(head.split(b"\r\n")[0].decode("latin-1"), 80)
        raise ConnectionError(f"the proxy did not connect: {status}")


def _handshake(sock: ssl.SSLSocket, watched: Watched, limit: Deadline) -> Steps[None]:
    while True:
        try:
            sock.do_handshake()
            return
        except ssl.SSLWantReadError:
            watched.readable = False
            ready = yield watched.until_readable(limit)
        except ssl.SSLWantWriteError:
            watched.writable = False
            ready = yield watched.until_writable(limit)
        if not ready:
            raise TimeoutError("timed out")


def _send(sock: socket.socket, watched: Watched, data: bytes, limit: Deadline) -> Steps[None]:
    rest = memoryview(data)
    while rest:
        if limit.passed:
            raise TimeoutError("timed out")
        try:
            rest = rest[sock.send(rest) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            watched.writable = False
            ready = yield watched.until_writable(limit)
            if not ready:
                raise TimeoutError("timed out") from None


def _receive(sock: socket.socket, watched: Watched, limit: Deadline, size: int = _CHUNK) -> Steps[bytes]:
    """Return what has come, waiting for it if need be; nothing at the end of the connection."""
    while True:
        if limit.passed or not (_pending(sock) or (yield watched.until_readable(limit))):
            raise TimeoutError("timed out")
        try:
            return sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            watched.readable = watched.over


def _pending(sock: socket.socket) -> bool:
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _has_bytes(sock: socket.socket) -> bool:
    """Tell whether bytes have come that nobody has read."""
    return fcntl.ioctl(sock, termios.FIONREAD, _NO_BYTES) != _NO_BYTES


def _is_silent(sock: socket.socket, watched: Watched) -> bool:
    """Tell whether nothing came on a kept connection: its end, or bytes that nobody asked for."""
    if not watched.readable:
        return True
    try:
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):  # TLS's own messages, such as session tickets
        watched.readable = False
        return True
    except OSError:
        return False
    return False


def _head(method: str, url: str, origin: Origin, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """Return what stands before the body of a request."""
    lines = [f"{method} {target(url)} HTTP/1.1", f"Host: {origin.authority}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _stopping(*, sent: bool) -> Failure:
    return Failure("this server is stopping", sent=sent, final=True)


def _failure(error: BaseException, origin: Origin, *, sent: bool) -> Failure:
    """Say in one line what went wrong on the way to the CA."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not trusted: {error.verify_message} (see 'ca-file' in [account])"
    elif isinstance(error, TimeoutError):
        reason = "no answer in time"
    elif isinstance(error, ssl.SSLEOFError):
        reason = "the connection broke"
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)
    else:
        reason = str(error) or type(error).__name__
    final = isinstance(error, ssl.SSLCertVerificationError)
    return Failure(f"the CA at {origin}: {one_line(reason, 200)}", sent=sent, final=final)
