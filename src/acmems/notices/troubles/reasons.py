"""Whether two reasons are the same but for whom they are about."""

from __future__ import annotations

import hashlib
import re

# Each begins where a word does, so that a long word is looked at once and not from each of its letters.
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]*://\S+")
_TIME = re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]?(?:\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:Z| UTC)?")
_NAME = re.compile(r"(?<![A-Za-z0-9_.-])(?:\*\.)?(?:[A-Za-z0-9_-]+\.)+[A-Za-z][A-Za-z0-9-]*\.?")
_ADDRESS = re.compile(
    r"(?<![0-9A-Fa-f:])\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:]*[0-9A-Fa-f]\]?(?::\d+)?|\b\d+\.\d+\.\d+\.\d+(?::\d+)?"
)
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*\d)[A-Za-z0-9_-]{16,}")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_REPEATED = re.compile(r"(…)(?:[\s,;]*…)+")
_LONGEST = 2000


def pattern_of(reason: str) -> str:
    """Return a reason without what differs from certificate to certificate.

    These are names, addresses, URLs, times, tokens and numbers; what several names are told is told once.

    Args:
        reason: why a renewal has failed.
    """
    text = reason[:_LONGEST]
    for each in (_URL, _TIME, _NAME, _ADDRESS, _QUOTED, _TOKEN, _NUMBER):
        text = each.sub("…", text)
    parts = dict.fromkeys(" ".join(part.split()) for part in text.split("; "))
    return _REPEATED.sub(r"\1", "; ".join(parts))


def digest_of_pattern(pattern: str) -> str:
    """Return a short text that stands for a pattern."""
    return hashlib.sha256(pattern.encode()).hexdigest()[:16]
