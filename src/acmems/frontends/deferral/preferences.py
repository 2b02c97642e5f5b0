"""What a client prefers of how it is answered (RFC 7240)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from typing import Self

# Possessive quantifiers, and no two that could share a character: this is read before it is known who asks,
# and a hostile header costs no backtracking.
_PREFERENCE = re.compile(
    r"""[\s,]*+([!#$%&'*+.^`|~\w-]++)          # a name
        (?:\s*+=\s*+("(?:[^"\\]|\\.)*"|[!#$%&'*+.^`|~\w-]*+))?  # perhaps a value
        (?:\s*+;[^,"]*+(?:"(?:[^"\\]|\\.)*"[^,"]*+)*)?\s*+(?:,|$)  # parameters: none is known here""",
    re.ASCII | re.VERBOSE,
)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a client prefers; what is not known is ignored, as section 2 says.

    Args:
        responds_async: whether it takes 202 where an answer takes long (section 4.1).
        wait: for how many seconds it wants to wait for an answer (section 4.3); None: it does not say.
    """

    responds_async: bool = False
    wait: int | None = None

    @classmethod
    def from_headers(cls, headers: Message) -> Self:
        """Read the `Prefer` headers of a request; of what is given twice, the first counts."""
        given: dict[str, str] = {}
        for line in headers.get_all("Prefer", ()):
            at, text = 0, str(line)
            while at < len(text) and (found := _PREFERENCE.match(text, at)) is not None:
                given.setdefault(found[1].lower(), (found[2] or "").strip('"'))
                at = found.end()
        wait = given.get("wait", "")
        return cls("respond-async" in given, int(wait) if _SECONDS.fullmatch(wait) else None)
