"""JSON and base64url of strangers, read so that no other parser could read something else there."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Sequence
from typing import Any

from acmems.frontends.acme.problems import AcmeProblem, malformed

_TO_URL = str.maketrans("+/", "-_")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)
_LAST = ("", "", "AQgw", "AEIMQUYcgkosw048")  # what a text may end with, by the characters beyond whole fours
_PADDING = (b"", b"", b"==", b"=")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


def object_of(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that bytes hold (RFC 8259, as RFC 7493 section 2 restricts it).

    No object in it has a member twice, and all of its text can be encoded.

    Args:
        data: the bytes.
        what: what they are called, for the client.

    Raises:
        AcmeProblem: they hold no such object.
    """
    try:
        text = data.decode()
        document = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair cannot be
    except AcmeProblem:
        raise
    except (ValueError, RecursionError):
        raise malformed(f"{what} is not valid JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise malformed(f"{what} is not a JSON object")
    return document


def decoded(text: object, what: str) -> bytes:
    """Return what base64url without padding stands for (RFC 7515 section 2); each value has one spelling.

    Args:
        text: what the client sent.
        what: what it is called, for the client.

    Raises:
        AcmeProblem: it is no such text.
    """
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise malformed(f"{what} is not base64url without padding")
    left = len(text) % 4
    if left and text[-1] not in _LAST[left]:  # what is beyond the last octet must be zero
        raise malformed(f"{what} is not base64url as everybody writes it")
    return binascii.a2b_base64(text.encode().translate(_TO_STANDARD) + _PADDING[left])


def encoded(data: bytes) -> str:
    """Return bytes in base64url without padding."""
    return binascii.b2a_base64(data, newline=False).decode().translate(_TO_URL).rstrip("=")


def text_of(members: dict[str, Any], name: str, what: str) -> str:
    """Return a member that must be text.

    Args:
        members: the object.
        name: the member.
        what: what the object is called, for the client.

    Raises:
        AcmeProblem: it is missing, or no text.
    """
    value = members.get(name)
    if not isinstance(value, str):
        raise malformed(f"{what} needs '{name}', a string")
    return value


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise malformed("a JSON object has a member twice")
    return found


def _refuse(_: str) -> None:
    raise malformed("NaN and Infinity are no JSON")
