"""The log of events: each has its line, but for those that come by the thousand and say the same."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from acmems.events import Event, FailedEvent, RefusedEvent
from acmems.net.listening.shares import share_of

_LINES_OF_ONE = 10
"""Refusals of one address that are logged one by one between two sums."""
_LINES = 100
"""Refusals of all addresses that are logged one by one between two sums."""
_MOST_ADDRESSES = 1000
"""Addresses that are counted by themselves between two sums."""

_LINES_OF_FAILURE = 10
"""Failures for the same reason that are logged one by one between two sums."""
_MOST_FAILURES = 1000
"""Reasons that are counted between two sums; what fails for others has a line each."""
_LONGEST_REASON = 500
"""Characters by which reasons are told apart."""

logger = logging.getLogger("acmems.events")


class EventLog:
    """Logs events; subscribed to the bus.

    What no auth block has accepted anyone can send, as often as they like. So the first refusals of an
    address are logged as they are, and what comes beyond is only counted, until `tell` sums it up. The same
    holds for what fails for one reason: a disk that is full is not told once for each machine that asks.

    Args:
        log: logs one event.
    """

    def __init__(self, log: Callable[[Event], None]) -> None:
        self._log = log
        self._lock = threading.Lock()  # guards what follows
        self._lines: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()  # by address
        self._statuses: Counter[int] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()  # by stage and reason

    def __call__(self, event: Event) -> None:
        """Log an event, or count it."""
        if isinstance(event, RefusedEvent):
            has_line = event.block is not None or self._has_line(event)
        elif isinstance(event, FailedEvent):
            has_line = event.bug is not None or self._is_news(event)
        else:
            has_line = True
        if has_line:
            self._log(event)

    def tell(self) -> None:
        """Log how many events were only counted, and begin to log them one by one again."""
        with self._lock:
            unlogged, statuses, failures = self._unlogged, self._statuses, self._failures
            self._lines, self._unlogged, self._statuses = Counter(), Counter(), Counter()
            self._failures = Counter()
        self._tell_refused(unlogged, statuses)
        for (stage, reason), count in failures.items():
            if count > _LINES_OF_FAILURE:
                told = {"count": count - _LINES_OF_FAILURE, "stage": stage, "reason": reason}
                logger.error("failed for the same reason without a line each", extra={"fields": told})

    def _tell_refused(self, unlogged: Counter[str], statuses: Counter[int]) -> None:
        if not unlogged:
            return
        ((address, most),) = unlogged.most_common(1)
        fields = {
            "count": unlogged.total(),
            "statuses": [f"{status}:{count}" for status, count in sorted(statuses.items())],
            "clients": len(unlogged),
            "most": most,
            "client": address,
        }
        logger.warning("refused without a line each", extra={"fields": fields})

    def _is_news(self, event: FailedEvent) -> bool:
        key = (event.stage, event.reason[:_LONGEST_REASON])
        with self._lock:
            if key in self._failures or len(self._failures) < _MOST_FAILURES:
                self._failures[key] += 1
            return self._failures[key] <= _LINES_OF_FAILURE

    def _has_line(self, event: RefusedEvent) -> bool:
        address = share_of(event.client)
        with self._lock:
            if self._lines[address] < _LINES_OF_ONE and self._lines.total() < _LINES:
                self._lines[address] += 1
                return True
            counted = address in self._unlogged or len(self._unlogged) < _MOST_ADDRESSES
            self._unlogged[address if counted else "others"] += 1
            self._statuses[event.status] += 1
            return False
