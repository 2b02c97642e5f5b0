"""Steps on a socket to a CA: addresses, handshake, sending and receiving, each by a deadline."""

from __future__ import annotations

import fcntl
import socket
import ssl
import termios
from pathlib import Path

from acmems.system.clock import Deadline
from acmems.system.permissions import reason
from acmems.system.steps import Steps, Watched, in_thread

_CHUNK = 64 * 1024
_NO_BYTES = bytes(4)  # the C int 0


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what makes TLS with a CA.

    Args:
        ca_file: PEM file with trust anchors beside those of the system.

    Raises:
        ValueError: the file cannot be used.
    """
    context = ssl.create_default_context()
    # Before 3.11.4 Python takes an end that TLS did not announce for the end of a response.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except ssl.SSLError as error:
            raise ValueError(f"{ca_file} holds no certificate in PEM, or a damaged one") from error
        except OSError as error:
            raise ValueError(f"{ca_file} cannot be read: {reason(error, ca_file)}") from error
    return context


def addresses_of(host: str, port: int) -> Steps[list[tuple[int, tuple[str, int]]]]:
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


def handshake(sock: ssl.SSLSocket, watched: Watched, limit: Deadline) -> Steps[None]:
    """Make the TLS handshake.

    Raises:
        OSError: it failed, as an ssl.SSLError for instance, or the time is over.
    """
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


def send(sock: socket.socket, watched: Watched, data: bytes, limit: Deadline) -> Steps[None]:
    """Send all of some bytes.

    Raises:
        OSError: the connection is broken, or the time is over.
    """
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


def receive(sock: socket.socket, watched: Watched, limit: Deadline, size: int = _CHUNK) -> Steps[bytes]:
    """Return what has come, waiting for it if need be; nothing at the end of the connection."""
    while True:
        if limit.passed or not (pending(sock) or (yield watched.until_readable(limit))):
            raise TimeoutError("timed out")
        try:
            return sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            watched.readable = watched.over


def pending(sock: socket.socket) -> bool:
    """Tell whether there are bytes that TLS has decrypted and nobody has read."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def has_bytes(sock: socket.socket) -> bool:
    """Tell whether bytes have come that nobody has read."""
    return fcntl.ioctl(sock, termios.FIONREAD, _NO_BYTES) != _NO_BYTES


def is_silent(sock: socket.socket, watched: Watched) -> bool:
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
