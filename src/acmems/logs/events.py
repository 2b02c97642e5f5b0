"""The log of events: each has its line, but for those that strangers can make by the thousand."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

from acmems.events import Event, RefusedEvent
from acmems.net.listening.shares import share_of

_LINES_OF_ONE = 10
"""Refusals of one address that are logged one by one between two sums."""
_LINES = 100
"""Refusals of all addresses that are logged one by one between two sums."""
_MOST_ADDRESSES = 1000
"""Addresses that are counted by themselves between two sums."""

logger = logging.getLogger("acmems.events")


class EventLog:
    """Logs events; subscribed to the bus.

    What no auth block has accepted anyone can send, as often as they like. So the first refusals of an
    address are logged as they are, and what comes beyond is only counted, until `tell` sums it up.

    Args:
        log: logs one event.
    """

    def __init__(self, log: Callable[[Event], None]) -> None:
        self._log = log
        self._lock = threading.Lock()  # guards what follows
        self._lines: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()  # by address
        self._statuses: Counter[int] = Counter()

    def __call__(self, event: Event) -> None:
        """Log an event, or count it."""
        if not isinstance(event, RefusedEvent) or event.block is not None or self._has_line(event):
            self._log(event)

    def tell(self) -> None:
        """Log how many refusals were only counted, and begin to log them one by one again."""
        with self._lock:
            unlogged, statuses = self._unlogged, self._statuses
            self._lines, self._unlogged, self._statuses = Counter(), Counter(), Counter()
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
