"""Textual encodings (RFC 7468), read strictly: blocks, white space between them, and nothing else."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

_BLANK = b" \t\r\n"
_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----\r?\n"
    rb"(?P<base64>(?:[A-Za-z0-9+/=]++\r?\n)++)"
    rb"-----END (?P=label)-----(?=[ \t\r\n]|\Z)[ \t\r\n]*+"
)


class PemBlock(NamedTuple):
    """One block of PEM.

    Args:
        label: what it says to hold.
        der: what it holds.
    """

    label: str
    der: bytes


def blocks(text: bytes, most: int) -> list[PemBlock]:
    """Read a text that is nothing but PEM blocks; line ends may be LF or CRLF.

    Args:
        text: the bytes of the text.
        most: how many blocks are read at most.

    Raises:
        ValueError: there are more, or none, or something that is not a block; the reason is safe to print.
    """
    found: list[PemBlock] = []
    rest = text.strip(_BLANK)
    start = 0
    while start < len(rest):
        if len(found) == most:
            raise ValueError(f"there is more than {most} PEM block{'s' * (most > 1)}, or text after the last")
        match = _BLOCK.match(rest, start)
        if match is None:
            raise ValueError(_fault(rest, start))
        found.append(PemBlock(match["label"].decode("ascii"), _decode(match["base64"])))
        start = match.end()
    if not found:
        raise ValueError("it is empty")
    return found


def _decode(base64: bytes) -> bytes:
    """Decode the lines of a block, accepting only what an encoder writes."""
    line = base64.translate(None, b"\r\n")
    try:
        der = binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise ValueError("the base64 of a PEM block is broken") from None
    if binascii.b2a_base64(der, newline=False) != line:  # bits left over in the last character
        raise ValueError("the base64 of a PEM block is broken")
    return der


def _fault(text: bytes, start: int) -> str:
    """Say why no block starts here."""
    if not text.startswith(b"-----BEGIN ", start):
        return "it is not PEM, or there is text around the PEM block"
    if text.find(b"\n", start) < 0:
        return "its line ends are lost (with curl, send it by --data-binary)"
    if text.find(b"-----END ", start) < 0:
        return "its END line is missing"
    return "its PEM block is malformed"
