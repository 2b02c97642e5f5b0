"""Who does not answer is not asked again for a while, which grows as long as that goes on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from acmems.system.clock import SYSTEM, Clock

FIRST = 60.0
"""Seconds of the first silence."""
LONGEST = 3600.0
"""Seconds of the longest one."""
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class _Silence:
    until: float
    length: float


class Silences:
    """Remembers who did not answer.

    Args:
        clock: for how long.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._silences: OrderedDict[Hashable, _Silence] = OrderedDict()
        self._lock = threading.Lock()

    def lasts(self, who: Hashable) -> bool:
        """Tell whether somebody is not to be asked."""
        found = self._silences.get(who)
        return found is not None and self._clock.monotonic() < found.until

    def note(self, who: Hashable) -> float | None:
        """Take note that somebody did not answer; return the seconds of a silence that begins with that."""
        now = self._clock.monotonic()
        with self._lock:
            before = self._silences.pop(who, None)
            if before is not None and now < before.until:  # asked before it began: the same one
                self._silences[who] = before
                return None
            is_first = before is None or now - before.until > LONGEST
            length = FIRST if is_first or before is None else min(2 * before.length, LONGEST)
            self._silences[who] = _Silence(now + length, length)
            while len(self._silences) > _MOST:
                self._silences.popitem(last=False)
        return length

    def end(self, who: Hashable) -> None:
        """Take note that somebody answers."""
        if who in self._silences:
            with self._lock:
                self._silences.pop(who, None)
