"""What was refused lately is not asked again at once: a broken client must not burn a CA's limits."""

from __future__ import annotations

import copy
import datetime
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from acmems.exceptions import AcmeException
from acmems.state.limits.pauses import PauseRecord
from acmems.system.clock import Clock


class PauseMemory(Protocol):
    """Remembers pauses over a restart, and shares them with other servers; its methods return at once."""

    def put(self, pause: PauseRecord) -> None:
        """Remember a pause, in place of the last one of its subject."""

    def remove(self, subjects: Sequence[str]) -> None:
        """Forget the failures of some subjects."""


@dataclass(frozen=True, slots=True)
class _Pause:
    until: float
    length: float
    failures: int
    error: AcmeException


def _again(error: AcmeException, seconds: float, now: datetime.datetime) -> AcmeException:
    """Return an error like this one that says when it is tried again; the first one belongs to its raiser."""
    again = copy.copy(error)
    vars(again).update(retry_after=seconds, tried_again=now + datetime.timedelta(seconds=seconds))
    return again


class Cooldown:
    """Pauses after failures, each twice as long as the one before it.

    Args:
        clock: for the pauses.
        first: the first pause, in seconds.
        longest: the longest, in seconds.
        most: how many subjects are remembered.
        memory: remembers them over a restart, None for nothing.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        first: float = 30.0,
        longest: float = 3600.0,
        most: int = 10_000,
        memory: PauseMemory | None = None,
    ) -> None:
        self._memory = memory
        self.clock = clock
        self.first = first
        self.longest = longest
        self._most = most
        self._pauses: OrderedDict[str, _Pause] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has failed lately, so that no subject need be looked for."""
        return not self._pauses

    def check(self, subjects: Iterable[str]) -> None:
        """Raise what was wrong with one of these, while its pause lasts.

        Args:
            subjects: what is to be tried, such as the names of a request.

        Raises:
            AcmeException: the error of the last try, its `retry_after` set to the seconds left, and its
                `tried_again` to the time at which they are over (aware).
        """
        now = self.clock.monotonic()
        with self._lock:
            pauses = [self._pauses[subject] for subject in subjects if subject in self._pauses]
        for pause in pauses:
            if pause.until > now:
                raise _again(pause.error, pause.until - now, self.clock.now())

    def failures(self, subject: str) -> int:
        """Return how often something has failed in a row, whether that led to a pause or not."""
        with self._lock:
            pause = self._pauses.get(subject)
        if pause is None or self.clock.monotonic() - pause.until > self.longest:
            return 0
        return pause.failures

    def note(
        self,
        subject: str,
        error: AcmeException,
        seconds: float | None = None,
        *,
        free: int = 0,
        first: float | None = None,
        longest: float | None = None,
    ) -> float:
        """Begin a pause, or count a failure that does not lead to one yet.

        Where the last pause ended longer ago than the longest pause takes, this is a first failure again.

        Args:
            subject: what failed.
            error: how; raised by `check` during the pause.
            seconds: how long, if the CA said so; else longer each time.
            free: how many failures lead to no pause.
            first: the first pause in seconds, where it is to be another than usual.
            longest: the longest, in the same way.

        Returns:
            how long the pause is, in seconds; 0 for a failure that leads to none yet.
        """
        now = self.clock.monotonic()
        with self._lock:
            before = self._pauses.pop(subject, None)
            if before is not None and now - before.until > self.longest:
                before = None
            # What fails while a pause lasts was begun before it: the same failure, not another one.
            is_same = before is not None and before.until > now
            failures = (before.failures if before else 0) + (0 if is_same else 1)
            length = 0.0
            if failures > free:
                length = self.first if first is None else first
                if before is not None and before.length:
                    length = before.length * (1 if is_same else 2)
                length = min(
                    self.longest if longest is None else longest,
                    length if seconds is None else max(seconds, 1.0),
                )
            # A copy: the traceback of the first one would keep all that its raiser had at hand.
            self._put(subject, _Pause(now + length, length, failures, copy.copy(error)))
        if self._memory is not None:
            self._memory.put(PauseRecord(subject, error, failures, length, length))
        return length

    def lasting(self) -> list[str]:
        """Return what is paused at the moment."""
        now = self.clock.monotonic()
        with self._lock:
            pauses = list(self._pauses.items())
        return [subject for subject, pause in pauses if pause.until > now]

    def clear(self, subjects: Iterable[str]) -> None:
        """Forget the failures of these: they work.

        Args:
            subjects: what succeeded.
        """
        with self._lock:
            found = [subject for subject in subjects if self._pauses.pop(subject, None) is not None]
        if found and self._memory is not None:
            self._memory.remove(found)

    def replace(self, subjects: Iterable[str], records: Iterable[PauseRecord]) -> None:
        """Go by what is remembered of some subjects: another server may have changed it.

        Args:
            subjects: the subjects.
            records: what is remembered of them, and nothing else.
        """
        now = self.clock.monotonic()
        with self._lock:
            for subject in subjects:
                self._pauses.pop(subject, None)
            for each in records:
                self._put(each.subject, _Pause(now + each.left, each.length, each.failures, each.error))

    def _put(self, subject: str, pause: _Pause) -> None:
        self._pauses[subject] = pause
        while len(self._pauses) > self._most:
            self._pauses.popitem(last=False)
