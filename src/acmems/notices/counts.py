"""How many notices wait, and how many have gone out: for monitoring systems."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Final, Literal, get_args

DeliveryOutcome = Literal["delivered", "failed", "lost"]
DELIVERY_OUTCOMES: Final[tuple[DeliveryOutcome, ...]] = get_args(DeliveryOutcome)


class NoticeCounts:
    """Counts of one process; for any thread.

    Attributes:
        waiting: how many notices wait for each target, as this process has seen it last.
    """

    def __init__(self) -> None:
        self.waiting: Mapping[str, int] = {}
        self._lock = threading.Lock()  # guards what follows
        self._deliveries: Counter[tuple[str, DeliveryOutcome]] = Counter()

    def count(self, target: str, outcome: DeliveryOutcome) -> None:
        """Count a try to deliver a notice, or one that is lost."""
        with self._lock:
            self._deliveries[target, outcome] += 1

    @property
    def deliveries(self) -> Mapping[tuple[str, DeliveryOutcome], int]:
        """How many tries ended how, by target."""
        with self._lock:
            return dict(self._deliveries)
