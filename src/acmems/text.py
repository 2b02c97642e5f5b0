"""Texts that need care: input of strangers, made printable, and secrets, which are never printed."""

from __future__ import annotations

_LONGEST = 500


def one_line(text: object, longest: int = _LONGEST) -> str:
    """Return a stranger's text as one printable line, safe to log and to pass on."""
    line = " ".join(printable(str(text)[: 4 * longest]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def printable(text: str) -> str:
    """Return a text with a space in the place of each character that a terminal might act on."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " for c in text)


class Secret:
    """A secret text that no log, repr or error shows.

    Args:
        value: the secret itself.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret, to compute with and never to print."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)
