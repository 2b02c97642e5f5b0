"""A stranger's text, made fit for one line of a log, a header or an answer."""

from __future__ import annotations

_LONGEST = 500


def one_line(text: object, longest: int = _LONGEST) -> str:
    """Return a stranger's text as one printable line, safe to log and to pass on."""
    printable = "".join(c if c.isprintable() else " " for c in str(text)[: 4 * longest])
    line = " ".join(printable.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
