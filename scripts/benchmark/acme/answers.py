"""A name server that knows only the answers to dns-01 challenges: bare, since its cost is the client's."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from typing import cast

NAME = 0xC00C
"""Points to the name in the question (RFC 1035 section 4.1.4)."""
TXT = 16
INTERNET = 1
AUTHORITATIVE = 0x8400
NO_SUCH_NAME = 3
HEAD = struct.Struct("!6H")
RECORD = struct.Struct("!3HIH")


class Answers(asyncio.DatagramProtocol):
    """What is on show for dns-01 (RFC 8555 section 8.4), by name."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        # Not a matter of its class: those of Python 3.11 do not inherit from this one.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def show(self, name: str, key_authorization: str) -> None:
        """Show the answer to the challenge of a name."""
        digest = hashlib.sha256(key_authorization.encode()).digest()
        labels = f"_acme-challenge.{name}".encode().split(b".")
        key = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
        self._values[key] = base64.urlsafe_b64encode(digest).rstrip(b"=")

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a query."""
        if self._transport is not None:
            self._transport.sendto(self.answer(data), addr)

    def answer(self, query: bytes) -> bytes:
        """Return the answer to a query, which has one question."""
        end = query.index(b"\0", HEAD.size) + 1
        question = query[HEAD.size : end + 4]
        value = self._values.get(query[HEAD.size : end].lower())
        number = HEAD.unpack_from(query)[0]
        if value is None:
            return HEAD.pack(number, AUTHORITATIVE | NO_SUCH_NAME, 1, 0, 0, 0) + question
        data = bytes([len(value)]) + value
        record = RECORD.pack(NAME, TXT, INTERNET, 1, len(data)) + data
        return HEAD.pack(number, AUTHORITATIVE, 1, 1, 0, 0) + question + record
