"""What OpenSSL says of a failure, for a person."""

from __future__ import annotations

import re
import ssl

_ABOUT_PYTHON = re.compile(r"^\[[^\]]*\] ?| ?\(_ssl\.c:\d+\)$")  # where Python has met it


def words_of(error: ssl.SSLError) -> str:
    """Return what OpenSSL says, in small letters; never nothing.

    Python has names for most of that. For the others, some TLS alerts for instance, there is a text only.
    """
    said = error.reason or _ABOUT_PYTHON.sub("", error.strerror or "")
    return said.replace("_", " ").lower() or "no reason is known"
