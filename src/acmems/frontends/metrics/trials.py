"""Whether storages and the state can be written and the CA answers, as it is tried in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.events import Event, IssuedEvent, NotIssuedEvent
from acmems.exceptions import CAUnavailable, ClocksDiffer, StorageUnavailable
from acmems.frontends.metrics.monitored import Monitored
from acmems.storages import Storage
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread

logger = logging.getLogger(__name__)

STORAGE_SECONDS = 15.0
"""Seconds between two trials of a storage, and of the state."""
PATIENCE_SECONDS = 30.0
"""Seconds after which one that has not answered counts as one that cannot be written."""
CA_SECONDS = 300.0
"""Seconds between two looks at a CA that answers."""
DOUBT_SECONDS = 60.0
"""Seconds between two looks at one that does not, or that an order could not reach."""

_ANSWER_SECONDS = 20.0  # in which a CA must answer


@dataclass(slots=True)
class _Trial:
    """The trials of one storage: whether one goes on, and how the last one ended."""

    storage: Storage
    began: float | None = None  # on the monotonic clock; None while none goes on
    is_writable: bool = True  # the start has tried it


class StorageTrials:
    """Tries to write to each storage, in a thread of its own for each: a disk may hang for ever."""

    def __init__(self, monitored: Monitored) -> None:
        self._monitored = monitored
        self._clock: Clock = monitored.clock
        self._trials: dict[str, _Trial] = {}
        self._note_storages()
        self.thread = PeriodicThread("acmems-trials", self.turn, STORAGE_SECONDS, clock=self._clock)

    def turn(self) -> None:
        """Begin a trial of each storage of which none goes on."""
        self._note_storages()
        for name, trial in self._trials.items():
            if trial.began is None:
                trial.began = self._clock.monotonic()
                threading.Thread(
                    target=self._try, args=(name, trial), name="acmems-trial", daemon=True
                ).start()

    def failures(self) -> Iterator[tuple[str, str | None]]:
        """Yield the name of each storage, and why it is not ready in words for strangers, None if it is."""
        now = self._clock.monotonic()
        for name, trial in tuple(self._trials.items()):
            began = trial.began
            if began is not None and now - began > PATIENCE_SECONDS:
                yield name, f"storage '{name}' has not answered for {now - began:.0f} seconds"
            else:
                yield name, None if trial.is_writable else f"storage '{name}' cannot be written"

    def _note_storages(self) -> None:
        """Try those that are configured now, which may be others than before."""
        storages = self._monitored.config.storages
        kept = {name: trial for name, trial in self._trials.items() if storages.get(name) is trial.storage}
        self._trials = {
            name: kept.get(name) or _Trial(storage)
            for name, storage in storages.items()
            if not storage.is_immediate
        }

    def _try(self, name: str, trial: _Trial) -> None:
        error: Exception | None = None
        try:
            trial.storage.check()
        except Exception as raised:  # noqa: BLE001 - whatever it is, the storage is not ready
            error = raised
        if error is not None and trial.is_writable:  # told once, not every few seconds
            is_bug = not isinstance(error, StorageUnavailable)
            logger.warning("not ready: storage '%s': %s", name, error, exc_info=error if is_bug else None)
        elif error is None and not trial.is_writable:
            logger.info("storage '%s' can be written again", name)
        trial.is_writable, trial.began = error is None, None


class StateTrials:
    """Writes to the state from time to time, so that a fault, and its end, show before an order does."""

    def __init__(self, monitored: Monitored) -> None:
        self._monitored = monitored
        self._clock: Clock = monitored.clock
        self._trial: Future[None] | None = None
        self._began = self._clock.monotonic()
        self.thread = PeriodicThread("acmems-state-trials", self.turn, STORAGE_SECONDS, clock=self._clock)

    def turn(self) -> None:
        """Begin a trial if none goes on."""
        state = self._monitored.state
        if state is not None and (self._trial is None or self._trial.done()):
            self._began, self._trial = self._clock.monotonic(), state.check()

    @property
    def failure(self) -> str | None:
        """Why the state is not ready in words for strangers, None if it is."""
        state, seconds = self._monitored.state, self._clock.monotonic() - self._began
        if state is None:
            return None
        if state.failure is not None:
            return "the state cannot be written: nothing is ordered"
        if self._trial is not None and not self._trial.done() and seconds > PATIENCE_SECONDS:
            return f"the state has not answered for {seconds:.0f} seconds: nothing is ordered"
        return None


class CATrials:
    """Asks CAs from time to time whether they are there, and what time it is.

    Attributes:
        answers: whether each did when it was last asked, by the URL of its directory.
    """

    def __init__(self, monitored: Monitored) -> None:
        self.answers: dict[str, bool] = {}
        self._monitored = monitored
        self._clock: Clock = monitored.clock
        self._next: dict[str, float] = {}
        self.thread = PeriodicThread("acmems-ca-trials", self.turn, DOUBT_SECONDS, clock=self._clock)

    def turn(self) -> None:
        """Ask those whose time it is."""
        for directory, issuer in {
            each.options.directory_url: each for each in self._monitored.issuers
        }.items():
            if self._clock.monotonic() >= self._next.get(directory, 0.0):
                answers = issuer.probe(_ANSWER_SECONDS)
                self.answers = {**self.answers, directory: answers}
                self._next[directory] = self._clock.monotonic() + (CA_SECONDS if answers else 0.0)

    def hear(self, event: Event) -> None:
        """Take note of what orders tell of the CA; subscribed to the bus."""
        if isinstance(event, IssuedEvent):
            self.answers = {**self.answers, event.directory: True}
        elif isinstance(event, NotIssuedEvent) and _is_doubtful(event.error):
            self._next[event.directory] = self._clock.monotonic()


def _is_doubtful(error: Exception) -> bool:
    return isinstance(error, CAUnavailable) and not isinstance(error, ClocksDiffer)
