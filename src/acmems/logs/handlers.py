"""Where lines go: streams, files, syslog, the journal. A handler that fails says so, and raises nothing."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import socket
import sys
from pathlib import Path
from typing import TextIO

from acmems.logs import formats

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
# The kernel takes datagrams of some 200 kB; the longest list of names is 26 kB.
_LONGEST_JOURNAL_FIELD = 60_000  # bytes


def open_handler(destination: str | Path) -> Handler:
    """Return what writes to a destination.

    Args:
        destination: `stderr`, `stdout`, `syslog`, `journal`, or a file.

    Raises:
        OSError: it cannot be written to.
    """
    handler = _handler(destination)
    handler.destination = destination
    return handler


def _handler(destination: str | Path) -> Handler:
    if destination == "stderr":
        return StreamHandler(sys.stderr)
    if destination == "stdout":
        return StreamHandler(sys.stdout)
    if destination == "syslog":
        return SyslogHandler(SYSLOG)
    if destination == "journal":
        return JournalHandler(JOURNAL)
    return FileHandler(destination, encoding="ascii")


class Handler(logging.Handler):
    """A handler whose failure does not reach the request that logs, and does not go unnoticed."""

    destination: str | Path = ""
    _failing = False

    def handle(self, record: logging.LogRecord) -> bool:
        """Log one record; say it once on stderr when that fails."""
        try:
            return super().handle(record)
        except Exception:  # noqa: BLE001 - logging must not fail, whatever is logged wherever
            self.handleError(record)
            return False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - logging's own signature
        """Say on stderr that lines are being lost, the first time, and without a traceback."""
        if self._failing:
            return
        self._failing = True
        with contextlib.suppress(OSError, ValueError):
            reason = formats.escaped(str(sys.exception()))
            sys.stderr.write(f"acmems: log lines are being lost: {reason}\n")


class StreamHandler(Handler, logging.StreamHandler[TextIO]):
    """Writes to stderr or stdout."""


class FileHandler(Handler, logging.handlers.WatchedFileHandler):
    """Appends to a file, and opens it anew when it was rotated away."""


class SyslogHandler(Handler, logging.handlers.SysLogHandler):
    """Sends lines to the system's log at a socket.

    Raises:
        OSError: nobody listens there.
    """

    ident = "acmems: "

    def __init__(self, path: str) -> None:
        super().__init__(path, self.LOG_DAEMON)
        # SysLogHandler raises nothing when nobody listens, and then drops every line.
        with socket.socket(socket.AF_UNIX, self.socktype or socket.SOCK_DGRAM) as trial:
            trial.connect(path)


class JournalHandler(Handler):
    """Sends records to the systemd journal at a socket in its own protocol, each pair as a field.

    Raises:
        OSError: nobody listens there.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            # Connecting only shows that somebody listens. Lines are sent to the path, so that they also reach
            # a journal that was started anew meanwhile.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as trial:
                trial.connect(path)
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        entry = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(_PRIORITIES.get(record.levelno, 5)),
            "SYSLOG_IDENTIFIER": "acmems",
        }
        for name, value in formats.pairs(record).items():
            entry[f"ACMEMS_{name.upper()}"] = formats.text(value)
        self._socket.sendto(b"".join(_journal_field(*field) for field in entry.items()), self._path)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode(errors="backslashreplace")[:_LONGEST_JOURNAL_FIELD]
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
