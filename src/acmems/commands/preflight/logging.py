"""Whether the log can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from acmems.config import Configuration
from acmems.logs.handlers import JOURNAL, SYSLOG
from acmems.settings.findings import Finding
from acmems.system.permissions import is_read_only, unwritable, user_name

_SOCKETS = {"journal": JOURNAL, "syslog": SYSLOG}


def check(config: Configuration) -> Iterator[Finding]:
    """Yield what is wrong with the destination of the log."""
    destination = config.logging.destination
    text = _file(destination) if isinstance(destination, Path) else _socket(destination)
    if text is not None:
        yield Finding(config.where("logging", None, "destination"), text)


def _socket(name: str) -> str | None:
    path = _SOCKETS.get(name)
    if path is None or os.path.exists(path):  # noqa: PTH110 - which says no where it may not look
        return None
    return f"there is no {name} on this machine ({path}): write 'destination = stderr', or the path of a file"


def _file(path: Path) -> str | None:
    if not os.path.isdir(path.parent):  # noqa: PTH112 - the same
        return f"the directory of the log file {path} does not exist: create it"
    written = path if os.path.exists(path) else path.parent  # noqa: PTH110 - the same
    if os.path.isdir(path):  # noqa: PTH112 - the same
        return f"the log file {path} is a directory"
    if os.access(written, os.W_OK if written is path else os.W_OK | os.X_OK):
        return None
    if written is path:
        return f"the log file {path} cannot be written: {unwritable(path)}"
    if is_read_only(path.parent):
        return f"the log file {path} cannot be made: {unwritable(path.parent)}"
    user = user_name(os.geteuid())
    return (
        f"the log file {path} cannot be made, because the user {user} may not write to {path.parent}: give "
        f"it a directory of its own (install -d -o {user} -m 0750 {path.parent / path.stem})"
    )
