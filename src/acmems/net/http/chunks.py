"""A body that comes in chunks, put together without any I/O (RFC 9112 section 7.1)."""

from __future__ import annotations

import enum
import re

from acmems.exceptions import HttpRefusal, PayloadToLarge

# The size, and extensions, which mean nothing here; neither a bare CR nor another control character in them.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t\x20-\x7e]*)?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")
_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_LINE_END = b"\r\n"
_LONGEST_LINE = 1024
_FRAMING = 16 * 1024  # bytes of lines around chunks and behind them, beyond as many as the body may have


class _Expected(enum.Enum):
    """What comes next."""

    SIZE = "the line with the size of a chunk"
    DATA = "the rest of a chunk"
    DATA_END = "the line end behind a chunk"
    TRAILER = "a line behind the last chunk, or the empty one at the end"
    NOTHING = "the body is whole"


class ChunkedBody:
    """Puts one body together.

    Args:
        most: bytes that are accepted.
    """

    __slots__ = ("_body", "_expected", "_framing", "_left", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._body = bytearray()
        self._expected = _Expected.SIZE
        self._left = 0  # bytes of the chunk that is coming
        self._framing = most + _FRAMING  # bytes of lines that may still come

    @property
    def size(self) -> int:
        """How many bytes of the body have come so far."""
        return len(self._body)

    @property
    def content(self) -> bytes:
        """What has come of the body so far."""
        return bytes(self._body)

    def take(self, buffer: bytearray) -> bool:
        """Take what has come from the front of a buffer; tell whether the body is whole.

        Raises:
            HttpRefusal: these are no chunks.
            PayloadToLarge: there are more bytes than are accepted.
        """
        while self._expected is not _Expected.NOTHING:
            if self._expected is _Expected.DATA:
                part = buffer[: self._left]
                del buffer[: len(part)]
                self._body += part
                self._left -= len(part)
                if self._left:
                    return False
                self._expected = _Expected.DATA_END
                continue
            line = self._line(buffer)
            if line is None:
                return False
            self._follow(line)
        return True

    def _line(self, buffer: bytearray) -> bytes | None:
        """Take the next line; None while it is incomplete."""
        # At once: what is no chunk may never come to the end of a line.
        if self._expected is _Expected.SIZE and buffer and buffer[0] not in _DIGITS:
            raise _malformed()
        if self._expected is _Expected.DATA_END and not _LINE_END.startswith(buffer[:2]):
            raise _malformed()
        end = buffer.find(b"\n", 0, _LONGEST_LINE) + 1
        if not end:
            if len(buffer) >= _LONGEST_LINE:
                raise _malformed()
            return None
        self._framing -= end
        if self._framing < 0:
            raise HttpRefusal(400, "the chunks of the body are too small for what stands around them")
        line = bytes(buffer[:end])
        del buffer[:end]
        return line

    def _follow(self, line: bytes) -> None:
        if self._expected is _Expected.SIZE:
            size = _SIZE_LINE.fullmatch(line)
            if size is None:
                raise _malformed()
            self._left = int(size[1], 16)
            if len(self._body) + self._left > self._most:
                raise PayloadToLarge(len(self._body) + self._left, self._most)
            self._expected = _Expected.DATA if self._left else _Expected.TRAILER
        elif line == _LINE_END:
            is_end = self._expected is _Expected.TRAILER
            self._expected = _Expected.NOTHING if is_end else _Expected.SIZE
        elif self._expected is not _Expected.TRAILER or not _TRAILER.fullmatch(line):
            raise _malformed()


def _malformed() -> HttpRefusal:
    return HttpRefusal(400, "the body does not come in well-formed chunks")
