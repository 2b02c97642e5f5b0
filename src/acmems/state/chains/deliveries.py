"""How often chains were delivered: counted in memory, written in sums."""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass

from acmems.state.chains.record import seconds
from acmems.state.engines.contract import Database, Transaction

MOST_COUNTED = 10_000
"""Chains whose deliveries are counted until they are written, even before it is time."""

_STATEMENT = "UPDATE chains SET last_asked = ?, asked_by = ?, asked = asked + ? WHERE fingerprint = ?"


@dataclass(slots=True)
class _DeliverySum:
    """How often a chain was delivered since that was written, and the last time."""

    count: int
    client: str
    at: datetime.datetime


class DeliveryCounts:
    """Counts deliveries, so that each costs an update of a dictionary; for any thread.

    Where a connection to the database ends during a transaction, a sum may count twice.

    Args:
        database: where the sums are written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # guards what follows
        self._sums: dict[str, _DeliverySum] = {}

    def count(self, fingerprint: str, client: str, at: datetime.datetime) -> None:
        """Count a delivery, as `ChainRecords.asked`."""
        with self._lock:
            known = self._sums.get(fingerprint)
            if known is not None:
                known.count, known.client, known.at = known.count + 1, client, at
            else:
                self._sums[fingerprint] = _DeliverySum(1, client, at)
            is_full = len(self._sums) >= MOST_COUNTED
        if is_full:
            self.save(soon=True)

    def save(self, *, soon: bool = False) -> None:
        """Have what was counted written, as `ChainRecords.save_asked`."""
        with self._lock:
            sums, self._sums = self._sums, {}
        if not sums:
            return
        # In one order everywhere, so that two servers never wait for rows of each other.
        rows = [
            (seconds(each.at), each.client, each.count, fingerprint)
            for fingerprint, each in sorted(sums.items())
        ]

        def change(transaction: Transaction) -> None:
            transaction.executemany(_STATEMENT, rows)

        self._database.write(change, soon=soon)
