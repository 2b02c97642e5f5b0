"""From one accepted request to its chain: stored, already running, or ordered now."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from acmems.challenges import Validator
from acmems.events import Bus, FailedEvent, IssuedEvent, RequestedEvent, Source
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    CertificateUnusable,
    ClocksDiffer,
    DeadlinePassed,
    StorageUnavailable,
)
from acmems.issuing.contract import Issuer, refuse_key_of_account
from acmems.issuing.pauses import Pauses
from acmems.issuing.storing import StorageAccess
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.chain import LONG_PAUSE, Chain, check_names, read_issued
from acmems.x509.csr import CertificateRequest
from acmems.x509.leaf import Grants, SubjectPolicy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AcceptedRequest:
    """A request that policy grants.

    Args:
        request: what is asked for.
        validators: what can prove its names, best first.
        storage: where its chain is kept.
        reference: names it in the log.
        client: who asks.
        block: the auth block that grants it.
        gone: tells whether the client has hung up.
        grants: tells whether that block grants a name that the CA has added.
    """

    request: CertificateRequest
    validators: Sequence[Validator]
    storage: Storage
    reference: str = "-"
    client: str = "-"
    block: str | None = None
    gone: Callable[[], bool] = field(default=lambda: False, repr=False)
    grants: Grants = field(default=lambda _: False, repr=False)

    def refusal(self, chain: Chain) -> CertificateUnusable | None:
        """Return why a chain may not be delivered to whoever made this request, None if it may."""
        try:
            check_names(chain, self.request, self.grants)
        except CertificateUnusable as error:
            return error
        return None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A chain to send, and where it came from."""

    chain: Chain
    source: Source


@dataclass(frozen=True, slots=True)
class IssuanceKey:
    """What makes two requests the same: the same names and key of the same account and profile."""

    issuer: IssuerIdentity
    names: tuple[str, ...]
    public_key: str
    must_staple: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A client that waits for an issuance, and how long it does."""

    accepted: AcceptedRequest
    future: Future[Delivery]
    deadline: Deadline


@dataclass(slots=True)
class _RunningIssuance:
    """An issuance that runs or waits for its turn, who waits for it, and who has been told to ask again."""

    accepted: AcceptedRequest
    looks_again: bool  # whether a chain for the same may have been stored since the storage was asked
    began: float | None = None  # on the monotonic clock; None while it waits for its turn
    takes_turn: bool = True  # False once nobody waits for it: then another one may begin
    waiting: list[_Waiting] = field(default_factory=list)
    gave_up: dict[str, AcceptedRequest] = field(default_factory=dict)  # one for each storage, by its name
    ended: Signal = field(default_factory=Signal)


@dataclass(slots=True)
class _KeptChain:
    """A chain that is kept in memory, because nothing else keeps it yet."""

    chain: Chain
    unsaved: list[AcceptedRequest]


class Issuance:
    """Turns accepted requests into chains; each thing is ordered once, however many ask for it.

    When the time of a client is over it is told so, and the work goes on: whoever asks again joins it,
    or finds its result.

    Args:
        issuer: issues chains.
        identity: whose chains these are.
        bus: told of what happens.
        seconds: how long a client waits for an issuance.
        work_seconds: how long one issuance may take, whether anybody waits for it or not.
        clock: for deadlines and dates.
        most_at_once: how many issuances run at once; further ones wait. Those that nobody waits for any more
            do not count, unless there are `MOST_BEHIND` of them.
        subject: what the subject of an issued certificate may hold beside names.
    """

    MOST_KEPT = 10_000
    MOST_BEHIND = 1000
    HANGING_SECONDS = 1800.0  # beyond the time of an issuance; withdrawing its proofs may take minutes
    name = "issuance"

    def __init__(
        self,
        issuer: Issuer,
        identity: IssuerIdentity,
        bus: Bus,
        *,
        seconds: float = 110.0,
        work_seconds: float = 3600.0,
        clock: Clock = SYSTEM,
        most_at_once: int = 256,
        subject: SubjectPolicy = "dropped",
    ) -> None:
        self.subject: SubjectPolicy = subject
        self.issuer = issuer
        self.identity = identity
        self.bus = bus
        self.seconds = seconds
        self.work_seconds = max(seconds, work_seconds)
        self.clock = clock
        self.pauses = Pauses(clock)
        self._most_at_once = most_at_once
        self._storages = StorageAccess(issuer.loop, identity)
        self._lock = threading.Lock()  # guards what follows
        self._closing = False
        self._begun = 0  # issuances that run and take a turn
        self._behind = 0  # issuances that run and that nobody waits for any more
        self._ended = 0  # issuances that have run
        self._running: dict[IssuanceKey, _RunningIssuance] = {}
        self._queue: deque[IssuanceKey] = deque()
        self._kept: OrderedDict[IssuanceKey, _KeptChain] = OrderedDict()

    def issue(self, accepted: AcceptedRequest) -> Future[Delivery]:
        """Return a chain for an accepted request, at once if it is stored and fresh.

        Returns:
            a future; it holds the chain, or an `AcmeException` that tells why there is none.

        Raises:
            PayloadInvalid: the CSR is for the account's own key.
            StorageUnavailable: the storage cannot tell what it holds.
            CAUnavailable: nothing is stored, and the server is stopping.
        """
        request = accepted.request
        refuse_key_of_account(request, self.issuer.key_digest)
        self.bus.emit(RequestedEvent(**self._known(accepted)))
        key = self.key(request)
        future: Future[Delivery] = Future()
        ended = self._ended
        fresh = self._fresh(key, accepted)
        if fresh is not None:
            future.set_result(Delivery(fresh, "stored"))
            return future
        with self._lock:
            if self._closing:
                raise _stopping()
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = _RunningIssuance(accepted, self._ended != ended)
                self._queue.append(key)
            running.waiting.append(_Waiting(accepted, future, self.clock.deadline(self.seconds)))
        self._begin_next()
        return future

    def is_healthy(self) -> bool:
        """Tell whether not all issuances that may run at once hang: then nothing is issued any more."""
        now, longest = self.clock.monotonic(), self.work_seconds + self.HANGING_SECONDS
        with self._lock:
            begun = [running.began for running in self._running.values() if running.began is not None]
        return sum(now - began > longest for began in begun) < self._most_at_once

    def key(self, request: CertificateRequest) -> IssuanceKey:
        """Return what makes requests the same as this one."""
        return IssuanceKey(self.identity, request.names, request.key_digest, request.must_staple)

    def save_kept(self) -> None:
        """Try again to store the chains that could not be stored; called from time to time."""
        with self._lock:
            unsaved = [(key, kept) for key, kept in self._kept.items() if kept.unsaved]
        for key, kept in unsaved:
            kept.unsaved = [accepted for accepted in kept.unsaved if not self._save(accepted, kept.chain)]
            if not kept.unsaved:
                self._release(key, kept)

    def drain(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that somebody waits for; others are refused.

        Args:
            deadline: when to give up.
        """
        self._refuse_further()
        while not deadline.passed:
            with self._lock:
                if not any(running.waiting for running in self._running.values()):
                    return
            self.clock.sleep(min(0.05, deadline.remaining))

    def close(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that run; those that have not begun are refused.

        Args:
            deadline: when to give up.
        """
        self._refuse_further()
        while self._running and not deadline.passed:
            self.clock.sleep(min(0.05, deadline.remaining))
        self.save_kept()

    def _refuse_further(self) -> None:
        with self._lock:
            self._closing = True
            refused = [self._running.pop(key) for key in self._queue]
            self._queue.clear()
        for running in refused:
            _tell(running.waiting, _stopping())

    def _begin_next(self) -> None:
        """Begin issuances in the order of their arrival, as far as there is room."""
        while True:
            with self._lock:
                if not self._queue or self._begun >= self._most_at_once:
                    return
                key = self._queue.popleft()
                running = self._running[key]
                running.began = self.clock.monotonic()
                self._begun += 1
            try:
                self.issuer.loop.submit(self._run(key, running))
            except RuntimeError:  # the loop is closed
                with self._lock:
                    waiting = self._end(key)
                _tell(waiting, _stopping())

    def _run(self, key: IssuanceKey, running: _RunningIssuance) -> Steps[None]:
        """Run one issuance to its end, and tell everyone who waits."""
        with contextlib.suppress(RuntimeError):  # the loop is being closed, which ends this issuance, too
            self.issuer.loop.submit(self._watch(running))
        try:
            delivery = yield from self._obtain(key, running.accepted, looks_again=running.looks_again)
            waiting = yield from self._keep(key, running, delivery)
            outcome: Delivery | Exception = delivery
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            outcome = _stopping() if isinstance(error, CancelledError) else error
            with self._lock:
                waiting = self._end(key)
        running.ended.set()
        if running.gave_up and not waiting and isinstance(outcome, Exception):
            names = ", ".join(running.accepted.request.names)
            logger.warning("what went on for %s after its clients had stopped waiting: %s", names, outcome)
        _tell(waiting, outcome)
        self._begin_next()

    def _watch(self, running: _RunningIssuance) -> Steps[None]:
        """Tell each client whose time is over that the work goes on, until that ends."""
        while True:
            with self._lock:
                left = [each.deadline.remaining for each in running.waiting]
            # Who joins meanwhile waits for as long from then on, so that it is not missed.
            if (yield running.ended.wait(max(0.001, min(left, default=self.seconds)))):
                return
            with self._lock:
                late = [each for each in running.waiting if each.deadline.passed]
                running.waiting = [each for each in running.waiting if not each.deadline.passed]
                running.gave_up |= {each.accepted.storage.name: each.accepted for each in late}
                if not running.waiting and running.takes_turn and self._behind < self.MOST_BEHIND:
                    running.takes_turn = False
                    self._begun -= 1
                    self._behind += 1
            for each in late:
                names = ", ".join(each.accepted.request.names)
                late_error = DeadlinePassed(
                    f"no certificate for {names} after {self.seconds:.0f} s; the order goes on, and the same "
                    f"request gets its certificate",
                    retry_after=10.0,
                )
                outcome: Delivery | Exception
                try:
                    outcome = (yield from self._stale(each.accepted, late_error)) or late_error
                except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
                    outcome = _stopping() if isinstance(error, CancelledError) else error
                _tell([each], outcome)
            self._begin_next()

    def _end(self, key: IssuanceKey) -> list[_Waiting]:
        """Let nobody join any more, and return who waits; the lock is held.

        All at once: whoever does not find the issuance any more must see that one has ended.
        """
        running = self._running.pop(key)
        if running.takes_turn:
            self._begun -= 1
        else:
            self._behind -= 1
        self._ended += 1
        return running.waiting

    def _obtain(self, key: IssuanceKey, accepted: AcceptedRequest, *, looks_again: bool) -> Steps[Delivery]:
        if looks_again:
            fresh = yield from self._storages.call(accepted.storage, lambda: self._fresh(key, accepted))
            if fresh is not None:
                return Delivery(fresh, "stored")
        try:
            chain = yield from self._order(key, accepted)
        except AcmeException as error:
            stale = yield from self._stale(accepted, error)
            if stale is None:
                raise
            return stale
        return Delivery(chain, "issued")

    def _stale(self, accepted: AcceptedRequest, error: AcmeException) -> Steps[Delivery | None]:
        """Return the stored chain to send in the place of an error, None if there is none that is valid."""
        # A chain that is out of date by a wrong clock may be good by that of the CA.
        now = error.theirs if isinstance(error, ClocksDiffer) else self.clock.now()
        chain = yield from self._storages.call(accepted.storage, lambda: self._usable(accepted, now))
        if chain is None:
            return None
        reason = f"{error}; the stored chain is sent"
        self.bus.emit(FailedEvent(stage="renew", status=200, reason=reason, **self._known(accepted)))
        return Delivery(chain, "stale")

    def _order(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[Chain]:
        self.pauses.check(accepted)
        yield from self._storages.check(accepted.storage)
        began = self.clock.monotonic()
        try:
            chain = yield from self._issue(key, accepted)
        except AcmeException as error:
            self.pauses.note(accepted, error)
            raise
        self.pauses.clear(accepted)
        self._check_dates(accepted, chain)
        seconds = self.clock.monotonic() - began
        self.bus.emit(
            IssuedEvent(
                directory=self.identity.directory,
                not_after=chain.not_after,
                seconds=seconds,
                **self._known(accepted),
            )
        )
        return chain

    def _issue(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[Chain]:
        deadline = self.clock.deadline(self.work_seconds)
        pem = yield from self.issuer.obtain(accepted.request, accepted.validators, deadline, key)
        return read_issued(pem, accepted.request, subject=self.subject, grants=accepted.grants)

    def _check_dates(self, accepted: AcceptedRequest, chain: Chain) -> None:
        """Warn of a new chain that is not valid by this server's clock, and do not order it anew at once."""
        now = self.clock.now()
        if not chain.is_valid(now):
            error = CertificateUnusable(
                f"the CA issued a certificate that is valid from {chain.not_before} to {chain.not_after}, "
                f"and by this server's clock it is {now:%Y-%m-%d %H:%M:%S} UTC: one of the clocks is wrong",
                retry_after=LONG_PAUSE,
            )
            logger.warning("%s; the certificate is delivered all the same", error)
            self.pauses.note(accepted, error)

    def _keep(self, key: IssuanceKey, running: _RunningIssuance, delivery: Delivery) -> Steps[list[_Waiting]]:
        """Store a new chain wherever those who asked keep theirs; return who waits once nobody can join.

        Where storing fails, or nobody is left to take the chain, it is kept in memory.
        """
        done: set[str] = set()
        unsaved: list[AcceptedRequest] = []
        while True:
            with self._lock:
                asked = [*running.gave_up.values(), *(each.accepted for each in running.waiting)]
                places = {accepted.storage.name: accepted for accepted in reversed(asked)}
                missing = [accepted for name, accepted in places.items() if name not in done]
                if delivery.source != "issued" or not missing:
                    if done:
                        self._kept.pop(key, None)  # an older chain, which must not replace the new one
                    if unsaved or (done and all(each.accepted.gone() for each in running.waiting)):
                        self._kept[key] = _KeptChain(delivery.chain, unsaved)
                        while len(self._kept) > self.MOST_KEPT:
                            self._kept.popitem(last=False)
                    return self._end(key)
            for accepted in missing:
                done.add(accepted.storage.name)
                error = yield from self._storages.store(accepted.storage, accepted.request, delivery.chain)
                if error is not None:
                    self._report_unsaved(accepted, error)
                    unsaved.append(accepted)

    def _save(self, accepted: AcceptedRequest, chain: Chain) -> bool:
        """Store a chain that is kept in memory; tell whether that worked."""
        error = self._storages.store_now(accepted.storage, accepted.request, chain)
        if error is not None:
            self._report_unsaved(accepted, error)
        return error is None

    def _report_unsaved(self, accepted: AcceptedRequest, error: Exception) -> None:
        reason = f"{error}; the chain is kept in memory, storing is tried again"
        self.bus.emit(FailedEvent(stage="store", status=200, reason=reason, **self._known(accepted)))

    def _fresh(self, key: IssuanceKey, accepted: AcceptedRequest) -> Chain | None:
        """Return a chain that needs no renewal: kept in memory or stored."""
        now, renew_within = self.clock.now(), accepted.storage.renew_within
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept.chain.is_fresh(now, renew_within) and not accepted.refusal(kept.chain):
            if not kept.unsaved:
                self._release(key, kept)
            return kept.chain
        stored = accepted.storage.find(accepted.request, self.identity)
        if stored is None or not stored.is_fresh(now, renew_within) or accepted.refusal(stored):
            return None
        return stored

    def _usable(self, accepted: AcceptedRequest, now: datetime.datetime) -> Chain | None:
        """Return a stored chain that has not expired, None if there is none."""
        try:
            stored = accepted.storage.find(accepted.request, self.identity)
        except StorageUnavailable:
            return None
        if stored is None or stored.has_expired(now) or accepted.refusal(stored):
            return None
        return stored

    def _release(self, key: IssuanceKey, kept: _KeptChain) -> None:
        with self._lock:
            if self._kept.get(key) is kept:  # and not a newer one
                del self._kept[key]

    def _known(self, accepted: AcceptedRequest) -> dict[str, Any]:
        """Return what is known of a request, as fields of an event."""
        return {
            "reference": accepted.reference,
            "client": accepted.client,
            "names": accepted.request.names,
            "block": accepted.block,
            "account": self.issuer.account_url,
        }


def _tell(waiting: Sequence[_Waiting], outcome: Delivery | Exception) -> None:
    """Tell all who wait for an issuance how it ended."""
    for number, each in enumerate(waiting):
        refusal = outcome if isinstance(outcome, Exception) else each.accepted.refusal(outcome.chain)
        if isinstance(outcome, Exception) or refusal is not None:
            each.future.set_exception(refusal)
        else:
            joined = number > 0 and outcome.source == "issued"
            each.future.set_result(Delivery(outcome.chain, "joined") if joined else outcome)


def _stopping() -> CAUnavailable:
    return CAUnavailable("this server is stopping; ask again", retry_after=5.0)
