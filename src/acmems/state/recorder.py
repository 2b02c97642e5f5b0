"""Takes note of events for the state: next to nothing is done while a request waits."""

from __future__ import annotations

import datetime
import itertools
import logging
import math
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from acmems.events import (
    AcmeAccountEvent,
    AdministeredEvent,
    DeferredEvent,
    DeliveredEvent,
    Event,
    FailedEvent,
    IssuedEvent,
    NotIssuedEvent,
    RefusedEvent,
    RequestedEvent,
)
from acmems.exceptions import StateUnavailable
from acmems.state.allowance import Allowance
from acmems.state.events import PAGE, EventRecord, EventRecords, event_id
from acmems.system.clock import SYSTEM, Clock
from acmems.system.threads import PeriodicThread
from acmems.text import one_line

logger = logging.getLogger(__name__)

RECORD_SECONDS = 5.0
"""Seconds between two calls of `EventRecorder.turn`."""
REPEAT_SECONDS = 60.0
"""For so long, what happens again in the same way is summed up in one row."""
OTHERS = "others"
"""The client of the row that sums up refusals which have none of their own."""

_FULL = 2_000  # rows that are written without waiting for the next turn
_MOST = 20_000  # rows that are kept in memory
_MOST_REPEATED = 2_000  # of which is known that they were written lately
_FORGET_SECONDS = 60.0  # between two looks for events that are too old
_CLOSE_SECONDS = 5.0  # for which a transaction that goes on is waited for
_LONGEST_REASON = 2_000  # characters; the log has all of it
_STRANGERS_NAMES = 10  # that are kept of a refusal; the log has all of them


def _told_of_act(event: AdministeredEvent) -> str:
    words = f"{event.act} by {event.who}"
    return f"{words}: {event.reason[:_LONGEST_REASON]}" if event.reason else words


def _told_of_account(event: AcmeAccountEvent) -> str:
    bound = "" if event.external_account is None else f", bound to {event.external_account}"
    return f"account {event.acme_account}{bound}"


_Told = tuple[int | None, str | None, str | None]  # status, outcome, reason
_Way = tuple[str, str, str | None, tuple[str, ...], int | None, str | None, str | None]

# What is not here, such as the answers to challenges, is not kept: strangers make as many as they like.
TOLD: Mapping[type[Event], Callable[[Any], _Told]] = {
    RequestedEvent: lambda _: (None, None, None),
    RefusedEvent: lambda event: (event.status, None, event.reason[:_LONGEST_REASON]),
    IssuedEvent: lambda _: (None, None, None),
    NotIssuedEvent: lambda event: (None, None, event.reason[:_LONGEST_REASON]),
    DeferredEvent: lambda event: (event.status, None, None),
    DeliveredEvent: lambda event: (event.status, event.source, None),
    AdministeredEvent: lambda event: (None, event.outcome, _told_of_act(event)),
    AcmeAccountEvent: lambda event: (None, event.act, _told_of_account(event)),
    FailedEvent: lambda event: (event.status, event.stage, event.reason[:_LONGEST_REASON]),
}
"""What rows tell of the kinds of events that are kept."""


_OTHERS: _Way = (RefusedEvent.word, OTHERS, None, (), None, None, "no auth block had accepted them")
_STRANGE = (RefusedEvent, FailedEvent)  # what strangers can cause


@dataclass(slots=True)
class _Happening:
    """How often something happened in one way since that was last written, and the first time."""

    at: datetime.datetime
    account: str | None
    reference: str
    count: int = 1


class EventRecorder:
    """Writes events to the state; subscribed to the bus, and called from time to time.

    Events that are alike become one row, which is written with others at the next turn. Where the state
    cannot be written, rows are kept in memory, up to a limit.

    Args:
        records: where events are kept.
        keep: returns for how long.
        node: what this server is called, None for the name of the host.
        clock: for times.

    Attributes:
        thread: calls `turn`.
    """

    def __init__(
        self,
        records: EventRecords,
        keep: Callable[[], datetime.timedelta],
        *,
        node: str | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._records = records
        self._keep = keep
        self._node = socket.gethostname() if node is None else node
        self._clock = clock
        self._mark = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._next_forgetting = -math.inf
        # Guards what follows; a write that fails at once calls back within.
        self._lock = threading.RLock()
        self._allowance = Allowance()
        self._happenings: dict[_Way, _Happening] = {}  # oldest first
        self._new = 0  # of these, since the last write
        self._written: dict[_Way, float] = {}  # when what happened in that way was last written
        self._unwritten: list[EventRecord] = []  # which could not be written, oldest first
        self._writing: futures.Future[None] | None = None
        self._batch: list[EventRecord] = []  # which is being written
        self._lost = 0
        self.thread = PeriodicThread(
            "acmems-events",
            self.turn,
            RECORD_SECONDS,
            longest_pause=RECORD_SECONDS,
            delay=RECORD_SECONDS,
            clock=clock,
        )

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        told = TOLD.get(type(event))
        if told is None:
            return
        status, outcome, reason = told(event)
        way = (event.word, event.client, event.block, event.names, status, outcome, reason)
        with self._lock:
            known = self._happenings.get(way)
            if known is not None:
                known.count += 1
                return
            self._note_new(way, event)
            is_full = self._new >= _FULL and self._writing is None and not self._unwritten
        if is_full:
            self._write()

    def turn(self) -> None:
        """Have what has happened written, and remove what is too old."""
        self._write()
        now = self._clock.monotonic()
        if now >= self._next_forgetting:
            self._next_forgetting = now + _FORGET_SECONDS
            self._records.forget(self._clock.now() - self._keep()).add_done_callback(self._note_forgotten)

    def close(self) -> None:
        """Have everything written that is not; whoever closes the database waits for that."""
        if (writing := self._writing) is not None:
            futures.wait([writing], _CLOSE_SECONDS)
        self._write(everything=True)

    def _note_new(self, way: _Way, event: Event) -> None:
        """Take note of what has not happened in this way since the last write."""
        reference = event.reference
        if event.block is None and isinstance(event, _STRANGE):
            way = (*way[:3], way[3][:_STRANGERS_NAMES], *way[4:])
            if way not in self._happenings and not self._allowance.admits(
                event.client, self._clock.monotonic()
            ):
                way, reference = _OTHERS, "-"
        known = self._happenings.get(way)
        if known is not None:
            known.count += 1
            return
        self._happenings[way] = _Happening(self._clock.now(), event.account, reference)
        self._new += 1
        if len(self._happenings) + len(self._unwritten) > _MOST:
            self._lose()

    def _write(self, *, everything: bool = False) -> None:
        """Begin to write what waits for it, unless that is going on.

        Args:
            everything: also what was written a moment ago and has happened again.
        """
        self._settle()
        with self._lock:
            if self._writing is not None:
                return
            batch = [*self._unwritten, *self._taken(everything=everything)]
            if not batch:
                return
            self._batch, self._unwritten = batch, []
            writing = self._writing = self._records.add(batch)
        writing.add_done_callback(lambda _: self._settle())

    def _settle(self) -> None:
        """Take note of how writing ended, if it has."""
        with self._lock:
            writing = self._writing
            if writing is None or not writing.done():
                return
            batch, self._batch, self._writing = self._batch, [], None
            error = writing.exception()
            if isinstance(error, StateUnavailable):
                self._unwritten = batch
                return
            lost, self._lost = self._lost, 0
        if error is not None:
            logger.error("%d rows of events are lost by a bug", len(batch), exc_info=error)
        if lost:
            logger.warning("%d events are lost: the state could not be written for too long", lost)

    def _taken(self, *, everything: bool) -> list[EventRecord]:
        """Return what is to be written now, and keep the rest."""
        now = self._clock.monotonic()
        self._written = {way: at for way, at in self._written.items() if now - at < REPEAT_SECONDS}
        kept, records = {}, []
        for way, happening in self._happenings.items():
            if way in self._written and not everything:
                kept[way] = happening
                continue
            records.append(self._record(way, happening))
            if len(self._written) < _MOST_REPEATED:
                self._written[way] = now
        self._happenings, self._new = kept, 0
        return records

    def _record(self, way: _Way, happening: _Happening) -> EventRecord:
        word, client, block, names, status, outcome, reason = way
        return EventRecord(
            id=event_id(self._clock.now(), next(self._numbers), self._mark),
            at=happening.at,
            word=word,
            client=one_line(client),
            block=block,
            names=names,
            account=happening.account,
            reference=happening.reference,
            status=status,
            outcome=outcome,
            reason=None if reason is None else one_line(reason, _LONGEST_REASON),
            count=happening.count,
            node=self._node,
        )

    def _lose(self) -> None:
        """Forget some of what waits: refusals first, and of these the oldest."""
        refusals = [each for each in self._unwritten if each.word == RefusedEvent.word]
        chosen = (refusals or self._unwritten)[: _MOST // 10]
        if chosen:
            ids = {each.id for each in chosen}
            self._unwritten = [each for each in self._unwritten if each.id not in ids]
            self._lost += sum(each.count for each in chosen)
            return
        ways = [way for way in self._happenings if way[0] == RefusedEvent.word] or list(self._happenings)
        self._lost += sum(self._happenings.pop(way).count for way in ways[: _MOST // 10])

    def _note_forgotten(self, forgotten: futures.Future[int]) -> None:
        """Go on at the next turn where there is more."""
        if forgotten.exception() is None and forgotten.result() >= PAGE:
            self._next_forgetting = -math.inf
