"""Proofs that other nodes present, looked up when a CA asks this node for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from acmems.exceptions import StateUnavailable
from acmems.state.engines.contract import Database, Transaction, marks
from acmems.system.clock import SYSTEM, Clock

logger = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Look-ups that wait for one read of the state; what comes beyond is not looked up."""
SLOW_SECONDS = 2.0
"""For how long a read may go on; whoever asks then is told that nothing is known, and all who wait."""


@dataclass(frozen=True, slots=True)
class FoundProof:
    """A proof that another node presents.

    Args:
        name: what is proved, a DNS name without `*.` or an address.
        key_authorization: what the CA wants to see.
    """

    name: str
    key_authorization: str


Found = Mapping[str, Sequence[FoundProof]]
"""What is presented, by place, the newest last; a place where nothing is presented is not in it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Lookup:
    places: Collection[str]
    found: Callable[[Found | None], None]


class ProofLookups:
    """Looks up what other nodes present, all that is asked for meanwhile in one read.

    A look-up waits for a read that begins after it has come, so that it sees what was presented before. One
    read at a time goes on, in a thread of its own: however much strangers ask, the state has one query to
    answer, and no listener waits.

    It finds nothing until it is attached to a state that several nodes share.

    Args:
        clock: for the time that reads take.
    """

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._database: Database | None = None
        self._node = ""
        self._reader: ThreadPoolExecutor | None = None
        self._is_failing = False  # for the reader's thread
        self._lock = threading.Lock()  # guards what follows
        self._waiting: list[_Lookup] = []
        self._reading: list[_Lookup] = []  # those that the read is for that goes on
        self._is_due = False  # whether the reader will look at what waits
        self._since: float | None = None  # when the read began that goes on

    def attach(self, database: Database, node: str) -> None:
        """Look up in a state from now on, if others share it.

        Args:
            database: the state.
            node: the name of this node, whose own proofs are not looked up.
        """
        if database.is_shared:
            self._node = node
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="acmems-lookups")
            self._database = database

    def close(self) -> None:
        """Find nothing any more; a read that goes on is not waited for."""
        self._database = None
        if self._reader is not None:
            self._reader.shutdown(wait=False)

    @property
    def is_active(self) -> bool:
        """Whether there may be other nodes, so that it makes sense to look."""
        return self._database is not None

    def find(self, places: Collection[str], found: Callable[[Found | None], None]) -> None:
        """Look up what other nodes present.

        Args:
            places: where, as the validators spell it.
            found: called with it, in another thread or at once; with None where it is not known. It MUST NOT
                take long.
        """
        lookup = _Lookup(places, found)
        with self._lock:
            is_slow = self._since is not None and self._clock.monotonic() - self._since > SLOW_SECONDS
            is_admitted = self.is_active and not is_slow and len(self._waiting) < MOST_WAITING
            refused = [] if is_admitted else [lookup]
            if is_slow:
                # Whoever waits holds a connection, which others need.
                refused = [*self._reading, *self._waiting, lookup]
                self._reading, self._waiting = [], []
            elif is_admitted:
                self._waiting.append(lookup)
            begins = is_admitted and not self._is_due
            self._is_due = self._is_due or begins
        if begins and self._reader is not None:
            try:
                self._reader.submit(self._read_all)
            except RuntimeError:  # it is closed
                refused = [lookup]
        _tell(refused, None)

    def _read_all(self) -> None:
        """Read again and again, until nobody waits."""
        while True:
            with self._lock:
                lookups = self._reading = self._waiting
                self._waiting = []
                self._is_due = bool(lookups)
                self._since = self._clock.monotonic() if lookups else None
            if not lookups:
                return
            found = self._read({place for lookup in lookups for place in lookup.places})
            with self._lock:
                lookups, self._reading = self._reading, []
            _tell(lookups, found)

    def _read(self, places: Collection[str]) -> Found | None:
        query = (
            f"SELECT place, name, key_authorization FROM proofs WHERE place IN ({marks(places)}) "  # noqa: S608 - marks alone
            "AND node <> ? AND stage = 'answered' ORDER BY presented, id"
        )
        row = (*places, self._node)

        def read(transaction: Transaction) -> Found:
            found: dict[str, list[FoundProof]] = {}
            for place, name, key_authorization in transaction.execute(query, row):
                found.setdefault(place, []).append(FoundProof(name, key_authorization))
            return found

        database = self._database
        if database is None:
            return None
        try:
            result = database.read(read)
        except StateUnavailable as error:
            if not self._is_failing:
                logger.warning("proofs that other nodes present are not found: %s", error)
            self._is_failing = True
            return None
        if self._is_failing:
            logger.info("proofs that other nodes present are found again")
        self._is_failing = False
        return result


def _tell(lookups: Sequence[_Lookup], found: Found | None) -> None:
    for lookup in lookups:
        try:
            lookup.found(found)
        except Exception:  # a bug of one who asks must not keep the others waiting
            logger.exception("a proof of another node cannot be shown")
