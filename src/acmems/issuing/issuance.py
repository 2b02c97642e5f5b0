"""From one accepted request to its chain: stored, already running, or ordered now."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

from acmems.events import Bus, FailedEvent, IssuedEvent, RequestedEvent
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    CertificateUnusable,
    ClocksDiffer,
    DeadlinePassed,
    PayloadInvalid,
)
from acmems.issuing.contract import Issuer
from acmems.issuing.kept import KeptChains
from acmems.issuing.pauses import Pauses
from acmems.issuing.queues import FairQueue, Share
from acmems.issuing.requests import AcceptedRequest, Delivery, IssuanceKey
from acmems.issuing.storing import StorageAccess
from acmems.storages import IssuerIdentity
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.chain import LONG_PAUSE, Chain, read_issued
from acmems.x509.csr import CertificateRequest
from acmems.x509.leaf import SubjectPolicy

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A client that waits for an issuance, and how long it does."""

    accepted: AcceptedRequest
    future: Future[Delivery]
    deadline: Deadline


@dataclass(slots=True, eq=False)
class _RunningIssuance:
    """An issuance that runs or waits for its turn, who waits for it, and who has been told to ask again.

    It is tried with one request, whoever has joined since. Where that fails by what belongs to this request,
    it ends for those like it, and begins again for the others.
    """

    key: IssuanceKey
    accepted: AcceptedRequest
    looks_again: bool  # whether a chain for the same may have been stored since the storage was asked
    began: float | None = None  # on the monotonic clock; None while it waits for its turn
    takes_turn: bool = True  # False once nobody waits for it: then another one may begin
    waiting: list[_Waiting] = field(default_factory=list)
    gave_up: dict[str, AcceptedRequest] = field(default_factory=dict)  # one for each storage, by its name
    ended: Signal = field(default_factory=Signal)

    @property
    def share(self) -> Share:
        """Whose share of the places it takes: that of the request that it is tried with."""
        return Share(self.accepted.block, self.accepted.client, self.accepted.request.names)


MOST_WAITING = 10_000


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
            do not count, unless there are `most_behind` of them.
        most_behind: how many may go on that nobody waits for.
        subject: what the subject of an issued certificate may hold beside names.
    """

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
        most_behind: int = 1000,
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
        self._storages = StorageAccess(issuer.loop, identity)
        self._chains = KeptChains(self._storages, identity, clock, self._report_unsaved)
        self._lock = threading.Lock()  # guards what follows
        self._closing = False
        self._ended = 0  # issuances that have run
        self._running: dict[IssuanceKey, _RunningIssuance] = {}
        self._queue: FairQueue[_RunningIssuance] = FairQueue(
            most_at_once, MOST_WAITING, most_behind, lambda each: self.pauses.places(each.accepted)
        )

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
        self.bus.emit(RequestedEvent(**accepted.known(self.issuer.account_url)))
        key = self.key(request)
        future: Future[Delivery] = Future()
        ended = self._ended
        fresh = self._chains.fresh(key, accepted)
        if fresh is not None:
            future.set_result(Delivery(fresh, "stored"))
            return future
        with self._lock:
            if self._closing:
                raise _stopping()
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = _RunningIssuance(key, accepted, self._ended != ended)
                self._queue.put(running)
            running.waiting.append(_Waiting(accepted, future, self.clock.deadline(self.seconds)))
        self._begin_next()
        return future

    def is_healthy(self) -> bool:
        """Tell whether fewer issuances hang than one client may have: it would get nothing any more."""
        now, longest = self.clock.monotonic(), self.work_seconds + self.HANGING_SECONDS
        with self._lock:
            begun = [running.began for running in self._running.values() if running.began is not None]
        return sum(now - began > longest for began in begun) < self._queue.most_of_one

    def key(self, request: CertificateRequest) -> IssuanceKey:
        """Return what makes requests the same as this one."""
        return IssuanceKey(self.identity, request.names, request.key_digest, request.must_staple)

    def save_kept(self) -> None:
        """Try again to store the chains that could not be stored; called from time to time."""
        self._chains.save()

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
            refused = self._queue.remove(lambda _: True)
            for running in refused:
                del self._running[running.key]
        for running in refused:
            _tell(running.waiting, _stopping())

    def _begin_next(self) -> None:
        """Begin issuances as their turns come, as far as there is room."""
        while True:
            with self._lock:
                running = self._queue.next()
                if running is None:
                    return
                running.began = self.clock.monotonic()
            try:
                self.issuer.loop.submit(self._run(running))
            except RuntimeError:  # the loop is closed
                with self._lock:
                    waiting = self._end(running)
                _tell(waiting, _stopping())

    def _run(self, running: _RunningIssuance) -> Steps[None]:
        """Run one issuance to its end, and tell everyone who waits."""
        with contextlib.suppress(RuntimeError):  # the loop is being closed, which ends this issuance, too
            self.issuer.loop.submit(self._watch(running))
        try:
            delivery = yield from self._obtain(running)
            waiting = yield from self._keep(running, delivery)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            yield from self._fail(running, _stopping() if isinstance(error, CancelledError) else error)
        else:
            running.ended.set()
            _tell(waiting, delivery)
        self._begin_next()

    def _fail(self, running: _RunningIssuance, error: Exception) -> Steps[None]:
        """Tell those whom an error is for, and let the others have their own try."""
        with self._lock:
            waiting, told = self._end(running), []
            others: list[_Waiting] = []
            for each in waiting:
                answer = self.pauses.answer(running.accepted, error, each.accepted)
                if answer is None and not self._closing:
                    others.append(each)
                else:
                    told.append((each, answer or error))
            if others:
                self._begin_again(running, others)
        running.ended.set()
        if running.gave_up and not told:
            names = ", ".join(running.accepted.request.names)
            logger.warning("what went on for %s after its clients had stopped waiting: %s", names, error)
        yield from self._tell_failure(told)

    def _begin_again(self, running: _RunningIssuance, others: list[_Waiting]) -> None:
        """Queue an issuance for those whom the end of the last one says nothing about; the lock is held."""
        again = _RunningIssuance(running.key, others[0].accepted, looks_again=True)
        again.waiting = others
        again.gave_up = running.gave_up
        self._running[running.key] = again
        self._queue.put(again)

    def _tell_failure(self, told: Sequence[tuple[_Waiting, Exception]]) -> Steps[None]:
        """Send the chain that is stored for each who waited, if it is valid still, else the error."""
        found: dict[str, Delivery | None] = {}
        for each, error in told:
            outcome: Delivery | Exception = error
            storage = each.accepted.storage.name
            try:
                if isinstance(error, AcmeException):
                    if storage not in found:
                        found[storage] = yield from self._stale(each.accepted, error)
                    outcome = found[storage] or error
            except Exception as failure:  # noqa: BLE001 - whatever it is, who waits must hear of it
                outcome = _stopping() if isinstance(failure, CancelledError) else failure
            _tell([each], outcome)

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
                if not running.waiting and running.takes_turn:
                    running.takes_turn = not self._queue.fall_behind(running.share)
            yield from self._tell_failure([(each, self._late(each.accepted)) for each in late])
            self._begin_next()

    def _late(self, accepted: AcceptedRequest) -> DeadlinePassed:
        return DeadlinePassed(
            f"no certificate for {', '.join(accepted.request.names)} after {self.seconds:.0f} s; the order "
            f"goes on, and the same request gets its certificate",
            retry_after=10.0,
        )

    def _end(self, running: _RunningIssuance) -> list[_Waiting]:
        """Let nobody join any more, and return who waits; the lock is held.

        All at once: whoever does not find the issuance any more must see that one has ended.
        """
        del self._running[running.key]
        self._queue.end(running.share, behind=not running.takes_turn)
        self._ended += 1
        return running.waiting

    def _obtain(self, running: _RunningIssuance) -> Steps[Delivery]:
        key, accepted = running.key, running.accepted
        if running.looks_again:
            fresh = yield from self._storages.call(
                accepted.storage, lambda: self._chains.fresh(key, accepted)
            )
            if fresh is not None:
                return Delivery(fresh, "stored")
        return Delivery((yield from self._order(key, accepted)), "issued")

    def _stale(self, accepted: AcceptedRequest, error: AcmeException) -> Steps[Delivery | None]:
        """Return the stored chain to send in the place of an error, None if there is none that is valid."""
        # A chain that is out of date by a wrong clock may be good by that of the CA.
        now = error.theirs if isinstance(error, ClocksDiffer) else self.clock.now()
        chain = yield from self._storages.call(accepted.storage, lambda: self._chains.usable(accepted, now))
        if chain is None:
            return None
        reason = f"{error}; the stored chain is sent"
        known = accepted.known(self.issuer.account_url)
        self.bus.emit(FailedEvent(stage="renew", status=200, reason=reason, **known))
        return Delivery(chain, "stale")

    def _order(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[Chain]:
        self.pauses.check(accepted)
        yield from self._storages.check(accepted.storage)
        began = self.clock.monotonic()
        try:
            chain = yield from self._issue(key, accepted)
        except Exception as error:
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
                **accepted.known(self.issuer.account_url),
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

    def _keep(self, running: _RunningIssuance, delivery: Delivery) -> Steps[list[_Waiting]]:
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
                    if done:  # an older chain must not replace the new one
                        self._chains.forget(running.key)
                    if unsaved or (done and all(each.accepted.gone() for each in running.waiting)):
                        self._chains.keep(running.key, delivery.chain, unsaved)
                    return self._end(running)
            for accepted in missing:
                done.add(accepted.storage.name)
                error = yield from self._storages.store(accepted.storage, accepted.request, delivery.chain)
                if error is not None:
                    self._report_unsaved(accepted, error)
                    unsaved.append(accepted)

    def _report_unsaved(self, accepted: AcceptedRequest, error: Exception) -> None:
        reason = f"{error}; the chain is kept in memory, storing is tried again"
        known = accepted.known(self.issuer.account_url)
        self.bus.emit(FailedEvent(stage="store", status=200, reason=reason, **known))


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
