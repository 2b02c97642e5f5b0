"""From one accepted request to its chain: stored, already running, or ordered now."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.x509 import chain as chains
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)


class Orderer(Protocol):
    """What an issuance needs of an ACME manager."""

    key_digest: str | None

    @property
    def account_url(self) -> str | None:
        """The account's URL, for events."""

    def obtain(
        self, request: CertificateRequest, validators: Sequence[Validator], deadline: Deadline, key: object
    ) -> bytes:
        """Return a new chain, as the CA sent it."""


@dataclass(frozen=True, slots=True)
class AcceptedRequest:
    """An accepted request.

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

    origin: IssuerIdentity
    names: tuple[str, ...]
    public_key: str
    must_staple: bool


@dataclass(slots=True)
class _RunningIssuance:
    """An issuance in running, and everyone who waits for it."""

    asked: AcceptedRequest
    waiting: list[tuple[AcceptedRequest, Future[Delivery]]] = field(default_factory=list)
    job: Future[None] | None = None
    began: float | None = None  # on the monotonic clock; None while it waits for a worker


@dataclass(slots=True)
class _KeptChain:
    """A chain that is kept in memory, because nothing else keeps it yet."""

    chain: Chain
    unsaved: list[AcceptedRequest]


class Issuance:
    """Turns accepted requests into chains; each thing is ordered once, however many ask for it.

    Args:
        manager: speaks to the CA.
        origin: whose chains these are.
        bus: told of what happens.
        seconds: how long one issuance may take.
        clock: for deadlines and dates.
        workers: how many issuances run at once; further ones wait.
    """

    MOST_HELD = 10_000
    HANGING_SECONDS = 1800.0  # beyond the time of an issuance; withdrawing its proofs may take minutes
    name = "issuance"

    def __init__(
        self,
        manager: Orderer,
        origin: IssuerIdentity,
        bus: Bus,
        *,
        seconds: float = 110.0,
        clock: Clock = SYSTEM,
        workers: int = 64,
    ) -> None:
        self.manager = manager
        self.origin = origin
        self.bus = bus
        self.seconds = seconds
        self.clock = clock
        self.cooldown = Cooldown(clock)
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="acmems-issuance")
        self._lock = threading.Lock()
        self._closing = False
        self._running: dict[IssuanceKey, _RunningIssuance] = {}
        self._held: OrderedDict[IssuanceKey, _KeptChain] = OrderedDict()

    def issue(self, asked: AcceptedRequest) -> Future[Delivery]:
        """Return a chain for an accepted request, at once if it is stored and fresh.

        Args:
            asked: the request.

        Returns:
            a future; it holds the chain, or an `AcmeException` that tells why there is none.

        Raises:
            PayloadInvalid: the CSR is for the account's own key.
            StorageUnavailable: the storage cannot tell what it holds.
            CAUnavailable: nothing is stored, and the server is stopping.
        """
        request = asked.request
        if request.key_digest == self.manager.key_digest:
            raise PayloadInvalid("this is the public key of the ACME account: make a key of your own")
        self.bus.emit(RequestedEvent(**self._who(asked)))
        key = self.key(request)
        future: Future[Delivery] = Future()
        known = self._fresh(key, asked)
        if known is not None:
            future.set_result(Delivery(known, "stored"))
            return future
        with self._lock:
            if self._closing:
                raise _stopping()
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = _RunningIssuance(asked)
                running.job = self._pool.submit(self._run, key, running)
            running.waiting.append((asked, future))
        return future

    def is_healthy(self) -> bool:
        """Tell whether a worker is left that does not hang: without one nothing is issued any more."""
        now, longest = self.clock.monotonic(), self.seconds + self.HANGING_SECONDS
        with self._lock:
            begun = [running.began for running in self._running.values() if running.began is not None]
        return sum(now - began > longest for began in begun) < self._workers

    def key(self, request: CertificateRequest) -> IssuanceKey:
        """Return what makes requests the same as this one.

        Args:
            request: the request.
        """
        return IssuanceKey(self.origin, request.names, request.key_digest, request.must_staple)

    def save_held(self) -> None:
        """Try again to store the chains that could not be stored; called from time to time."""
        with self._lock:
            unsaved = [(key, held) for key, held in self._held.items() if held.unsaved]
        for key, held in unsaved:
            held.unsaved = [asked for asked in held.unsaved if not self._store(asked, held.chain)]
            if not held.unsaved:
                self._release(key)

    def close(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that run; those that have not begun are refused.

        Args:
            deadline: when to give up.
        """
        with self._lock:
            self._closing = True
            unfinished = list(self._running.items())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for key, running in unfinished:
            if running.job is not None and running.job.cancelled():
                self._finish(key, _stopping())
        while self._running and not deadline.passed:
            self.clock.sleep(min(0.05, deadline.remaining))
        self.save_held()

    def _run(self, key: IssuanceKey, running: _RunningIssuance) -> None:
        """Run one issuance to its end, and tell everyone who waits."""
        running.began = self.clock.monotonic()
        try:
            outcome: Delivery | Exception = self._obtain(key, running)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            outcome = error
        self._finish(key, outcome)

    def _finish(self, key: IssuanceKey, outcome: Delivery | Exception) -> None:
        """Tell everyone who waits for an issuance how it ended; whoever asks now begins another."""
        with self._lock:
            waiting = self._running.pop(key).waiting
        for number, (_, future) in enumerate(waiting):
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                joined = number > 0 and outcome.source == "issued"
                future.set_result(Delivery(outcome.chain, "joined") if joined else outcome)

    def _obtain(self, key: IssuanceKey, running: _RunningIssuance) -> Delivery:
        asked = running.asked
        # Another running for the same may have landed between our look at the storage and our start.
        known = self._fresh(key, asked)
        if known is not None:
            return Delivery(known, "stored")
        try:
            chain = self._order(key, asked)
        except AcmeException as error:
            stale = self._usable(asked)
            if stale is None:
                raise
            self.bus.emit(
                FailedEvent(
                    stage="renew", status=200, reason=f"{error}; the stored chain is sent", **self._who(asked)
                )
            )
            return Delivery(stale, "stale")
        self._keep(key, running, chain)
        return Delivery(chain, "issued")

    def _order(self, key: IssuanceKey, asked: AcceptedRequest) -> Chain:
        self.cooldown.check([key, *asked.request.names])
        asked.storage.check()
        began = self.clock.monotonic()
        try:
            chain = self._ask_ca(key, asked)
        except AcmeException as error:
            self._note(key, asked, error)
            raise
        self.cooldown.clear([key, *asked.request.names])
        self.bus.emit(
            IssuedEvent(
                directory=self.origin.directory,
                not_after=chain.not_after,
                seconds=self.clock.monotonic() - began,
                **self._who(asked),
            )
        )
        return chain

    def _ask_ca(self, key: IssuanceKey, asked: AcceptedRequest) -> Chain:
        pem = self.manager.obtain(asked.request, asked.validators, self.clock.deadline(self.seconds), key)
        try:
            chain = chains.parse(pem)
        except ValueError as error:
            raise CertificateUnusable(f"the CA sent no usable chain: {error}") from error
        chains.verify(chain, asked.request, self.clock.now())
        return chain

    def _note(self, key: IssuanceKey, asked: AcceptedRequest, error: AcmeException) -> None:
        """Begin a pause for what will fail again if it is tried at once."""
        if isinstance(error, (ChallengeFailed, InvalidDomainName)):
            names = asked.request.names
            failed = [error.domain] if error.domain in names else names
            for name in failed:
                self.cooldown.note(name, error)
        elif isinstance(error, RateLimited):
            self.cooldown.note(key, error, error.retry_after)
        elif isinstance(error, (CertificateUnusable, NoChallengeMethodsSupported, PayloadInvalid)):
            self.cooldown.note(key, error)

    def _keep(self, key: IssuanceKey, running: _RunningIssuance, chain: Chain) -> None:
        """Store a new chain; hold it in memory where that fails, or where nobody is left to take it."""
        with self._lock:
            waiting = [asked for asked, _ in running.waiting]
        places = {id(asked.storage): asked for asked in reversed(waiting)}
        unsaved = [asked for asked in places.values() if not self._store(asked, chain)]
        if unsaved or all(asked.gone() for asked in waiting):
            with self._lock:
                self._held[key] = _KeptChain(chain, unsaved)
                while len(self._held) > self.MOST_HELD:
                    self._held.popitem(last=False)

    def _store(self, asked: AcceptedRequest, chain: Chain) -> bool:
        try:
            asked.storage.store(asked.request, chain, self.origin)
        except StorageUnavailable as error:
            reason = f"{error}; the chain is kept in memory, storing is tried again"
            self.bus.emit(FailedEvent(stage="store", status=200, reason=reason, **self._who(asked)))
            return False
        return True

    def _fresh(self, key: IssuanceKey, asked: AcceptedRequest) -> Chain | None:
        """Return a chain that needs no renewal: held in memory or stored."""
        now = self.clock.now()
        with self._lock:
            held = self._held.get(key)
        if held is not None and held.chain.is_fresh(now, asked.storage.renew_within):
            if not held.unsaved:
                self._release(key)
            return held.chain
        stored = asked.storage.find(asked.request, self.origin)
        return stored if stored is not None and stored.is_fresh(now, asked.storage.renew_within) else None

    def _usable(self, asked: AcceptedRequest) -> Chain | None:
        """Return a stored chain that is due for renewal and still valid, None if there is none."""
        try:
            stored = asked.storage.find(asked.request, self.origin)
        except StorageUnavailable:
            return None
        return stored if stored is not None and stored.is_valid(self.clock.now()) else None

    def _release(self, key: IssuanceKey) -> None:
        with self._lock:
            self._held.pop(key, None)

    def _who(self, asked: AcceptedRequest) -> dict[str, Any]:
        return {
            "reference": asked.reference,
            "client": asked.client,
            "names": asked.request.names,
            "block": asked.block,
            "account": self.manager.account_url,
        }


def _stopping() -> CAUnavailable:
    return CAUnavailable("this server is stopping; ask again", retry_after=5.0)
