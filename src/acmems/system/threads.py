"""Threads that must live as long as the server: they survive errors, and it shows when they hang."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Protocol

from acmems.exceptions import AcmeException
from acmems.system.clock import SYSTEM, Clock

logger = logging.getLogger(__name__)

_REPEAT = 3600.0  # seconds after which an error of the same kind is logged again
_LONGEST_TURN = 1800.0  # seconds; the calls of a slow DNS provider may take minutes


class HealthCheck(Protocol):
    """What has threads that must live."""

    @property
    def name(self) -> str:
        """What it is called in the log."""

    def is_healthy(self) -> bool:
        """Tell whether all of its threads live and none hangs."""


class Progress:
    """When a thread that works in turns last got on.

    Args:
        longest: seconds without progress after which a turn hangs.
        clock: for these seconds.
    """

    __slots__ = ("_clock", "_longest", "_since")

    def __init__(self, longest: float, clock: Clock) -> None:
        self._longest = longest
        self._clock = clock
        self._since: float | None = None  # when the running turn last got on; None between turns

    def note(self, now: float | None = None) -> None:
        """Take note that a turn begins or gets on.

        Args:
            now: the time by the monotonic clock, where it is known already.
        """
        self._since = self._clock.monotonic() if now is None else now

    def end(self) -> None:
        """Take note that the turn is over."""
        self._since = None

    @property
    def is_stuck(self) -> bool:
        """Whether a turn hangs. For any thread."""
        since = self._since
        return since is not None and self._clock.monotonic() - since > self._longest


class Turns:
    """The turns of a thread that works in a loop.

    An error ends one turn and not the thread. It is logged once an hour, since most errors, such as a
    read-only disk, stay the same from turn to turn.

    Args:
        name: what the thread is called in the log.
        longest: seconds without progress after which a turn hangs.
        clock: for these times.
    """

    def __init__(self, name: str, *, longest: float = _LONGEST_TURN, clock: Clock = SYSTEM) -> None:
        self.name = name
        self._clock = clock
        self._progress = Progress(longest, clock)
        self._told: dict[Hashable, float] = {}  # when an error of a kind was last logged

    def run(self, turn: Callable[[], None]) -> bool:
        """Run one turn; return whether it ended without an error."""
        self._progress.note()
        try:
            turn()
        except Exception as error:  # noqa: BLE001 - whatever it is, the next turn may go well
            self._tell(error)
            return False
        finally:
            self._progress.end()
        return True

    def progress(self) -> None:
        """Take note that the running turn gets on; a long one calls this after each of its steps."""
        self._progress.note()

    @property
    def is_stuck(self) -> bool:
        """Whether a turn hangs."""
        return self._progress.is_stuck

    def _tell(self, error: Exception) -> None:
        now = self._clock.monotonic()
        kind = (type(error), getattr(error, "errno", None))
        if kind in self._told and now - self._told[kind] < _REPEAT:
            return
        self._told[kind] = now
        if isinstance(error, AcmeException | OSError):
            logger.warning("%s: %s", self.name, error)
        else:
            logger.error("%s: a bug", self.name, exc_info=error)


class PeriodicThread:
    """Calls a function again and again, in a thread of its own.

    Args:
        name: what the thread is called.
        turn: the function; its errors are logged.
        pause: seconds between two calls; doubled after each error.
        longest_pause: seconds between two calls at most.
        delay: seconds before the first call.
        longest_turn: seconds without progress after which a call hangs.
        clock: for these times.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], None],
        pause: float,
        *,
        longest_pause: float | None = None,
        delay: float = 0.0,
        longest_turn: float = _LONGEST_TURN,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self._turn = turn
        self._pause = pause
        self._longest_pause = 10 * pause if longest_pause is None else longest_pause
        self._delay = delay
        self._clock = clock
        self._turns = Turns(name, longest=longest_turn, clock=clock)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Make no further call; one that is going on is not waited for."""
        self._closing.set()

    def progress(self) -> None:
        """Take note that the call gets on; a function with many steps calls this after each of them."""
        self._turns.progress()

    def is_healthy(self) -> bool:
        """Tell whether the thread lives and no call hangs."""
        return self._thread.is_alive() and not self._turns.is_stuck

    def _run(self) -> None:
        pause = self._delay
        while not self._clock.wait(self._closing, pause):
            good = self._turns.run(self._turn)
            pause = self._pause if good else min(2 * max(pause, self._pause), self._longest_pause)
