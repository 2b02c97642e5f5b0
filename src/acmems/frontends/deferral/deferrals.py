"""The requests whose answer is fetched later: what is being done for them, and what is noted."""

from __future__ import annotations

import dataclasses
import datetime
import math
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from acmems.events import Bus, FailedEvent
from acmems.exceptions import AcmeException, ClientGone, DeadlinePassed
from acmems.frontends.deferral.waiting import WaitingExchanges
from acmems.frontends.problems import for_operator, reason_of, retry_after_of, status_of
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.issuing.running import stopping
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.deferred import DeferredOutcome, DeferredRequest, DeferredRequests
from acmems.system.clock import SYSTEM, Clock
from acmems.system.steps import OWNER, Owner, SharedThreads, Steps
from acmems.text import one_line

_THREADS = 4  # they wait for the database
_JOINING = 0.5  # the part of the time of a client for which who comes later joins it
_LONGEST_REASON = 4096  # characters that are kept
_LEAST_PAUSE, _MOST_PAUSE, _QUEUED_PAUSE = 2, 30, 10  # seconds


@dataclass(slots=True, eq=False)
class RunningDeferral:
    """A request that is being worked at in this process.

    Args:
        identity: what makes two requests the same, as a digest.
        accepted: the request.
        until: when who comes no longer joins it, in seconds of the monotonic clock: by then somebody must
            want it again, or it counts as given up.
        began: when it was asked for first, in the same.
        id: what its URL ends with, once it is noted.
        future: will hold its chain, or why there is none.
        is_noted: whether what has come of it was noted.
        noting: will have its id, where it is being noted.
    """

    identity: str
    accepted: AcceptedRequest
    until: float
    began: float
    id: str | None = field(default=None, repr=False)
    future: Future[Delivery] = field(default_factory=Future)
    is_noted: bool = False
    noting: Future[str] | None = None

    @property
    def place(self) -> tuple[str, str]:
        """What there is one of at a time."""
        return self.identity, self.accepted.block or ""


@dataclass(frozen=True, slots=True)
class FoundRequest:
    """What is known of a request.

    Args:
        request: the request, None where there is none of that id.
        chain: the one that is there for it, None where none is yet.
        running: how it is being worked at in this process, None where it is not.
    """

    request: DeferredRequest | None
    chain: ChainRecord | None
    running: RunningDeferral | None = None


Found = Callable[[FoundRequest | Exception], None]
"""Told what is known of a request, or why that cannot be read."""


class Deferrals:
    """Does one thing for all who ask for the same, and notes what has come of it; for any thread.

    A client that was told to come again counts as one that waits, for as long as clients do. If it does not
    come again by then, its order goes on as that of a client that has hung up.

    Args:
        records: where requests are noted.
        chains: those that were issued.
        issuances: turn requests into chains.
        bus: told of what fails while nobody hears of it.
        is_stopping: tells whether the server is stopping: then nobody counts as waiting any more who was told
            to come again, because the state has what they want.
        clock: for dates and times.

    Attributes:
        waiting: connections that wait for an answer.
    """

    def __init__(
        self,
        records: DeferredRequests,
        chains: ChainRecords,
        issuances: Issuances,
        bus: Bus,
        *,
        is_stopping: Callable[[], bool] = lambda: False,
        clock: Clock = SYSTEM,
    ) -> None:
        self._records = records
        self._chains = chains
        self._issuances = issuances
        self._bus = bus
        self._is_stopping = is_stopping
        self._clock = clock
        self._threads = SharedThreads(_THREADS, "acmems-fetching")
        self.waiting = WaitingExchanges(issuances.first.issuer.loop, clock)
        self._lock = threading.Lock()  # guards what follows
        self._running: dict[tuple[str, str], RunningDeferral] = {}
        self._named: dict[str, RunningDeferral] = {}  # by id

    def join(self, accepted: AcceptedRequest, found: FoundRequest | None = None) -> RunningDeferral:
        """Return what is being done for a request: it is begun, unless it was already.

        Args:
            accepted: the request.
            found: what is known of it, None where it is not noted yet.

        Raises:
            AcmeException: as `Issuances.issue`.
        """
        now, digest = self._clock.monotonic(), next(iter(self._issuances.identities(accepted)))
        seconds = accepted.seconds or self._issuances.first.seconds
        running = RunningDeferral(digest, accepted, now + _JOINING * seconds, now)
        if found is not None and found.request is not None:
            running.id = found.request.id
            running.began -= max(0.0, (self._clock.now() - found.request.begun).total_seconds())
        with self._lock:
            known = self._running.get(running.place)
        if known is None and found is not None:  # it may have ended since, which was not in the state then
            known = found.running
        if known is not None and (known.future.done() or now < known.until):
            return known
        if known is not None:
            running.id, running.began = known.id or running.id, known.began
        wanted = dataclasses.replace(accepted, gone=lambda: self._is_gone(running))
        running.future = self._issuances.issue(wanted)
        with self._lock:
            self._running[running.place] = running
            if running.id is not None:
                self._named[running.id] = running
        running.future.add_done_callback(lambda _: self._settle(running))
        return running

    def defer(self, running: RunningDeferral) -> Future[str]:
        """Note a request, so that its answer can be fetched from any server with this state.

        Returns:
            a future; it has what its URL ends with, or a `StateUnavailable`.
        """
        if running.id is not None:
            known: Future[str] = Future()
            known.set_result(running.id)
            return known
        noting = running.noting
        if noting is not None and not noting.done():  # one is enough for all who wait for the same
            return noting
        accepted = running.accepted
        _, client = accepted.owner
        noted: Future[str] = Future()
        running.noting = noted

        def note(begun: Future[str]) -> None:
            error = begun.exception()
            if error is not None:
                noted.set_exception(error)
                return
            with self._lock:
                running.id = begun.result()
                self._named[running.id] = running
            try:
                self._settle(running)
            finally:
                noted.set_result(running.id)  # not before: else another one would be begun for who asks then

        self._records.begin(
            running.identity, accepted.block or "", client, accepted.request.pem, self._clock.now()
        ).add_done_callback(note)
        return noted

    def find(self, request: str, owner: Owner, found: Found) -> None:
        """Look a request up, and the chain that is there for it.

        Args:
            request: what its URL ends with.
            owner: for whom.
            found: told in the thread of the loop.
        """
        try:
            self._issuances.first.issuer.loop.submit(self._find(request, owner, found))
        except RuntimeError:  # the loop is closed
            found(stopping())

    def pause(self, running: RunningDeferral) -> int:
        """Return the seconds after which it is worth asking again; the longer it takes, the more."""
        age = self._clock.monotonic() - running.began
        least = _QUEUED_PAUSE if self._issuances.workload.queued else _LEAST_PAUSE
        return max(least, min(_MOST_PAUSE, math.ceil(age / 2)))

    def _is_gone(self, running: RunningDeferral) -> bool:
        return self._is_stopping() or (running.id is None and running.accepted.gone())

    def _find(self, request: str, owner: Owner, found: Found) -> Steps[None]:
        OWNER.set(owner)

        def look() -> FoundRequest:
            # First this, then the state: what ends in between is found here, what has ended before there.
            with self._lock:
                running = self._named.get(request)
            known = self._records.find(request, self._clock.now())
            return FoundRequest(known, None if known is None else self._chain_of(known), running)

        try:
            known = yield from self._threads.call(look)
        except Exception as error:  # noqa: BLE001 - whatever it is, who asks must hear of it
            found(stopping() if isinstance(error, CancelledError) else error)
        else:
            found(known)

    def _chain_of(self, request: DeferredRequest) -> ChainRecord | None:
        """Return the chain that has come of a request, or that has come since and is newer."""
        fingerprint = None if request.outcome is None else request.outcome.fingerprint
        # Another account may have got it than that which would have been the first to be asked.
        known = [] if fingerprint is None else self._chains.of([fingerprint])
        newest = self._chains.newest(known[0].identity if known else request.identity)
        if newest is None or newest.not_after <= self._clock.now():
            return None
        return newest if newest.fingerprint == fingerprint or newest.issued >= request.begun else None

    def _settle(self, running: RunningDeferral) -> None:
        """Note what has come of a request, once that is known and the request is noted itself."""
        with self._lock:
            if not running.future.done() or running.is_noted:
                return
            outcome = None if running.id is None or self._is_stopping() else self._outcome(running)
            running.is_noted = outcome is not None
        if running.id is None or outcome is None:
            self._drop(running)
            return
        self._tell(running)
        noted = self._records.end(running.id, outcome, self._clock.now())
        noted.add_done_callback(lambda _: self._drop(running))

    def _drop(self, running: RunningDeferral) -> None:
        with self._lock:
            if self._running.get(running.place) is running:
                del self._running[running.place]
            if running.id is not None and self._named.get(running.id) is running:
                del self._named[running.id]

    def _outcome(self, running: RunningDeferral) -> DeferredOutcome | None:
        """Return what has come of a request, None where the work goes on or begins anew."""
        error = running.future.exception()
        if error is None:
            return DeferredOutcome(running.future.result().chain.fingerprint)
        if isinstance(error, DeadlinePassed | ClientGone):
            return None
        seconds = retry_after_of(error)
        retry_at = None if seconds is None else self._clock.now() + datetime.timedelta(seconds=seconds)
        reason = one_line(reason_of(error, running.accepted.reference), _LONGEST_REASON)
        return DeferredOutcome(None, status_of(error), reason, retry_at)

    def _account_url(self, accepted: AcceptedRequest) -> str | None:
        return self._issuances.of(accepted.issuers[0]).issuer.account_url

    def _tell(self, running: RunningDeferral) -> None:
        """Tell the operator of a failure: perhaps nobody fetches that answer."""
        error = running.future.exception()
        if error is None:
            return
        is_bug = not isinstance(error, AcmeException)
        reason = f"a bug: {type(error).__name__}" if is_bug else for_operator(error)
        known = running.accepted.known(self._account_url(running.accepted))
        self._bus.emit(
            FailedEvent(
                stage="deferred",
                status=status_of(error),
                reason=one_line(reason, _LONGEST_REASON),
                bug=error if is_bug else None,
                **known,
            )
        )
