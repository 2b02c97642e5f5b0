"""Textual encodings (RFC 7468): a chain's blocks read strictly, a request's with what is around it."""

from __future__ import annotations

import binascii
import codecs
import re
from typing import NamedTuple

_LINE = 64  # characters
_BLANK = b" \t\r\n"
_SPACE = b" \t\r\n\f\v"
_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----\r?\n"
    rb"(?P<base64>(?:[A-Za-z0-9+/=]++\r?\n)++)"
    rb"-----END (?P=label)-----(?=[ \t\r\n]|\Z)[ \t\r\n]*+"
)
# As section 3 has it for lax parsers: white space anywhere, line ends of any kind.
_LAX_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----[ \t]*+[\r\n]"
    rb"(?P<base64>[A-Za-z0-9+/=\s]*+)"
    rb"-----END (?P=label)-----[ \t\0]*+(?:[\r\n]|\Z)"
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
        block = PemBlock(match["label"].decode("ascii"), _decode(match["base64"]))
        if binascii.b2a_base64(block.der, newline=False) != match["base64"].translate(None, _SPACE):
            raise ValueError("the base64 of a PEM block is broken")  # bits left over in the last character
        found.append(block)
        start = match.end()
    if not found:
        raise ValueError("it is empty")
    return found


def only_block(text: bytes) -> PemBlock:
    """Read the one block of a text, whatever is before and after its lines (section 2).

    Indentation, empty lines and NULs at the end are passed over as well: none of these changes what the
    block holds.

    Args:
        text: the bytes of the text, as `plain_text` returns it.

    Raises:
        ValueError: there is more than one, or none, or it is broken; the reason is safe to print.
    """
    start = text.find(b"-----BEGIN ")
    if start < 0:
        raise ValueError("it is not PEM: there is no BEGIN line in it")
    ends = text.count(b"-----END ")
    if not ends:
        raise ValueError("its END line is missing")
    if ends > 1 or text.count(b"-----BEGIN ") > 1:
        raise ValueError("there is more than 1 PEM block in it")
    match = _LAX_BLOCK.match(text, start)
    if match is None or not (_ends_a_line(text[:start]) and _ends_a_line(match["base64"])):
        raise ValueError(_lax_fault(text, start))
    return PemBlock(match["label"].decode("ascii"), _decode(match["base64"]))


def encoded(label: str, der: bytes) -> bytes:
    """Return the block of PEM that holds a DER, as OpenSSL writes it."""
    base64 = binascii.b2a_base64(der, newline=False)
    lines = [base64[start : start + _LINE] for start in range(0, len(base64), _LINE)]
    name = label.encode()
    return b"\n".join([b"-----BEGIN %s-----" % name, *lines, b"-----END %s-----" % name, b""])


def plain_text(body: bytes) -> bytes:
    """Return a text in ASCII that may come in UTF-16, or with a byte order mark.

    Args:
        body: the bytes that were sent; what is not ASCII in UTF-16 becomes a question mark.
    """
    codec = utf16_codec(body)
    if codec is None:
        return body.removeprefix(codecs.BOM_UTF8)
    return body.decode(codec, "replace").encode("ascii", "replace")


def utf16_codec(body: bytes) -> str | None:
    """Return Python's name of the UTF-16 encoding that a text seems to be in, None if it is in none."""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" not in body:
        return None
    for codec in ("utf-16-le", "utf-16-be"):
        if "--BEGIN ".encode(codec) in body:
            return codec
    return None


def _ends_a_line(text: bytes) -> bool:
    return text.rstrip(b" \t")[-1:] in b"\r\n"  # an empty text does so, too


def _decode(base64: bytes) -> bytes:
    """Decode what is between the lines of a block."""
    line = base64.translate(None, _SPACE)
    try:
        if len(line) % 4 == 0:  # else there is padding too much, which not every Python sees
            return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        pass
    raise ValueError("the base64 of a PEM block is broken")


def _fault(text: bytes, start: int) -> str:
    """Say why no block starts here."""
    if not text.startswith(b"-----BEGIN ", start):
        return "it is not PEM, or there is text around the PEM block"
    if text.find(b"\n", start) < 0:
        return "its line ends are lost"
    if text.find(b"-----END ", start) < 0:
        return "its END line is missing"
    return "its PEM block is malformed"


def _lax_fault(text: bytes, start: int) -> str:
    """Say why there is no block where a BEGIN is."""
    begin = re.compile(rb"-----BEGIN (?P<label>[A-Z0-9 ]{1,40})-----[ \t]*+[\r\n]").match(text, start)
    if begin is None or not _ends_a_line(text[:start]):
        return "its PEM block is malformed: the BEGIN line must stand alone, as openssl writes it"
    end = re.compile(rb"-----END " + begin["label"] + rb"-----[ \t\0]*+(?:[\r\n]|\Z)").search(
        text, begin.end()
    )
    if end is None or not _ends_a_line(text[begin.end() : end.start()]):
        return "its PEM block is malformed: the END line must stand alone, and say the same as the BEGIN line"
    return "its PEM block is malformed: between the lines there is something other than base64"
