"""Secrets that could be guessed."""

from __future__ import annotations

import math
from collections import Counter

from acmems.settings.options import Options
from acmems.text import Secret

# 12 random bytes in base64, or 8 in hexadecimal, have more; what a person makes up has less as a rule.
_SHORTEST_SECRET, _FEWEST_CHARACTERS, _FEWEST_BITS = 16, 6, 40.0


def warn_of_weakness(options: Options, key: str, secret: Secret | None, danger: str) -> None:
    """Warn of a secret that could be guessed; its words never show it.

    Args:
        options: the section.
        key: the key that gives it.
        secret: the secret.
        danger: who could guess it.
    """
    text = secret.reveal() if secret is not None else ""
    if not text:
        return
    if text[0] == text[-1] and text[0] in "\"'":
        options.report(f"{key}: the quotes are part of the secret", key, warning=True)
    if len(text) < _SHORTEST_SECRET or len(set(text)) < _FEWEST_CHARACTERS or _bits(text) < _FEWEST_BITS:
        options.report(
            f"{key}: this secret is short or repeats itself, {danger}: make one with 'openssl rand -hex 32'",
            key,
            warning=True,
        )


def _bits(text: str) -> float:
    """Return Shannon's entropy of a text, from how often it has each character."""
    size = len(text)
    return sum(-count * math.log2(count / size) for count in Counter(text).values())


def parse_secret(text: str) -> Secret:
    """Parse a secret that is not empty."""
    if not text:
        raise ValueError("an empty secret protects nothing: make one with 'openssl rand -hex 32'")
    return Secret(text)
