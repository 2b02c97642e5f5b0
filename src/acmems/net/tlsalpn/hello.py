"""The first message of a TLS client, as far as it says whom it wants to talk to (RFC 8446 section 4.1.2).

OpenSSL would finish a handshake with a client that does not know `acme-tls/1`, so what a client wants is
read here before OpenSSL sees a byte of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LARGEST = 16_384
"""Bytes that a ClientHello may take, with its records; none that is seen in the wild takes a fifth."""

_MOST_RECORDS = 16  # that it may come in: what is incomplete is read again with every byte
_RECORD = b"\x16\x03"  # handshake, and the major version of every record since SSL 3.0
_CLIENT_HELLO = b"\x01"
_RECORD_HEAD = 5
_MESSAGE_HEAD = 4
_VERSION_AND_RANDOM = 34
_SERVER_NAME, _ALPN = 0, 16  # extensions (RFC 6066, RFC 7301)
_HOST_NAME = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client asks for.

    Args:
        server_name: the name in SNI, lower case; empty where there is none.
        protocols: the names in ALPN.
    """

    server_name: str
    protocols: tuple[bytes, ...]


def read_hello(data: bytes) -> Hello | None:
    """Read a ClientHello; return None where the rest of it is still to come.

    Args:
        data: all bytes that the client has sent.

    Raises:
        ValueError: it is none, or is broken; the reason is safe to print.
    """
    message = _message(data)
    return None if message is None else _hello(message)


def _message(data: bytes) -> bytes | None:
    """Return the body of the message that records carry; None where some are missing."""
    if len(data) > LARGEST:
        raise ValueError("is too long")
    message = b""
    for fragment in _fragments(data):
        message += fragment
        if message[:1] not in {b"", _CLIENT_HELLO}:
            raise ValueError("does not begin with a ClientHello")
        if len(message) >= _MESSAGE_HEAD:
            whole = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD])
            if whole > LARGEST:
                raise ValueError("is too long")
            if len(message) > whole:
                raise ValueError("has something behind the ClientHello")
            if len(message) == whole:
                return message[_MESSAGE_HEAD:]
    return None


def _fragments(data: bytes) -> Iterator[bytes]:
    """Yield what each record carries, as far as it has come."""
    for _ in range(_MOST_RECORDS):
        head, data = data[:_RECORD_HEAD], data[_RECORD_HEAD:]
        if not _RECORD.startswith(head[: len(_RECORD)]):
            raise ValueError("is not TLS")
        if len(head) < _RECORD_HEAD:
            return
        length = int.from_bytes(head[3:])
        if not 0 < length <= LARGEST:
            raise ValueError("has a record of an impossible length")
        yield data[:length]
        if len(data) < length:
            return
        data = data[length:]
    raise ValueError("has too many records")


class _Reader:
    """Takes fields off the front of bytes."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, length: int) -> bytes:
        if length > len(self.rest):
            raise ValueError("is cut off")
        taken, self.rest = self.rest[:length], self.rest[length:]
        return taken

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets))

    def vector(self, octets: int) -> bytes:
        """Take a field whose length stands in so many octets before it."""
        return self.take(self.number(octets))


def _hello(message: bytes) -> Hello:
    reader = _Reader(message)
    reader.take(_VERSION_AND_RANDOM)
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    extensions: dict[int, bytes] = {}
    if reader.rest:  # clients older than TLS 1.2 may have none
        block = _Reader(reader.vector(2))
        while block.rest:
            kind = block.number(2)
            if kind in extensions:
                raise ValueError("has an extension twice")
            extensions[kind] = block.vector(2)
        if reader.rest:
            raise ValueError("has something behind its extensions")
    return Hello(_server_name(extensions.get(_SERVER_NAME)), _protocols(extensions.get(_ALPN)))


def _server_name(extension: bytes | None) -> str:
    if extension is None:
        return ""
    names = _Reader(_only_vector(extension))
    if names.number(1) != _HOST_NAME:
        raise ValueError("has a server name of an unknown kind")
    name = names.vector(2)
    if names.rest:
        raise ValueError("has several server names")
    if not name or not name.isascii():
        raise ValueError("has a server name that is none")
    return name.decode("ascii").lower()


def _protocols(extension: bytes | None) -> tuple[bytes, ...]:
    if extension is None:
        return ()
    names = _Reader(_only_vector(extension))
    found = []
    while names.rest:
        found.append(names.vector(1))
    return tuple(found)


def _only_vector(extension: bytes) -> bytes:
    reader = _Reader(extension)
    taken = reader.vector(2)
    if reader.rest:
        raise ValueError("has something behind a list")
    return taken
