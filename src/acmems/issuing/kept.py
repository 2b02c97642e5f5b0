"""Chains that are there already: in a storage, or in memory where nothing else keeps them yet."""

from __future__ import annotations

import datetime
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from acmems.exceptions import StorageUnavailable
from acmems.issuing.renewal.times import RenewalTimes
from acmems.issuing.requests import AcceptedRequest, Delivery, IssuanceKey
from acmems.issuing.running import RunningIssuance, WaitingClient
from acmems.issuing.storing import StorageAccess
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import Clock
from acmems.system.steps import Steps
from acmems.x509.chain import Chain

EndIf = Callable[[Callable[[], bool]], list[WaitingClient] | None]


@dataclass(slots=True)
class _KeptChain:
    """A chain that is kept in memory, because nothing else keeps it yet."""

    chain: Chain
    unsaved: list[AcceptedRequest]


class KeptChains:
    """Finds chains, and keeps in memory those that could not be stored or that nobody was left to take.

    Args:
        storages: how storages are used.
        identity: whose chains these are.
        clock: for dates.
        times: tells whether a chain is due.
        is_revoked: tells of a chain whether it must not be delivered any more.
        report: told of each chain that could not be stored, and why.
        on_release: told what is kept in memory no longer, because it is stored or taken.
    """

    MOST_KEPT = 10_000

    def __init__(
        self,
        storages: StorageAccess,
        identity: IssuerIdentity,
        clock: Clock,
        *,
        times: RenewalTimes,
        is_revoked: Callable[[Chain], bool],
        report: Callable[[AcceptedRequest, Exception], None],
        on_release: Callable[[IssuanceKey], None],
    ) -> None:
        self._storages = storages
        self._identity = identity
        self._clock = clock
        self._times = times
        self._is_revoked = is_revoked
        self._report = report
        self._on_release = on_release
        self._lock = threading.Lock()  # guards what follows
        self._kept: OrderedDict[IssuanceKey, _KeptChain] = OrderedDict()

    @property
    def unsaved(self) -> int:
        """How many chains could not be stored yet."""
        with self._lock:
            return sum(bool(kept.unsaved) for kept in self._kept.values())

    def fresh(self, key: IssuanceKey, accepted: AcceptedRequest) -> Chain | None:
        """Return a chain that needs no renewal, None if there is none, or none would do.

        Raises:
            StorageUnavailable: the storage cannot tell what it holds.
        """
        if accepted.is_wanted_anew:
            return None
        now = self._clock.now()
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and self._is_fresh(kept.chain, accepted, now):
            if not kept.unsaved:
                self._release(key, kept)
            else:
                self._save_there_too(kept, accepted)
            return kept.chain
        stored = accepted.storage.find(accepted.request, self._identity)
        return stored if stored is not None and self._is_fresh(stored, accepted, now) else None

    def usable(self, accepted: AcceptedRequest, now: datetime.datetime) -> Chain | None:
        """Return a stored chain that has not expired, None if there is none, or none would do."""
        if accepted.is_wanted_anew:
            return None
        try:
            stored = accepted.storage.find(accepted.request, self._identity)
        except StorageUnavailable:
            return None
        if stored is None or stored.has_expired(now) or not self._may_be_sent(stored, accepted):
            return None
        return stored

    def keep(self, key: IssuanceKey, chain: Chain, unsaved: Sequence[AcceptedRequest]) -> None:
        """Keep a chain in memory: until it is stored, or until somebody has asked for it."""
        with self._lock:
            self._kept[key] = _KeptChain(chain, list(unsaved))
            while len(self._kept) > self.MOST_KEPT:
                self._kept.popitem(last=False)

    def forget(self, key: IssuanceKey) -> None:
        """Keep no chain for the same any more: there is a newer one."""
        with self._lock:
            self._kept.pop(key, None)

    def store(
        self, running: RunningIssuance, delivery: Delivery, end_if: EndIf
    ) -> Steps[list[WaitingClient]]:
        """Store a new chain wherever those who asked keep theirs; return who waits once nobody can join.

        Where storing fails, or nobody is left to take the chain, it is kept in memory.

        Args:
            running: the issuance that has brought the chain.
            delivery: the chain.
            end_if: ends that issuance if a function, which nobody can join meanwhile, says so.
        """
        done: set[Storage] = set()
        is_safe = False  # whether a restart would find it
        missing: list[AcceptedRequest] = []
        unsaved: list[AcceptedRequest] = []

        def is_kept() -> bool:
            asked = [*running.gave_up.values(), *(each.accepted for each in running.waiting)]
            places = {accepted.storage: accepted for accepted in reversed(asked)}
            missing[:] = [accepted for storage, accepted in places.items() if storage not in done]
            if delivery.source != "stored" and missing:
                return False
            if done:  # an older chain must not replace the new one
                self.forget(running.key)
            is_taken = any(not each.is_gone for each in running.waiting)
            if unsaved or (done and not is_taken):
                self.keep(running.key, delivery.chain, unsaved)
            if done and (is_taken or is_safe):
                self._on_release(running.key)
            return True

        while (waiting := end_if(is_kept)) is None:
            for accepted in tuple(missing):
                done.add(accepted.storage)
                error = yield from self._storages.store(accepted.storage, accepted.request, delivery.chain)
                if error is not None:
                    self._report(accepted, error)
                    unsaved.append(accepted)
                is_safe = is_safe or (error is None and accepted.storage.is_durable)
        return waiting

    def save(self) -> None:
        """Try again to store the chains that could not be stored."""
        with self._lock:
            unsaved = [(key, kept) for key, kept in self._kept.items() if kept.unsaved]
        for key, kept in unsaved:
            if self._is_revoked(kept.chain):
                self._release(key, kept)
                continue
            saved = {id(each) for each in tuple(kept.unsaved) if self._is_saved(each, kept.chain)}
            with self._lock:
                kept.unsaved = [each for each in kept.unsaved if id(each) not in saved]
            if not kept.unsaved:
                self._release(key, kept)

    def _is_fresh(self, chain: Chain, accepted: AcceptedRequest, now: datetime.datetime) -> bool:
        return self._times.is_fresh(chain, accepted.storage.renew_within, now) and self._may_be_sent(
            chain, accepted
        )

    def _may_be_sent(self, chain: Chain, accepted: AcceptedRequest) -> bool:
        return not accepted.refusal(chain) and not self._is_revoked(chain)

    def _save_there_too(self, kept: _KeptChain, accepted: AcceptedRequest) -> None:
        """Keep a chain in one more storage: a reload may have brought it where that of before is broken."""
        with self._lock:
            if kept.unsaved and all(each.storage is not accepted.storage for each in kept.unsaved):
                kept.unsaved.append(accepted)

    def _is_saved(self, accepted: AcceptedRequest, chain: Chain) -> bool:
        error = self._storages.store_now(accepted.storage, accepted.request, chain)
        if error is not None:
            self._report(accepted, error)
        return error is None

    def _release(self, key: IssuanceKey, kept: _KeptChain) -> None:
        with self._lock:
            if self._kept.get(key) is not kept:  # but a newer one
                return
            del self._kept[key]
        self._on_release(key)
