"""The servers that share a state: each says again and again that it is alive."""

from __future__ import annotations

import os
import socket
import uuid
from concurrent.futures import Future

from acmems.state import leases
from acmems.state.engines.contract import Database, Transaction
from acmems.system.clock import SYSTEM, Clock
from acmems.system.threads import PeriodicThread

EXPIRY_SECONDS = 15
"""After which a node that has not said that it is alive is taken for dead, by the clock of the database."""

_KEPT_SECONDS = 600  # for which the row of a dead node is kept
_CLEAN_EVERY = 12  # renewals
_RENEW = """
    INSERT INTO nodes (node, host, process, started, expires)
    VALUES (?, ?, ?, acmems_now(), acmems_now() + ?)
    ON CONFLICT (node) DO UPDATE SET expires = excluded.expires
"""


class Node:
    """This process, among those that share a state.

    Args:
        database: the state.
        seconds: after which others take it for dead where it says nothing.
        clock: for the time between two renewals.

    Attributes:
        name: what it is called in the state; no other process ever has the same.
        thread: renews its row.
    """

    def __init__(self, database: Database, *, seconds: int = EXPIRY_SECONDS, clock: Clock = SYSTEM) -> None:
        self.name = uuid.uuid4().hex
        self._database = database
        self._seconds = seconds
        self._renewal: Future[None] | None = None
        self._renewals = 0
        pause = seconds / 3
        self.thread = PeriodicThread(
            "acmems-node", self.renew, pause, longest_pause=pause, delay=pause, clock=clock
        )

    def join(self) -> None:
        """Say for the first time that it is alive; nothing is leased to it before.

        Raises:
            StateUnavailable: that cannot be written.
        """
        self._database.write(self._renew).result()

    def renew(self) -> None:
        """Say that it is alive, unless the last time has not been written yet.

        Raises:
            StateUnavailable: the last time could not be written.
        """
        renewal = self._renewal
        if renewal is not None and not renewal.done():
            return
        self._renewals += 1
        change = self._renew if self._renewals % _CLEAN_EVERY else self._renew_and_clean
        self._renewal = self._database.write(change)
        if renewal is not None:
            renewal.result()

    def leave(self) -> None:
        """Say that it is not alive any more, so that others take over at once what it has not finished."""
        self.thread.close()
        self._database.write(self._remove)

    def _renew(self, transaction: Transaction) -> None:
        transaction.execute(_RENEW, (self.name, socket.gethostname(), os.getpid(), self._seconds))

    def _renew_and_clean(self, transaction: Transaction) -> None:
        self._renew(transaction)
        leases.clean(transaction)
        transaction.execute("DELETE FROM nodes WHERE expires <= acmems_now() - ?", (_KEPT_SECONDS,))

    def _remove(self, transaction: Transaction) -> None:
        transaction.execute("DELETE FROM nodes WHERE node = ?", (self.name,))
        leases.clean(transaction)
