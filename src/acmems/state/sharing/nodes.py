"""The servers that share a state: each says again and again that it is alive."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import socket
import uuid
from concurrent.futures import Future
from pathlib import Path

from acmems.state.engines.contract import Database, Transaction
from acmems.state.sharing import leases
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


def name_of(process: int) -> str:
    """Return a name that no other process ever has, and that tells processes of this machine which it is.

    Args:
        process: the number of a process that lives.
    """
    return f"{_machine()}-{process}-{_beginning(process)}-{uuid.uuid4().hex[:8]}"


def has_ended(node: str) -> bool:
    """Tell whether a node is a process of this machine that has ended; of others, nothing can be told."""
    machine, process, beginning, _ = (node.split("-") + [""] * 4)[:4]
    return machine == _machine() and _beginning(int(process)) != beginning


@functools.cache
def _machine() -> str:
    """Return a name for the processes of this machine, or container, since it was started."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        place = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        place = uuid.uuid4().hex  # so that nothing is told of others
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _beginning(process: int) -> str:
    """Return when a process began, as the system counts; empty where it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else fields[19]


class Node:
    """This process, among those that share a state.

    Args:
        database: the state.
        seconds: after which others take it for dead where it says nothing.
        clock: for the time between two renewals.

    Attributes:
        name: what it is called in the state; no other process ever has the same.
        thread: renews its row, from `join` until `leave`.
    """

    def __init__(self, database: Database, *, seconds: int = EXPIRY_SECONDS, clock: Clock = SYSTEM) -> None:
        self.name = name_of(os.getpid())
        self._database = database
        self._seconds = seconds
        self._clock = clock
        self._renewal: Future[None] | None = None
        self._lives_until = -math.inf  # for certain, on the monotonic clock
        self._renewals = 0
        self._has_left = False
        pause = seconds / 3
        self.thread = PeriodicThread(
            "acmems-node", self.renew, pause, longest_pause=pause, delay=pause, clock=clock
        )

    def join(self) -> None:
        """Say for the first time that it is alive, and go on; nothing is leased to it before.

        Processes of this machine that have ended are not waited for: after a crash, what the last one was at
        is free at once.

        Raises:
            StateUnavailable: that cannot be written.
        """
        lives_until = self._now_and_a_while()
        self._database.write(self._replace_ended).result()
        self._lives_until = lives_until
        self.thread.start()

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
        lives_until = self._now_and_a_while()

        def note(renewal: Future[None]) -> None:
            if renewal.exception() is None and not self._has_left:
                self._lives_until = lives_until

        self._renewal = self._database.write(change)
        self._renewal.add_done_callback(note)
        if renewal is not None:
            renewal.result()

    def is_known_to_live(self) -> bool:
        """Tell whether the others take it for alive for certain, with time to spare."""
        return self._clock.monotonic() < self._lives_until

    def _now_and_a_while(self) -> float:
        # Half of the time is left for clocks that do not run alike, and for what is done after a look.
        return self._clock.monotonic() + self._seconds / 2

    def leave(self) -> None:
        """Say that it is not alive any more, so that others take over at once what it has not finished."""
        self._has_left = True
        self._lives_until = -math.inf
        self.thread.close()
        self._database.write(self._remove)

    def _renew(self, transaction: Transaction) -> None:
        if self._has_left:  # the thread may just have been at it
            return
        transaction.execute(_RENEW, (self.name, socket.gethostname(), os.getpid(), self._seconds))

    def _replace_ended(self, transaction: Transaction) -> None:
        names = [name for (name,) in transaction.execute("SELECT node FROM nodes").fetchall()]
        ended = [(name,) for name in names if has_ended(name)]
        transaction.executemany("DELETE FROM nodes WHERE node = ?", ended)
        self._renew(transaction)

    def _renew_and_clean(self, transaction: Transaction) -> None:
        self._renew(transaction)
        leases.clean(transaction)
        transaction.execute("DELETE FROM nodes WHERE expires <= acmems_now() - ?", (_KEPT_SECONDS,))

    def _remove(self, transaction: Transaction) -> None:
        transaction.execute("DELETE FROM nodes WHERE node = ?", (self.name,))
        leases.clean(transaction)
