"""Distinguished Encoding Rules (X.690 section 10): tags, lengths, and every octet accounted for.

Lengths are definite and as short as can be, because parsers disagree about others. What else DER asks
for, sorted sets and defaults left out, changes nothing that is read: it is not asked for here.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
SET = 0x31

_CONSTRUCTED = 0x20
_HIGH_TAG = 0x1F
_LONG_LENGTH = 0x80
_LENGTH_OCTETS = 4  # lengths up to 4 GiB
_TAG_OCTETS = 4  # numbers of tags up to 2**28
_TAG_NUMBER = re.compile(rb"[\x1f-\x7f]|[\x81-\xff][\x80-\xff]{0,2}[\x00-\x7f]")  # from 31 on
_DEPTH = 16
_ARCS = re.compile(rb"(?:(?!\x80)[\x80-\xff]*+[\x00-\x7f])+")  # of an object identifier, each without padding
_LONGEST_IDENTIFIER = 64  # octets of an object identifier: real ones have a third of it
_SECOND_ARC = 40  # the first two arcs are one number: 40 times the first, plus the second


class DERError(ValueError):
    """Octets are not DER, or not the values that belong there; the reason is safe to print."""


class Element(NamedTuple):
    """One value of DER.

    Args:
        tag: its identifier octet; the first of them, where a number above 30 takes more.
        content: its contents octets.
        encoded: the whole of it.
    """

    tag: int
    content: bytes
    encoded: bytes


def elements(data: bytes) -> list[Element]:
    """Read all values that lie side by side in some octets.

    Raises:
        DERError: an octet is missing or left over, or a tag or length is encoded otherwise than DER does.
    """
    found = []
    start, end = 0, len(data)
    while start < end:
        tag = data[start]
        content = start + 2
        if tag & _HIGH_TAG == _HIGH_TAG:
            content += _more_of_tag(data[start + 1 : start + 2 + _TAG_OCTETS])
        if content > end:
            raise DERError("octets are missing at its end")
        length = data[content - 1]
        if length >= _LONG_LENGTH:
            octets = length - _LONG_LENGTH
            if not 0 < octets <= _LENGTH_OCTETS:
                raise DERError("a length in it is indefinite, or endless")
            length = int.from_bytes(data[content : content + octets])
            content += octets
            if length < _LONG_LENGTH or length >> 8 * (octets - 1) == 0:
                raise DERError("a length in it is encoded in more octets than it needs")
        stop = content + length
        if stop > end:
            raise DERError("octets are missing at its end")
        found.append(Element(tag, data[content:stop], data[start:stop]))
        start = stop
    return found


def _more_of_tag(octets: bytes) -> int:
    """Return how many octets the number of a tag has beside the identifier octet (X.690 section 8.1.2.4)."""
    match = _TAG_NUMBER.match(octets)
    if match is None:
        raise DERError("a tag in it is endless, or encoded in more octets than it needs")
    return match.end()


def alike(data: bytes, tag: int) -> list[Element]:
    """Read values that lie side by side and all have one tag.

    Raises:
        DERError: one has another tag.
    """
    found = elements(data)
    for element in found:
        if element.tag != tag:
            raise DERError("it holds other values than it should")
    return found


def only(data: bytes) -> Element:
    """Read the single value that some octets are.

    Raises:
        DERError: they are not exactly one.
    """
    found = elements(data)
    if len(found) != 1:
        raise DERError("octets are left over after it" if found else "it is empty")
    return found[0]


def check(element: Element, depth: int = _DEPTH) -> None:
    """Read all values within a value, only to see that they are DER.

    Args:
        element: the value.
        depth: how many levels values in it may be nested.

    Raises:
        DERError: an octet is missing or left over, or a tag or length is encoded otherwise than DER does.
    """
    if not element.tag & _CONSTRUCTED:
        return
    if depth == 0:
        raise DERError("values in it are nested too deeply")
    for inner in elements(element.content):
        if inner.tag & _CONSTRUCTED:
            check(inner, depth - 1)


def boolean(element: Element) -> bool:
    """Read a BOOLEAN.

    Raises:
        DERError: it is none, or neither 00 nor FF.
    """
    if element.tag != BOOLEAN or element.content not in (b"\x00", b"\xff"):
        raise DERError("it holds a BOOLEAN that is neither TRUE nor FALSE")
    return element.content == b"\xff"


def contents(element: Element, tag: int) -> bytes:
    """Return the contents of a value that must have this tag.

    Raises:
        DERError: it has another.
    """
    if element.tag != tag:
        raise DERError("it holds a value of another type than it should")
    return element.content


def object_identifier(element: Element) -> bytes:
    """Read the contents octets of an object identifier, of which each has one encoding.

    Raises:
        DERError: it is none, endless, or encoded otherwise than DER does.
    """
    content = element.content
    if element.tag != OBJECT_IDENTIFIER or len(content) > _LONGEST_IDENTIFIER or not _ARCS.fullmatch(content):
        raise DERError("it holds something else where an object identifier should be")
    return content


def dotted(identifier: bytes) -> str:
    """Return the dotted text of an object identifier that `object_identifier` has read."""
    arcs: list[int] = []
    arc = 0
    for octet in identifier:
        arc = arc << 7 | octet & 0x7F
        if octet < _LONG_LENGTH:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // _SECOND_ARC, 2)
    return ".".join(map(str, (first, arcs[0] - _SECOND_ARC * first, *arcs[1:])))


def reading(what: str, refusal: type[Exception]) -> AbstractContextManager[None]:
    """Turn whatever goes wrong while a library reads strangers' octets into one error.

    Parsers fail with many classes, cryptography's Rust part with a `BaseException` that has no public
    name. Their texts may repeat what was sent, so neither text nor cause is kept.

    Args:
        what: what is being read, for the message.
        refusal: the error to raise; one of this class passes as it is.

    Raises:
        refusal: reading failed.
    """
    return _ParserErrors(what, refusal)


class _ParserErrors:
    # A class, because a context manager made of a generator costs a tenth of the reading of a small request.

    __slots__ = ("_passing", "_refusal", "_what")

    def __init__(self, what: str, refusal: type[Exception]) -> None:
        self._what = what
        self._refusal = refusal
        self._passing = (refusal, KeyboardInterrupt, SystemExit, MemoryError)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, self._passing):
            raise self._refusal(f"{self._what} cannot be read: it is not well-formed") from None
