"""The log: one line an event, as text or JSON, to where an operator reads it."""

from __future__ import annotations

import datetime
import json
import logging
import logging.handlers
import os
import socket
import sys
import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from acmems.events import Delivered, Event, Failed, Issued, Refused, Requested
from acmems.exceptions import AcmeException

_events = logging.getLogger("acmems.events")

_LEVELS: Mapping[type[Event], int] = {
    Requested: logging.DEBUG,
    Refused: logging.WARNING,
    Issued: logging.INFO,
    Delivered: logging.INFO,
    Failed: logging.ERROR,
}
_RENAMED = {"reference": "ref"}
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
JOURNAL = "/run/systemd/journal/socket"


class LoggingOptions(Protocol):
    """What the configuration says of the log."""

    @property
    def level(self) -> str:
        """The least severity that is logged."""

    @property
    def destination(self) -> str | Path:
        """Where to: `stderr`, `stdout`, `syslog`, `journal`, or a file."""

    @property
    def format(self) -> str:
        """`text` or `json`."""


def configure(options: LoggingOptions) -> None:
    """Log as the configuration says, from now on.

    Args:
        options: what it says.

    Raises:
        AcmeException: the destination cannot be written to.
    """
    try:
        handler = _handler(options.destination)
    except OSError as error:
        reason = error.strerror or error
        raise AcmeException(f"cannot log to {options.destination}: {reason}") from error
    stream = getattr(handler, "stream", None)
    colour = bool(stream is not None and stream.isatty() and not os.environ.get("NO_COLOR"))
    plain = options.destination in {"syslog", "journal"}  # these note time and level themselves
    handler.setFormatter(JsonFormatter() if options.format == "json" else TextFormatter(colour, plain))
    logger = logging.getLogger("acmems")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(options.level.upper())
    logger.propagate = False
    logging.raiseExceptions = False  # a full disk must not fill stderr with tracebacks


def log_event(event: Event) -> None:
    """Log one event; subscribed to the bus.

    Args:
        event: what happened.
    """
    level = _LEVELS.get(type(event), logging.INFO)
    if not _events.isEnabledFor(level):
        return
    values = {_RENAMED.get(field.name, field.name): getattr(event, field.name) for field in fields(event)}
    bug = values.pop("bug", None)
    if values.get("account") is None:
        values.pop("account", None)
    if bug is not None:
        values["traceback"] = "".join(traceback.format_exception(bug))
    kept = {name: value for name, value in values.items() if value not in (None, ())}
    _events.log(level, type(event).__name__.lower(), extra={"fields": kept})


class TextFormatter(logging.Formatter):
    """One line of text: time, level, words, `key=value` pairs; whatever is not printable is escaped.

    Args:
        colour: whether the level is coloured.
        plain: whether time and level are left out.
    """

    def __init__(self, colour: bool = False, plain: bool = False) -> None:
        super().__init__()
        self.colour = colour
        self.plain = plain

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        Args:
            record: what to log.
        """
        parts = [_escaped(record.getMessage())]
        parts += [f"{name}={_quoted(_text(value))}" for name, value in _fields(record).items()]
        line = " ".join(parts)
        if self.plain:
            return line
        level = record.levelname
        if self.colour and record.levelno in _COLOURS:
            level = f"\x1b[{_COLOURS[record.levelno]}m{level}\x1b[0m"
        return f"{_time(record)} {level} {line}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line.

        Args:
            record: what to log.
        """
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        for name, value in _fields(record).items():
            entry[name] = value if isinstance(value, int | float) else _json_value(value)
        return json.dumps(entry)


class JournalHandler(logging.Handler):
    """Sends records to the systemd journal in its own protocol, each pair as a field.

    Args:
        path: the journal's socket.

    Raises:
        OSError: nobody listens there.
    """

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record.

        Args:
            record: what to log.
        """
        entry = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_PRIORITIES.get(record.levelno, 5)),
            "SYSLOG_IDENTIFIER": "acmems",
        }
        entry |= {f"ACMEMS_{name.upper()}": _text(value) for name, value in _fields(record).items()}
        try:
            self._socket.send(b"".join(_journal_field(name, value) for name, value in entry.items()))
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode(errors="replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _handler(destination: str | Path) -> logging.Handler:
    if destination == "stderr":
        return logging.StreamHandler(sys.stderr)
    if destination == "stdout":
        return logging.StreamHandler(sys.stdout)
    if destination == "syslog":
        handler = logging.handlers.SysLogHandler("/dev/log", logging.handlers.SysLogHandler.LOG_DAEMON)
        handler.ident = "acmems: "
        return handler
    if destination == "journal":
        return JournalHandler()
    return logging.handlers.WatchedFileHandler(destination, encoding="utf-8")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = dict(getattr(record, "fields", {}))
    if record.exc_info and "traceback" not in found:
        found["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return found


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_value(value: object) -> object:
    return list(value) if isinstance(value, tuple) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="seconds").replace("+00:00", "Z")
    return str(value)


def _quoted(text: str) -> str:
    if text and text.isprintable() and not any(char in ' "=\\' for char in text):
        return text
    return '"' + _escaped(text).replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()
        for char in text
    )
