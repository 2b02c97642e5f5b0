"""Connections that end when their time is over, whatever is said on them meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import os
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from acmems.net.address import Address
from acmems.system import openssl
from acmems.system.clock import Deadline
from acmems.system.permissions import reason
from acmems.text import one_line


@contextlib.contextmanager
def connected(
    address: Address, deadline: Deadline, tls: ssl.SSLContext | None = None
) -> Iterator[socket.socket]:
    """Yield a connection, and close it at the end of the context.

    Args:
        address: where to.
        deadline: when it is cut.
        tls: how to speak TLS from the beginning; None: not at all.

    Raises:
        OSError: there is none.
    """
    with contextlib.ExitStack() as stack:
        plain = socket.create_connection((address.host, address.port), max(0.001, deadline.remaining))
        stack.callback(plain.close)
        # STARTTLS makes another socket of it: this one ends the connection whatever has become of that.
        twin = stack.enter_context(socket.socket(fileno=os.dup(plain.fileno())))
        timer = threading.Timer(deadline.remaining, _cut, [twin])
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        if tls is None:
            yield plain
        else:
            with tls.wrap_socket(plain, server_hostname=address.host) as wrapped:
                yield wrapped


def trust(ca_file: Path | None) -> ssl.SSLContext:
    """Return how to speak TLS to servers.

    Args:
        ca_file: further trust anchors, beside those of the system.

    Raises:
        OSError: they cannot be read.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def ca_file_check(ca_file: Path | None) -> Iterable[tuple[str, str]]:
    """Say what is wrong with trust anchors."""
    if ca_file is None:
        return
    try:
        trust(ca_file)
    except ssl.SSLError:
        yield "ca-file", f"{ca_file} holds no certificates in PEM"
    except OSError as error:
        yield "ca-file", f"{ca_file} cannot be read: {reason(error, ca_file)}"


def words_of(error: Exception, deadline: Deadline) -> str:
    """Return why a server could not be spoken to, for a person and without anything secret.

    Args:
        error: what has been met.
        deadline: when the connection was to be cut.
    """
    if deadline.passed or isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not trusted ({error.verify_message}): see 'ca-file'"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {openssl.words_of(error)}"
    if isinstance(error, smtplib.SMTPResponseException):
        words = (
            error.smtp_error.decode(errors="replace")
            if isinstance(error.smtp_error, bytes)
            else error.smtp_error
        )
        return f"it answered {error.smtp_code} {one_line(words)}"
    if isinstance(error, smtplib.SMTPException | http.client.HTTPException):
        return f"it answered what is no answer ({type(error).__name__})"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
