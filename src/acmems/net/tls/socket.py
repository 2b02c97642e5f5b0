"""The bytes of one connection, encrypted: taken and given as those of any other, never waited for."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Final

from acmems.net.listening import ClientSocket
from acmems.system.openssl import words_of
from acmems.text import one_line

_RECORD: Final = 16 * 1024  # bytes of the largest record (RFC 8446 section 5.1)
_MOST_BEFORE = 32 * 1024
"""Bytes that a client may send before its handshake is done: enough for a certificate with its chain."""
_MOST_UNTAKEN = 64 * 1024
"""Bytes that may wait for a client that goes on sending, as one that asks for new keys all the time."""


class HandshakeError(OSError):
    """A client and this server have not come to speak TLS; the words say why.

    Args:
        reason: one line, safe to print.
        is_plain: whether the client speaks HTTP without TLS, so that it can be told so.
    """

    def __init__(self, reason: str, *, is_plain: bool = False) -> None:
        super().__init__(reason)
        self.is_plain = is_plain


class _Phase(enum.Enum):
    """What is done with the bytes of a connection."""

    SILENT = "nothing has come yet"
    SHAKING = "they belong to the handshake"
    ENCRYPTED = "they are encrypted"
    PLAIN = "they are not: the client does not know that it should, and is told"
    OVER = "this end has said its last word, or the client has made no sense; what comes is thrown away"


class TlsSocket(ClientSocket):
    """A connected socket, of which nothing is ever waited for, inside TLS (RFC 8446, RFC 5246).

    What comes is decrypted as far as it goes at once, so that what is unread is always the kernel's to tell.
    OpenSSL's state is made when the first byte comes: who only connects costs no more than without TLS.

    Args:
        sock: the socket.
        context: returns what the connection is to be encrypted by.
    """

    __slots__ = ("_certificate", "_context", "_incoming", "_outgoing", "_phase", "_received", "_tls")

    def __init__(self, sock: socket.socket, context: Callable[[], ssl.SSLContext]) -> None:
        super().__init__(sock)
        self._context = context
        self._phase = _Phase.SILENT
        self._received = 0  # bytes before the handshake is done
        self._incoming = self._outgoing = _NO_BYTES
        self._tls: ssl.SSLObject | None = None
        self._certificate: bytes | None = None

    @property
    def has_begun(self) -> bool:
        """Whether something has come that a later connection at the same socket could not begin with."""
        return self._phase is not _Phase.SILENT

    @property
    def is_established(self) -> bool:
        """Whether the client can be spoken to."""
        return self._phase is _Phase.ENCRYPTED or self._phase is _Phase.PLAIN

    @property
    def peer_certificate(self) -> bytes | None:
        """The client's certificate, in DER, verified; None where it has shown none."""
        return self._certificate

    def receive(self) -> bytes | None:
        """Return what has come: None for nothing, no bytes for the end, which may come unannounced.

        Raises:
            HandshakeError: the handshake has failed; the client was sent an alert.
            OSError: the client is gone, or breaks the rules of TLS.
        """
        self.flush()
        if self.pending > _MOST_UNTAKEN:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        data = super().receive()
        if not data or self._phase is _Phase.PLAIN:
            return data
        if self._phase is _Phase.OVER:
            return None
        tls = self._tls if self._tls is not None else self._begin(data)
        self._incoming.write(data)
        if self._phase is _Phase.SHAKING and not self._shake(tls, len(data)):
            return None
        try:
            return self._decrypted(tls)
        except ssl.SSLError:
            self._phase = _Phase.OVER
            raise
        finally:
            self._send_encrypted()

    def send(self, data: bytes) -> None:
        """Send what the client takes at once, keep the rest; nothing before the handshake is done.

        Raises:
            OSError: the client is gone.
        """
        if self._phase is _Phase.PLAIN:
            super().send(data)
        elif self._phase is _Phase.ENCRYPTED and self._tls is not None and data:
            self._tls.write(data)  # into memory, so that all of it is taken
            self._send_encrypted()

    def hint(self, data: bytes) -> None:
        """Send a few bytes that the client can do without."""
        with contextlib.suppress(OSError):
            self.send(data)  # never a part of them: what follows could not be decrypted

    def finish(self) -> None:
        """Tell the client that nothing more is sent (RFC 8446 section 6.1); it need not answer.

        Raises:
            OSError: the client is gone.
        """
        self._say_goodbye()
        super().finish()

    def close(self) -> None:
        """Free the socket; a client that still listens is told."""
        with contextlib.suppress(OSError):
            self._say_goodbye()
        self._tls = None
        super().close()

    def _begin(self, first: bytes) -> ssl.SSLObject:
        """Begin a handshake with a client whose first bytes have come.

        Raises:
            HandshakeError: it speaks plain HTTP.
        """
        if first[:1].isalpha():  # no record of TLS begins so
            self._phase = _Phase.PLAIN
            raise HandshakeError("this port speaks HTTPS, not plain HTTP: use https://", is_plain=True)
        self._phase = _Phase.SHAKING
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = self._context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        return self._tls

    def _shake(self, tls: ssl.SSLObject, size: int) -> bool:
        """Go on with the handshake; tell whether it is done.

        Raises:
            HandshakeError: it has failed.
        """
        self._received += size
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            if self._received > _MOST_BEFORE:
                self._phase = _Phase.OVER
                raise HandshakeError("the TLS handshake is too long") from None
            return False
        except ssl.SSLError as error:
            self._phase = _Phase.OVER
            raise HandshakeError(_reason(error)) from None
        finally:
            self._send_encrypted()
        self._phase = _Phase.ENCRYPTED
        self._certificate = tls.getpeercert(binary_form=True)
        return True

    def _decrypted(self, tls: ssl.SSLObject) -> bytes | None:
        """Return all that can be decrypted of what has come.

        Raises:
            ssl.SSLError: it is not what the client has encrypted.
        """
        parts: list[bytes] = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while part := tls.read(_RECORD):
                parts.append(part)
            if not parts:
                return b""  # close_notify
        return b"".join(parts) or None

    def _send_encrypted(self) -> None:
        if data := self._outgoing.read():
            super().send(data)

    def _say_goodbye(self) -> None:
        if self._phase is _Phase.ENCRYPTED and self._tls is not None:
            self._phase = _Phase.OVER
            with contextlib.suppress(ssl.SSLError):  # it wants the client's goodbye, which nobody waits for
                self._tls.unwrap()
            self._send_encrypted()


_NO_BYTES = ssl.MemoryBIO()


def _reason(error: ssl.SSLError) -> str:
    """Say why a handshake has failed, and what to do where that is known."""
    words = _REMEDIES.get(error.reason or "") or words_of(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        words = f"the client certificate is not accepted: {error.verify_message}"
    return one_line(f"the TLS handshake has failed: {words}")


_REMEDIES = {
    "UNSUPPORTED_PROTOCOL": "the client does not speak TLS 1.2 or newer: update it",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust the issuer of this server's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept this server's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not accept this server's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "this server's certificate has expired, says the client",
    "NO_SHARED_CIPHER": "the client and this server have no cipher suite in common",
}
