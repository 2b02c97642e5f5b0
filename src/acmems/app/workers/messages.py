"""What a supervisor and its worker processes tell each other, as lines of JSON over a pair of sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from acmems.frontends.metrics.snapshot import Family


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker serves.

    Args:
        addresses: what it listens on, for a person.
    """

    addresses: Sequence[str]


@dataclass(frozen=True, slots=True)
class NotStarted:
    """A worker cannot start.

    Args:
        reason: why, for a person.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself: from time to time, and as the answer to `MetricsWanted`.

    Args:
        unhealthy: its threads that have ended or hang.
        lacking: what lacks to serve.
        metrics: its metrics, None where nobody wants them.
    """

    unhealthy: Sequence[str] = ()
    lacking: Sequence[str] = ()
    metrics: Sequence[Family] | None = None


@dataclass(frozen=True, slots=True)
class MetricsWanted:
    """The supervisor wants a report with metrics."""


@dataclass(frozen=True, slots=True)
class WholeWanted:
    """A worker was asked how the server is, and wants to know it of all processes."""


@dataclass(frozen=True, slots=True)
class Whole:
    """How the server is, all processes together.

    Args:
        unhealthy: threads and processes that have ended or hang.
        lacking: what lacks to serve.
        metrics: the metrics of all.
        is_stopping: whether the server stops.
    """

    unhealthy: Sequence[str]
    lacking: Sequence[str]
    metrics: Sequence[Family]
    is_stopping: bool


@dataclass(frozen=True, slots=True)
class Leave:
    """Another process has a worker's place: it finishes what it does, and ends.

    Args:
        seconds: how long that may take.
    """

    seconds: float


Message = Ready | NotStarted | Report | MetricsWanted | WholeWanted | Whole | Leave

_KINDS: Mapping[str, type[Message]] = {
    kind.__name__: kind for kind in (Ready, NotStarted, Report, MetricsWanted, WholeWanted, Whole, Leave)
}


def encoded(message: Message) -> bytes:
    """Return the line for a message."""
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    return json.dumps([type(message).__name__, values]).encode() + b"\n"


class MessageReader:
    """Makes messages of the bytes that come, however those are cut."""

    def __init__(self) -> None:
        self._unread = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are complete with these bytes."""
        self._unread += data
        while (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            kind, values = json.loads(line)
            yield _KINDS[kind](**values)
