"""What commands tell a person: results on stdout, problems and questions on stderr, one line each."""

from __future__ import annotations

import sys

from acmems.system.terminal import Colour, coloured, wants_colour
from acmems.text import printable


def tell(line: str) -> None:
    """Print a result; who reads a pipe or a file has it at once, too, while the command goes on."""
    print(line, flush=True)  # noqa: T201 - what a person reads


def complain(line: str) -> None:
    """Print a problem as one line, in red where that is wanted, whoever its words are from."""
    line = printable(line)
    red = coloured(line, Colour.RED) if wants_colour(sys.stderr) else line
    print(red, file=sys.stderr)  # noqa: T201 - what a person reads


def note(line: str) -> None:
    """Print how something gets on, on stderr."""
    print(printable(line), file=sys.stderr)  # noqa: T201 - what a person reads


def confirmed(question: str) -> bool:
    """Ask a person, and tell whether the answer is "yes"; anything else is no.

    Args:
        question: what to ask, on one line.
    """
    print(f"{question} Type 'yes': ", end="", file=sys.stderr, flush=True)  # noqa: T201 - what a person reads
    return sys.stdin.readline().strip().lower() == "yes"
