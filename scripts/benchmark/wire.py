"""HTTP for the floor, bare: kept connections to the CA, and a listener for its http-01 fetches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.peers import PeerFailed

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
FETCHES = 3
"""How often Pebble fetches a challenge before it decides."""


@dataclass(frozen=True)
class Reply:
    """An answer of the CA."""

    headers: Mapping[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


class Connection:
    """One connection to the CA.

    Args:
        reader: what the CA sends.
        writer: what it is sent.

    Attributes:
        nonce: the one that its last answer brought.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.nonce = ""

    @property
    def is_over(self) -> bool:
        """Whether the CA has closed it."""
        return self._reader.at_eof()

    async def exchange(self, request: bytes) -> Reply:
        """Send a request and return the answer.

        Raises:
            PeerFailed: the CA did not answer with success.
        """
        self._writer.write(request)
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = (line.partition(b": ") for line in lines)
        headers = {name.lower(): value for name, _, value in fields}
        body = b"" if request.startswith(b"HEAD") else await self._body(headers)
        self.nonce = headers.get(b"replay-nonce", b"").decode()
        if not status.startswith(b"HTTP/1.1 2"):
            raise PeerFailed(f"the CA answered {status.decode()}: {body.decode()}")
        return Reply(headers, body)

    async def _body(self, headers: Mapping[bytes, bytes]) -> bytes:
        if headers.get(b"transfer-encoding") != b"chunked":
            return await self._reader.readexactly(int(headers[b"content-length"]))
        parts = []
        while size := int(await self._reader.readline(), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return b"".join(parts)


class Shown:
    """The http-01 answers on show, by token, and who waits for the CA to fetch them.

    Args:
        thumbprint: of the account key (RFC 8555 section 8.1).
    """

    def __init__(self, thumbprint: str) -> None:
        self._thumbprint = thumbprint
        self._left: dict[str, int] = {}
        self._fetched: dict[str, asyncio.Event] = {}

    def show(self, token: str) -> asyncio.Event:
        """Show the answer for a token; return what tells that the CA has fetched it as often as it will."""
        self._left[token] = FETCHES
        return self._fetched.setdefault(token, asyncio.Event())

    def answer(self, token: str) -> bytes:
        """Return the answer for a token, which the CA fetches now."""
        self._left[token] -= 1
        if not self._left[token]:
            del self._left[token]
            self._fetched.pop(token).set()
        return f"{token}.{self._thumbprint}".encode()


class Responder(asyncio.Protocol):
    """One connection on which the CA fetches an http-01 answer (RFC 8555 section 8.3).

    Args:
        shown: the answers.
    """

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request, which one segment on loopback brings whole."""
        if self._transport is not None:
            token = data.split(b" ", 2)[1].rpartition(b"/")[2].decode()
            content = self._shown.answer(token)
            self._transport.write(ANSWER % (len(content), content))
            self._transport.close()
