"""The headers of a request, whichever kind of mapping a front end or a script has them in."""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message

Headers = Message | Mapping[str, str]


def header_values(headers: Headers, name: str) -> list[str]:
    """Return all values of a header, in order; its name is found in any case (RFC 9110 section 5.1)."""
    if isinstance(headers, Message):
        return [str(value) for value in headers.get_all(name, [])]
    wanted = name.lower()
    return [str(value) for key, value in headers.items() if key.lower() == wanted]
