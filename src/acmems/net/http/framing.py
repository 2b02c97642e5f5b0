"""HTTP/1.1 requests out of bytes, without any I/O: bytes in, heads and bodies out (RFC 9112).

llhttp reads the grammar; what RFC 9112 leaves to a server, and what this server does not want, is
decided here. Where llhttp and these rules could read one head differently, it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import NoReturn

import httptools

from acmems.exceptions import HttpRefusal
from acmems.net.http.chunks import ChunkedBody

_REQUEST_LINE = re.compile(rb"([A-Z-]{1,20}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])\r\n")
_METHOD_AND_VERSION = 32  # bytes of a request line that are not its target, generously
_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_VERSIONS = {(b"1", b"0"): (1, 0), (b"1", b"1"): (1, 1)}
_RULING = frozenset({b"transfer-encoding", b"host", b"expect", b"content-length", b"connection"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_TLS_HANDSHAKE = 0x16  # first byte of every TLS ClientHello (RFC 8446 section 5.1)


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """How much a request may say before its body.

    Args:
        size: bytes of request line and headers together.
        target: bytes of the request target.
        headers: number of header fields.
    """

    size: int = 16 * 1024
    target: int = 8 * 1024
    headers: int = 100


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and its headers, checked.

    Args:
        method: the method, upper case.
        target: the request target exactly as sent, printable ASCII.
        version: (1, 0) or (1, 1).
        headers: the header fields in their order, decoded as ISO 8859-1.
        length: bytes of body that follow; 0 where it comes in chunks.
        is_chunked: whether the body comes in chunks (RFC 9112 section 7.1).
        keep_alive: whether the client wants to use the connection again.
        expects_continue: whether the client waits for a 100 before it sends the body.
    """

    method: str
    target: str
    version: tuple[int, int]
    headers: HTTPMessage
    length: int
    is_chunked: bool
    keep_alive: bool
    expects_continue: bool


class RequestReader:
    """Takes the bytes of one connection and gives out its requests, one after the other.

    Args:
        limits: how long heads may be.
    """

    __slots__ = ("_buffer", "_chunks", "_fed", "_fields", "_limits", "_line", "_parser")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._chunks: ChunkedBody | None = None  # of the last head, until it is whole
        self._next()

    def _next(self) -> None:
        self._fields = _Fields()
        self._parser: httptools.HttpRequestParser | None = None  # made when a head begins
        self._fed = 0  # bytes of the buffer that the parser has seen
        self._line: re.Match[bytes] | None = None

    @property
    def empty(self) -> bool:
        """Whether no byte of a further request has come."""
        return not self._buffer and self._chunks is None

    @property
    def size(self) -> int:
        """How many bytes of requests are kept here."""
        return len(self._buffer) + (self._chunks.size if self._chunks else 0)

    def clear(self) -> None:
        """Forget everything: nothing more is read here."""
        self._buffer.clear()
        self._chunks = None

    def feed(self, data: bytes) -> None:
        """Take bytes as they came from the client."""
        self._buffer += data

    def head(self) -> Head | None:
        """Return the next head, None while it is incomplete.

        Raises:
            HttpRefusal: these bytes can not become a request that is accepted here.
        """
        buffer, limits = self._buffer, self._limits
        if self._line is None:
            while buffer.startswith(b"\r\n"):  # empty lines before a request (RFC 9112 section 2.2)
                del buffer[:2]
            if buffer and buffer != b"\r":
                self._line = _request_line(buffer, limits)
            if self._line is None:
                return None
        if not self._read_at_once() and not self._read_lines():
            return None
        head = _checked_head(self._line, self._fields.fields)
        del buffer[: self._fed]
        self._next()
        return head

    def _read_at_once(self) -> bool:
        """Read a head that is here from its first byte to its last, as most are; tell whether it was.

        Where anything is wrong with it nothing is read: line by line, it is found out what.
        """
        end = self._buffer.find(b"\r\n\r\n", 0, self._limits.size) + 4
        if self._fed or end < len(b"\r\n\r\n"):
            return False
        lines, empty = bytes(self._buffer[: end - 2]), b"\r\n"
        if (
            lines.count(b"\n") == lines.count(b"\r\n")
            and self._parse(lines)
            and not self._fields.complete
            and self._parse(empty)
            and self._fields.complete
            and len(self._fields.fields) <= self._limits.headers
        ):
            self._fed = end
            return True
        self._parser, self._fields = None, _Fields()
        return False

    def _read_lines(self) -> bool:
        """Read on line by line, so that nothing depends on how the bytes were cut into packets.

        Returns:
            Whether the head is complete.

        Raises:
            HttpRefusal: it can not become one that is accepted.
        """
        buffer, limits = self._buffer, self._limits
        while not self._fields.complete:
            end = buffer.find(b"\n", self._fed, limits.size) + 1
            if not end:
                if len(buffer) >= limits.size:
                    raise HttpRefusal(431, f"request line and headers are longer than {limits.size} bytes")
                return False
            line = bytes(buffer[self._fed : end])
            # llhttp must see the end of the head in the empty line, and nowhere else.
            if not self._parse(line) or self._fields.complete is not (line == b"\r\n"):
                _malformed(buffer)
            self._fed = end
            if len(self._fields.fields) > limits.headers:
                raise HttpRefusal(431, f"more than {limits.headers} header fields")
        return True

    def body(self, length: int) -> bytes | None:
        """Return the body of the last head, None while it is incomplete.

        Args:
            length: its size in bytes, as the head declared it.
        """
        if len(self._buffer) < length:
            return None
        with memoryview(self._buffer) as kept:
            body = bytes(kept[:length])
        del self._buffer[:length]
        return body

    def chunked_body(self, most: int) -> bytes | None:
        """Return the body of the last head, which comes in chunks; None while it is incomplete.

        Args:
            most: bytes that are accepted.

        Raises:
            HttpRefusal: these are no chunks.
            PayloadToLarge: there are more bytes.
        """
        if self._chunks is None:
            self._chunks = ChunkedBody(most)
        if not self._chunks.take(self._buffer):
            return None
        body = self._chunks.content
        self._chunks = None
        return body

    def _parse(self, data: bytes) -> bool:
        """Have llhttp read the next lines of the head; tell whether they can be that."""
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self._fields)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a wish (Upgrade, CONNECT) that comes with a complete head, and may be ignored
        except httptools.HttpParserError:
            # llhttp dislikes a Transfer-Encoding only when the head is complete: it is refused by name below.
            return self._fields.complete
        return True


class _Fields:
    """What llhttp reports of one head."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def _request_line(buffer: bytearray, limits: HeadLimits) -> re.Match[bytes] | None:
    """Check the request line as soon as it is there: one space each, a known version (RFC 9112 section 3)."""
    if not buffer[:1].isalpha():  # at once: what is not HTTP at all may never come to the end of a line
        _malformed(buffer)
    longest = min(limits.target + _METHOD_AND_VERSION, limits.size)
    end = buffer.find(b"\n", 0, longest) + 1
    if not end:
        if len(buffer) >= longest:
            _target_too_long(limits)
        return None
    line = _REQUEST_LINE.fullmatch(bytes(buffer[:end]))
    if line is None:
        _malformed(buffer)
    if len(line[2]) > limits.target:
        _target_too_long(limits)
    if line.group(3, 4) not in _VERSIONS:
        raise HttpRefusal(505, "this server speaks HTTP/1.1")
    return line


def _checked_head(line: re.Match[bytes], fields: Sequence[tuple[bytes, bytes]]) -> Head:
    """Apply the rules on headers that frame a request (RFC 9112 sections 3.2, 6 and 9.3)."""
    headers = HTTPMessage()
    ruling: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        headers.set_raw(name.decode("ascii"), value.decode("latin-1"))
        lowered = name.lower()
        if lowered in _RULING:
            ruling.setdefault(lowered, []).append(value)
    method, version = line[1].decode("ascii"), _VERSIONS[line[3], line[4]]
    is_chunked = _is_chunked(ruling, version)
    _check_host(ruling.get(b"host", []), version)
    expectations = ruling.get(b"expect", []) if version >= (1, 1) else []
    if any(value.lower() != b"100-continue" for value in expectations):
        raise HttpRefusal(417, "the only expectation that can be met is 100-continue")
    return Head(
        method,
        line[2].decode("ascii"),
        version,
        headers,
        0 if is_chunked else _length(ruling.get(b"content-length", []), method),
        is_chunked,
        _keep_alive(ruling.get(b"connection", []), version),
        bool(expectations),
    )


def _check_host(values: Sequence[bytes], version: tuple[int, int]) -> None:
    if len(values) > 1 or (not values and version >= (1, 1)):
        raise HttpRefusal(400, "a request needs exactly one Host header")
    if values and not _HOST.fullmatch(values[0]):
        raise HttpRefusal(400, "the Host header is not a host")


def _is_chunked(ruling: Mapping[bytes, Sequence[bytes]], version: tuple[int, int]) -> bool:
    """Tell whether the body comes in chunks; whatever could be read in two ways is refused (section 6.1)."""
    codings = ruling.get(b"transfer-encoding")
    if codings is None:
        return False
    if version < (1, 1) or b"content-length" in ruling:
        raise HttpRefusal(400, "a Transfer-Encoding needs HTTP/1.1, and no Content-Length beside it")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise HttpRefusal(501, "the only transfer coding that is understood is chunked")
    return True


def _length(values: Sequence[bytes], method: str) -> int:
    if len(values) > 1 or (values and not _LENGTH.fullmatch(values[0])):
        raise HttpRefusal(400, "the Content-Length is not one number")
    if values:
        return int(values[0])
    if method in _WITH_BODY:
        raise HttpRefusal(411, f"a {method} needs a Content-Length, or chunks")
    return 0


def _keep_alive(values: Sequence[bytes], version: tuple[int, int]) -> bool:
    if not values:
        return version >= (1, 1)
    options = {option.strip(b" \t").lower() for value in values for option in value.split(b",")}
    return b"close" not in options and (version >= (1, 1) or b"keep-alive" in options)


def _malformed(buffer: bytearray) -> NoReturn:
    if buffer[0] == _TLS_HANDSHAKE:
        raise HttpRefusal(400, "this port speaks plain HTTP, not TLS")
    raise HttpRefusal(400, "this is not a well-formed HTTP/1.1 request")


def _target_too_long(limits: HeadLimits) -> NoReturn:
    raise HttpRefusal(414, f"the request target is longer than {limits.target} bytes")
