"""Colours at a terminal (ECMA-48 section 8.3.117)."""

from __future__ import annotations

import enum
import os
from typing import IO


class Colour(enum.StrEnum):
    """The ways in which text is set off."""

    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"


def wants_colour(stream: IO[str]) -> bool:
    """Tell whether text for a stream may be coloured: it is a terminal, and `NO_COLOR` is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def coloured(text: str, colour: Colour) -> str:
    """Return a text in a colour."""
    return f"\x1b[{colour}m{text}\x1b[0m"
