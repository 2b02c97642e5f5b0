"""The log: one line an event, as text or JSON, to where an operator reads it.

A line is a time, a level, words, and `key=value` pairs. What comes from outside stands in pairs, which
any module adds with

    logger.warning("what happened", extra={"fields": {"path": path}})
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from acmems.events import DeliveredEvent, Event, FailedEvent, IssuedEvent, RefusedEvent, RequestedEvent
from acmems.exceptions import AcmeException
from acmems.logs.formats import JsonFormatter, TextFormatter
from acmems.logs.handlers import Handler, open_handler
from acmems.logs.options import LoggingOptions
from acmems.system.terminal import wants_colour

_logger = logging.getLogger(__name__)
_events = logging.getLogger("acmems.events")

_LEVELS: Mapping[type[Event], int] = {
    RequestedEvent: logging.DEBUG,
    RefusedEvent: logging.WARNING,
    IssuedEvent: logging.INFO,
    DeliveredEvent: logging.INFO,
    FailedEvent: logging.ERROR,
}
_RENAMED = {"reference": "ref"}
_names: dict[type[Event], tuple[tuple[str, str], ...]] = {}


def configure(options: LoggingOptions) -> None:
    """Log as the configuration says, from now on.

    Raises:
        AcmeException: the destination cannot be written to.
    """
    try:
        handler = open_handler(options.destination)
    except OSError as error:
        reason = error.strerror or error
        raise AcmeException(f"cannot log to {options.destination}: {reason}") from error
    stream = getattr(handler, "stream", None)
    colour = stream is not None and wants_colour(stream)
    plain = options.destination in {"syslog", "journal"}  # these note time and level themselves
    handler.setFormatter(JsonFormatter() if options.format == "json" else TextFormatter(colour, plain))
    logger = logging.getLogger("acmems")
    logger.setLevel(options.level.upper())
    # Libraries' warnings go the same way: on their own they would reach stderr unescaped.
    root = logging.getLogger()
    before = root.handlers
    # At once: a line that another thread logs now goes to the one or to the other.
    root.handlers = [*(each for each in before if not isinstance(each, Handler)), handler]
    for old in before:
        if isinstance(old, Handler):
            old.close()
    # No line tells thread or process: finding them out costs each line a system call and more.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def mute() -> None:
    """Log nothing before `configure`; the logging module would print warnings to stderr, with tracebacks."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())


def destination() -> str | Path | None:
    """Return where `configure` has let the log go; None before that."""
    ours = [handler for handler in logging.getLogger().handlers if isinstance(handler, Handler)]
    return ours[-1].destination if ours else None


@contextlib.contextmanager
def uncaught() -> Iterator[None]:
    """Log what threads die of and destructors raise; Python prints it to stderr, with tracebacks."""
    hooks = threading.excepthook, sys.unraisablehook

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else "that has ended"
            _logger.error("a bug ended the thread %s", name, exc_info=arguments.exc_value)

    def in_destructor(arguments: sys.UnraisableHookArgs) -> None:
        _logger.error("a bug in a destructor", exc_info=arguments.exc_value)

    threading.excepthook, sys.unraisablehook = in_thread, in_destructor
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks


def log_event(event: Event) -> None:
    """Log one event."""
    level = _LEVELS.get(type(event), logging.INFO)
    if not event.is_logged or not _events.isEnabledFor(level):
        return
    values = {name: getattr(event, field) for name, field in _named(type(event))}
    bug = values.pop("bug", None)
    kept = {name: value for name, value in values.items() if value not in (None, ())}
    # `log` would look for its caller in the stack, which costs too much for thousands of lines a second.
    information = (type(bug), bug, bug.__traceback__) if bug is not None else None
    record = _events.makeRecord(
        _events.name,
        level,
        __file__,
        0,
        event.word,
        (),
        information,
        extra={"fields": kept},
    )
    _events.handle(record)


def _named(kind: type[Event]) -> Iterable[tuple[str, str]]:
    """Return the names that the fields of an event have in the log, with those fields."""
    if kind not in _names:
        logged = [field.name for field in fields(kind) if field.metadata.get("logged", True)]
        _names[kind] = tuple((_RENAMED.get(name, name), name) for name in logged)
    return _names[kind]
