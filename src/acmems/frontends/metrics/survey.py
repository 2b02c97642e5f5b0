"""When the certificates of each auth block are due: found out in the background, a little at a time.

Storages are asked what they keep, and each chain is read once. What is remembered of it takes some 300 bytes,
and its names are not part of that. A scrape finds the sums of the last look.
"""

from __future__ import annotations

import datetime
import logging
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self, get_args

from acmems.auth import Block
from acmems.exceptions import StateUnavailable, StorageUnavailable
from acmems.frontends.metrics.monitored import Monitored
from acmems.frontends.metrics.planned import PlannedTimes, number_of
from acmems.issuing.renewal.due import OVERDUE, effective, overdue_share
from acmems.state.chains.renewals import RenewalRecords
from acmems.storages import Enumerable, Storage
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread
from acmems.x509.chain import Chain

logger = logging.getLogger(__name__)

CertificateState = Literal["fresh", "due", "overdue", "expired"]

LOOK_SECONDS = 15.0
"""Seconds between two looks, if they take little time."""
FORGOTTEN = 2.0
"""And it is not counted any more when, after its end, as much time as that has passed."""

_SHARE = 100  # a look takes at most one part in so many of the time until the next
_REST = 4  # and while it goes on, it rests for so many times as long as it works
_SLICE = 32  # chains, after which it may rest
_WORTH_A_REST = 0.005  # seconds; as long as Python lets a thread run that others wait for


_FORM = struct.Struct("<qiqqqQ?")


class _Known(NamedTuple):
    """What is remembered of a stored chain, as bytes: there may be hundreds of thousands.

    Args:
        version: what the storage says that changes with it.
        block: the number of the first auth block that grants it; below zero: there is none, or it is no
            chain.
        names: a number for its set of names.
        due: when its renewal is, by its lifetime, in seconds since 1970.
        end: when it expires, in the same.
        chain: its `number_of`.
        is_ahead: whether its storage has it renewed before somebody asks.
    """

    version: int
    block: int = -1
    names: int = 0
    due: int = 0
    end: int = 0
    chain: int = 0
    is_ahead: bool = False

    def packed(self) -> bytes:
        """Return it as bytes."""
        return _FORM.pack(*self)

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """Return what was packed."""
        return cls(*_FORM.unpack(packed))


@dataclass(slots=True)
class BlockCertificates:
    """What is known of the certificates of one auth block.

    Args:
        states: how many there are in each state.
        first_due: when the first renewal is due of those that have not expired, None if there is none.
        first_end: when the first of them expires.
        overdue: the largest share that is over of the time from a renewal's being due to the end; from 1 on
            a certificate has expired.
    """

    states: Counter[CertificateState] = field(default_factory=Counter)
    first_due: float | None = None
    first_end: float | None = None
    overdue: float = 0.0

    def add(self, due: float, end: float, now: float) -> None:
        """Count a certificate, unless it was forgotten long ago.

        Args:
            due: when its renewal is due, in seconds since 1970.
            end: when it expires.
            now: the time.
        """
        over = overdue_share(due, end, now)
        if over >= FORGOTTEN:
            return
        self.states[_state(over)] += 1
        self.overdue = max(self.overdue, over)
        if over < 1:
            self.first_due = due if self.first_due is None else min(self.first_due, due)
            self.first_end = end if self.first_end is None else min(self.first_end, end)


def _state(over: float) -> CertificateState:
    if over < 0:
        return "fresh"
    if over < OVERDUE:
        return "due"
    return "overdue" if over < 1 else "expired"


STATES: Sequence[CertificateState] = get_args(CertificateState)


class CertificateSurvey:
    """Looks through storages again and again.

    Attributes:
        blocks: what was found, by the name of the auth block; replaced by each look.
        ended: when the last look ended, None before that.
    """

    def __init__(self, monitored: Monitored) -> None:
        self.blocks: Mapping[str, BlockCertificates] = {}
        self.ended: datetime.datetime | None = None
        self._monitored = monitored
        self._clock: Clock = monitored.clock
        self._closing = threading.Event()
        self._next = self._clock.monotonic()
        self._known: dict[int, bytes] = {}
        self._asked: tuple[Block, ...] | None = None  # the blocks for which that is known
        self.thread = PeriodicThread("acmems-survey", self._turn, LOOK_SECONDS, clock=self._clock)

    def close(self) -> None:
        """Look no more."""
        self._closing.set()
        self.thread.close()

    def _turn(self) -> None:
        if self._clock.monotonic() >= self._next:
            try:
                worked = self.look()
            except StorageUnavailable as error:
                logger.debug("certificates are not counted anew: %s", error)
                return
            self._next = self._clock.monotonic() + _SHARE * worked

    def look(self) -> float:
        """Look through all storages that can tell what they keep; return the seconds that this took.

        Rests are not counted.
        """
        config = self._monitored.config
        if config.auth.blocks is not self._asked:
            self._asked, self._known = config.auth.blocks, {}
        pace = _Pace(self._clock, self._closing, self.thread)
        seen: dict[int, bytes] = {}
        newest: dict[str, dict[int, bytes]] = {
            block.name: {} for block in self._asked if isinstance(block.storage, Enumerable)
        }
        for storage in config.storages.values():
            for key, packed in self._look_through(storage):
                seen[key] = packed
                known = _Known.unpacked(packed)
                if known.block >= 0:
                    kept = newest[self._asked[known.block].name]
                    other = kept.get(known.names)
                    if other is None or _Known.unpacked(other).end < known.end:
                        kept[known.names] = packed
                if not pace.step():
                    return pace.worked
        self._known = seen
        planned = self._planned(pace)
        now = self._clock.now()
        found = {name: BlockCertificates() for name in newest}
        for name, kept in newest.items():
            for known in map(_Known.unpacked, kept.values()):
                found[name].add(_due(known, planned), known.end, now.timestamp())
                pace.step()
        self.blocks, self.ended = found, now
        return pace.end()

    def _planned(self, pace: _Pace) -> PlannedTimes:
        """Return when chains are planned to be renewed; since the last look, CAs may have moved that."""
        planned = PlannedTimes()
        if self._monitored.state is not None:
            try:
                for fingerprint, due, is_told in RenewalRecords(self._monitored.state).planned():
                    planned.add(fingerprint, due, is_told)
                    if not pace.step():
                        break
            except StateUnavailable as error:
                logger.debug("certificates are counted by their lifetimes: %s", error)
        return planned

    def _look_through(self, storage: Storage) -> Iterator[tuple[int, bytes]]:
        """Yield what is known of each chain of a storage; read those that are new."""
        if not isinstance(storage, Enumerable):
            return
        for path, version in storage.entries():
            key = hash((storage.name, path))
            packed = self._known.get(key)
            if packed is None or _Known.unpacked(packed).version != version:
                try:
                    chain = storage.read_entry(path)
                except StorageUnavailable as error:
                    logger.debug("a stored chain is not counted: %s", error)
                    continue
                packed = self._read(version, chain, storage).packed()
            yield key, packed

    def _read(self, version: int, chain: Chain | None, storage: Storage) -> _Known:
        """Return what is to be remembered of a chain.

        It is counted for the first block that keeps its chains here and grants all of its names.
        """
        if chain is not None:
            for number, block in enumerate(self._asked or ()):
                if block.storage is storage and all(map(block.grants, chain.identifiers)):
                    due = int(chain.renewal_time(storage.renew_within).timestamp())
                    end = int(chain.not_after.timestamp())
                    names, name = hash(chain.identifiers), number_of(chain.fingerprint)
                    return _Known(version, number, names, due, end, name, storage.renews_ahead)
        return _Known(version)


def _due(known: _Known, planned: PlannedTimes) -> int:
    """Return when a chain is renewed: by its plan where that counts, else by its lifetime."""
    plan = planned.of(known.chain)
    if plan is None:
        return known.due
    return effective(known.due, plan.due, is_told=plan.is_told, is_ahead=known.is_ahead)


class _Pace:
    """Keeps a long look from taking time that requests need.

    Args:
        clock: for the rests.
        closing: set when the look is to end.
        thread: told that it gets on.
    """

    def __init__(self, clock: Clock, closing: threading.Event, thread: PeriodicThread) -> None:
        self.worked = 0.0
        self._clock = clock
        self._closing = closing
        self._thread = thread
        self._steps = 0
        self._since = clock.monotonic()

    def step(self) -> bool:
        """Rest if that is due; tell whether to go on."""
        self._steps += 1
        if self._steps % _SLICE:
            return True
        if self._clock.monotonic() - self._since >= _WORTH_A_REST:
            before = self.worked
            self._thread.progress()
            rest = _REST * (self.end() - before)
            if self._clock.wait(self._closing, rest):
                return False
            self._since = self._clock.monotonic()
        return True

    def end(self) -> float:
        """Return the seconds of work so far."""
        now = self._clock.monotonic()
        self.worked += now - self._since
        self._since = now
        return self.worked
