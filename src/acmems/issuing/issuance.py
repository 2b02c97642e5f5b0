"""From one accepted request to its chain: stored, already running, or ordered now."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from acmems.challenges import Validator
from acmems.events import Bus, FailedEvent, IssuedEvent, RequestedEvent, Source
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    CertificateUnusable,
    ChallengeFailed,
    InvalidDomainName,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    RateLimited,
    StorageUnavailable,
)
from acmems.issuing.cooldown import Cooldown
from acmems.issuing.storing import StorageAccess
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import StepLoop, Steps
from acmems.x509.chain import Chain, read_issued
from acmems.x509.csr import CertificateRequest


class Issuer(Protocol):
    """What turns a certificate request into a chain."""

    @property
    def loop(self) -> StepLoop:
        """Runs the steps of `obtain`, and those of the issuances around it."""

    @property
    def account_url(self) -> str | None:
        """The URL of its account, for events; None where there is none."""

    @property
    def key_digest(self) -> str | None:
        """The SHA-256 of its account's public key, which nobody gets a certificate for."""

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: Hashable,
    ) -> Steps[bytes]:
        """Return a new chain in PEM, as it was issued.

        Args:
            request: what is asked for.
            validators: what can prove its names, best first.
            deadline: when to give up.
            identity: what makes two requests the same; what was begun for the same is continued.

        Raises:
            AcmeException: why there is none.
        """


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
    """

    request: CertificateRequest
    validators: Sequence[Validator]
    storage: Storage
    reference: str = "-"
    client: str = "-"
    block: str | None = None
    gone: Callable[[], bool] = field(default=lambda: False, repr=False)


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


@dataclass(slots=True)
class _RunningIssuance:
    """An issuance that runs or waits for its turn, and everyone who waits for it."""

    accepted: AcceptedRequest
    looks_again: bool  # whether a chain for the same may have been stored since the storage was asked
    began: float | None = None  # on the monotonic clock; None while it waits for its turn
    waiting: list[tuple[AcceptedRequest, Future[Delivery]]] = field(default_factory=list)


@dataclass(slots=True)
class _KeptChain:
    """A chain that is kept in memory, because nothing else keeps it yet."""

    chain: Chain
    unsaved: list[AcceptedRequest]


class Issuance:
    """Turns accepted requests into chains; each thing is ordered once, however many ask for it.

    Args:
        issuer: issues chains.
        identity: whose chains these are.
        bus: told of what happens.
        seconds: how long one issuance may take.
        clock: for deadlines and dates.
        most_at_once: how many issuances run at once; further ones wait.
    """

    MOST_KEPT = 10_000
    HANGING_SECONDS = 1800.0  # beyond the time of an issuance; withdrawing its proofs may take minutes
    name = "issuance"

    def __init__(
        self,
        issuer: Issuer,
        identity: IssuerIdentity,
        bus: Bus,
        *,
        seconds: float = 110.0,
        clock: Clock = SYSTEM,
        most_at_once: int = 256,
    ) -> None:
        self.issuer = issuer
        self.identity = identity
        self.bus = bus
        self.seconds = seconds
        self.clock = clock
        self.cooldown = Cooldown(clock)
        self._most_at_once = most_at_once
        self._storages = StorageAccess(issuer.loop, identity)
        self._lock = threading.Lock()  # guards what follows
        self._closing = False
        self._begun = 0  # issuances that run
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
        if request.key_digest == self.issuer.key_digest:
            raise PayloadInvalid("this is the public key of the ACME account: make a key of your own")
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
            running.waiting.append((accepted, future))
        self._begin_next()
        return future

    def is_healthy(self) -> bool:
        """Tell whether not all issuances that may run at once hang: then nothing is issued any more."""
        now, longest = self.clock.monotonic(), self.seconds + self.HANGING_SECONDS
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

    def close(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that run; those that have not begun are refused.

        Args:
            deadline: when to give up.
        """
        with self._lock:
            self._closing = True
            refused = [self._running.pop(key) for key in self._queue]
            self._queue.clear()
        for running in refused:
            _tell(running.waiting, _stopping())
        while self._running and not deadline.passed:
            self.clock.sleep(min(0.05, deadline.remaining))
        self.save_kept()

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
        try:
            delivery = yield from self._obtain(key, running.accepted, looks_again=running.looks_again)
            waiting = yield from self._keep(key, running, delivery)
            outcome: Delivery | Exception = delivery
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            outcome = _stopping() if isinstance(error, CancelledError) else error
            with self._lock:
                waiting = self._end(key)
        _tell(waiting, outcome)
        self._begin_next()

    def _end(self, key: IssuanceKey) -> list[tuple[AcceptedRequest, Future[Delivery]]]:
        """Let nobody join any more, and return who waits; the lock is held.

        All at once: whoever does not find the issuance any more must see that one has ended.
        """
        self._begun -= 1
        self._ended += 1
        return self._running.pop(key).waiting

    def _obtain(self, key: IssuanceKey, accepted: AcceptedRequest, *, looks_again: bool) -> Steps[Delivery]:
        if looks_again:
            fresh = yield from self._storages.call(accepted.storage, lambda: self._fresh(key, accepted))
            if fresh is not None:
                return Delivery(fresh, "stored")
        try:
            chain = yield from self._order(key, accepted)
        except AcmeException as error:
            stale = yield from self._storages.call(accepted.storage, lambda: self._usable(accepted))
            if stale is None:
                raise
            reason = f"{error}; the stored chain is sent"
            self.bus.emit(FailedEvent(stage="renew", status=200, reason=reason, **self._known(accepted)))
            return Delivery(stale, "stale")
        return Delivery(chain, "issued")

    def _order(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[Chain]:
        subjects: list[Hashable] = [key, accepted.request.content_digest, *accepted.request.names]
        self.cooldown.check(subjects)
        yield from self._storages.check(accepted.storage)
        began = self.clock.monotonic()
        try:
            chain = yield from self._issue(key, accepted)
        except AcmeException as error:
            self._note(key, accepted, error)
            raise
        self.cooldown.clear(subjects)
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
        deadline = self.clock.deadline(self.seconds)
        pem = yield from self.issuer.obtain(accepted.request, accepted.validators, deadline, key)
        return read_issued(pem, accepted.request, self.clock.now())

    def _note(self, key: IssuanceKey, accepted: AcceptedRequest, error: AcmeException) -> None:
        """Begin a pause for what will fail again if it is tried at once."""
        if isinstance(error, (ChallengeFailed, InvalidDomainName)):
            names = accepted.request.names
            failed = [error.domain] if error.domain in names else names
            for name in failed:
                self.cooldown.note(name, error)
        elif isinstance(error, RateLimited):
            self.cooldown.note(key, error, error.retry_after)
        elif isinstance(error, PayloadInvalid):
            self.cooldown.note(accepted.request.content_digest, error)  # a corrected one may come at once
        elif isinstance(error, (CertificateUnusable, NoChallengeMethodsSupported)):
            self.cooldown.note(key, error)

    def _keep(
        self, key: IssuanceKey, running: _RunningIssuance, delivery: Delivery
    ) -> Steps[list[tuple[AcceptedRequest, Future[Delivery]]]]:
        """Store a new chain wherever those who wait keep theirs; return them once nobody else can join.

        Where storing fails, or nobody is left to take the chain, it is kept in memory.
        """
        done: set[str] = set()
        unsaved: list[AcceptedRequest] = []
        while True:
            with self._lock:
                places = {accepted.storage.name: accepted for accepted, _ in reversed(running.waiting)}
                missing = [accepted for name, accepted in places.items() if name not in done]
                if delivery.source != "issued" or not missing:
                    if done:
                        self._kept.pop(key, None)  # an older chain, which must not replace the new one
                    if unsaved or (done and all(accepted.gone() for accepted, _ in running.waiting)):
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
        if kept is not None and kept.chain.is_fresh(now, renew_within):
            if not kept.unsaved:
                self._release(key, kept)
            return kept.chain
        stored = accepted.storage.find(accepted.request, self.identity)
        return stored if stored is not None and stored.is_fresh(now, renew_within) else None

    def _usable(self, accepted: AcceptedRequest) -> Chain | None:
        """Return a stored chain that is due for renewal and still valid, None if there is none."""
        try:
            stored = accepted.storage.find(accepted.request, self.identity)
        except StorageUnavailable:
            return None
        return stored if stored is not None and stored.is_valid(self.clock.now()) else None

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


def _tell(waiting: Sequence[tuple[AcceptedRequest, Future[Delivery]]], outcome: Delivery | Exception) -> None:
    """Tell all who wait for an issuance how it ended."""
    for number, (_, future) in enumerate(waiting):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            joined = number > 0 and outcome.source == "issued"
            future.set_result(Delivery(outcome.chain, "joined") if joined else outcome)


def _stopping() -> CAUnavailable:
    return CAUnavailable("this server is stopping; ask again", retry_after=5.0)
