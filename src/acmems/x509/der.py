"""Distinguished Encoding Rules, read strictly (X.690 section 10): every byte is accounted for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

OCTET_STRING = 0x04
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31

_CONSTRUCTED = 0x20
_HIGH_TAG = 0x1F
_LONG_LENGTH = 0x80
_LENGTH_OCTETS = 4  # lengths up to 4 GiB
_DEPTH = 16


class Element(NamedTuple):
    """One value of DER.

    Args:
        tag: its identifier octet.
        content: its contents octets.
        encoded: the whole of it.
    """

    tag: int
    content: bytes
    encoded: bytes


def elements(data: bytes) -> list[Element]:
    """Read all values that lie side by side in some bytes.

    Raises:
        ValueError: a byte is missing, left over, or encoded otherwise than DER does.
    """
    found = []
    start, end = 0, len(data)
    while start < end:
        tag = data[start]
        if tag & _HIGH_TAG == _HIGH_TAG or start + 2 > end:  # nothing in X.509 needs tags above 30
            raise ValueError("not DER")
        length = data[start + 1]
        content = start + 2
        if length >= _LONG_LENGTH:
            octets = length - _LONG_LENGTH
            content += octets
            length = int.from_bytes(data[start + 2 : content])
            # Indefinite, too long, or longer than need be.
            if not 0 < octets <= _LENGTH_OCTETS or length < _LONG_LENGTH or length >> 8 * (octets - 1) == 0:
                raise ValueError("not DER")
        stop = content + length
        if stop > end:
            raise ValueError("not DER: bytes are missing")
        found.append(Element(tag, data[content:stop], data[start:stop]))
        start = stop
    return found


def only(data: bytes, tag: int) -> bytes:
    """Read the contents of the single value that some bytes are.

    Raises:
        ValueError: they are not exactly one value of this tag.
    """
    found = elements(data)
    if len(found) != 1 or found[0].tag != tag:
        raise ValueError("not the expected DER value")
    return found[0].content


def check(data: bytes, depth: int = _DEPTH) -> None:
    """Read all values in some bytes, and those within them, only to see that they are DER.

    Args:
        data: the bytes.
        depth: how many levels values may be nested.

    Raises:
        ValueError: a byte somewhere is missing, left over, or encoded otherwise than DER does.
    """
    for element in elements(data):
        if element.tag & _CONSTRUCTED:
            if depth == 0:
                raise ValueError("nested too deeply")
            check(element.content, depth - 1)


@contextlib.contextmanager
def reading(what: str, refusal: type[Exception]) -> Iterator[None]:
    """Turn whatever goes wrong while strangers' bytes are read into one error.

    Parsers fail with many classes, cryptography's Rust part with a `BaseException` that has no public
    name. Their texts may repeat what was sent, so neither text nor cause is kept.

    Args:
        what: what is being read, for the message.
        refusal: the error to raise; one of this class passes as it is.

    Raises:
        refusal: reading failed.
    """
    try:
        yield
    except (refusal, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001 - see above; what is not a parser's passed before
        raise refusal(f"{what} cannot be read: it is not well-formed") from None
