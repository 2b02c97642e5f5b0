"""How a record becomes a line.

Lines are printable ASCII. So no text, whoever wrote it, can end a line, look like another pair or control a
terminal, and none is lost because an output cannot encode it.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import math
import re
import traceback
from typing import Any

from acmems.system.terminal import Colour, coloured

_AMBIGUOUS = re.compile(r'[="\\]')
_COLOURS = {
    logging.DEBUG: Colour.DIM,
    logging.WARNING: Colour.YELLOW,
    logging.ERROR: Colour.RED,
    logging.CRITICAL: Colour.RED,
}


class TextFormatter(logging.Formatter):
    """One line of text: time, level, words, `key=value` pairs.

    Words that could be taken for pairs are quoted, as are values with blanks; in quotes, escapes are
    those of JSON. Time is UTC, names are separated by commas, seconds have three decimals.

    Args:
        colour: whether the level is coloured.
        plain: whether time and level are left out.
    """

    def __init__(self, colour: bool = False, plain: bool = False) -> None:
        super().__init__()
        self.colour = colour
        self.plain = plain

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        parts = [_words(record.getMessage())]
        parts += [f"{name}={_quoted(text(value))}" for name, value in pairs(record).items()]
        line = " ".join(parts)
        if self.plain:
            return line
        level = record.levelname
        if self.colour and record.levelno in _COLOURS:
            level = coloured(level, _COLOURS[record.levelno])
        return f"{_time(record)} {level} {line}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `message`, and the pairs; lists stay lists."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line for a record."""
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for name, value in pairs(record).items():
            entry.setdefault(name, _json_value(value))
        return escaped(entry)


def pairs(record: logging.LogRecord) -> dict[str, Any]:
    """Return the pairs of a record, its traceback among them."""
    found = dict(getattr(record, "fields", {}))
    if record.exc_info and "traceback" not in found:
        found["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return found


def _time(record: logging.LogRecord) -> str:
    milliseconds = int(record.created * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    """Return a second since 1970 in UTC; busy servers log hundreds of lines in each."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _moment(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _json_value(value: object) -> object:
    if isinstance(value, tuple | list):
        return [text(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if isinstance(value, int | None) else text(value)


def text(value: object) -> str:
    """Return a pair's value as text: seconds with three decimals, times in UTC, lists with commas."""
    if isinstance(value, tuple | list):
        return ",".join(text(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, datetime.datetime):
        return _moment(value)
    return str(value)


def _words(text: str) -> str:
    """Return a message as it is, in quotes where it could be taken for more than words."""
    return text if text.isascii() and text.isprintable() and not _AMBIGUOUS.search(text) else escaped(text)


def _quoted(text: str) -> str:
    """Return a value as it is, in quotes where it could be taken for more than one."""
    return text if text and " " not in text and _words(text) is text else escaped(text)


def escaped(value: object) -> str:
    """Return JSON of printable ASCII only, hence one line."""
    return json.dumps(value)
