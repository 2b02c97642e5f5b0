"""From one accepted request to its chain: stored, already running, or ordered now."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

from acmems.challenges import Validator
from acmems.events import Bus, FailedEvent, IssuedEvent, NotIssuedEvent, RequestedEvent
from acmems.exceptions import AcmeException, CertificateUnusable, ClocksDiffer
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuers.breaker import CircuitBreaker
from acmems.issuing.claims import OrderClaims
from acmems.issuing.contract import (
    ChainHistory,
    IssuanceMemory,
    Issuer,
    Workload,
    refuse_compromised_key,
    refuse_key_of_account,
)
from acmems.issuing.cooldown import PauseMemory
from acmems.issuing.kept import KeptChains
from acmems.issuing.limits.accounting import LimitAccounting
from acmems.issuing.pauses import Pauses
from acmems.issuing.preparing.preparation import PreparationRequest
from acmems.issuing.preparing.preparations import Preparations
from acmems.issuing.renewal.times import RenewalOutlook, RenewalTimes
from acmems.issuing.requests import AcceptedRequest, Delivery, IssuanceKey
from acmems.issuing.running import (
    RunningIssuance,
    WaitingClient,
    hung_up,
    late,
    not_begun,
    not_valid,
    queue_full,
    stopping,
    tell,
)
from acmems.issuing.storing import StorageAccess
from acmems.issuing.table import IssuanceTable, Leavers
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.shares import FairQueue
from acmems.system.steps import OWNER, Steps, pause
from acmems.x509.chain import Chain, read_issued
from acmems.x509.csr import CertificateRequest
from acmems.x509.leaf import SubjectPolicy

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at what waits for its turn
_FULL_SECONDS = 60.0  # after which a client that was refused is to ask again


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
        most_waiting: how many issuances may wait for their turn.
        most_behind: how many may go on that nobody waits for.
        subject: what the subject of an issued certificate may hold beside names.
        memory: remembers over a restart what has begun, None for nothing.
        pauses: remembers pauses over a restart, None for nothing.
        history: keeps what is known of chains that were issued, None for nothing.
        times: tells whether a chain is due; None: by its lifetime alone.
        limits: has orders count for the limits of the CA, None where nothing is counted.
        name: what its health is told by.
    """

    HANGING_SECONDS = 1800.0  # beyond the time of an issuance; withdrawing its proofs may take minutes

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
        most_waiting: int = 2000,
        most_behind: int = 1000,
        subject: SubjectPolicy = "dropped",
        memory: IssuanceMemory | None = None,
        pauses: PauseMemory | None = None,
        history: ChainHistory | None = None,
        times: RenewalTimes | None = None,
        limits: LimitAccounting | None = None,
        name: str = "issuance",
    ) -> None:
        self.name = name
        times = self._times = RenewalTimes() if times is None else times
        self._limits = limits
        self._history = history
        self.subject: SubjectPolicy = subject
        self.issuer = issuer
        self.identity = identity
        self.bus = bus
        self.seconds = seconds
        self.work_seconds = max(seconds, work_seconds)
        self.clock = clock
        self.pauses = Pauses(clock, identity.directory, pauses, lambda: issuer.account_url)
        self.breaker = CircuitBreaker(clock)
        self.claims = OrderClaims(memory, history, self.pauses, times, clock)
        self._storages = StorageAccess(issuer.loop, identity)
        self._chains = KeptChains(
            self._storages,
            identity,
            clock,
            times=times,
            is_revoked=self._is_revoked,
            report=self._report_unsaved,
            on_release=self.claims.forget,
        )
        queue: FairQueue[RunningIssuance] = FairQueue(
            most_at_once, most_waiting, most_behind, lambda each: self.pauses.places(each.accepted)
        )
        self._table = IssuanceTable(queue, clock)
        self.preparations = Preparations(
            *(issuer, identity, self.claims, self.pauses, self._storages),
            terms=self._terms,
            note_failure=self._note_failure,
            clock=clock,
            work_seconds=self.work_seconds,
            most_at_once=most_at_once,
            most_waiting=most_waiting,
        )
        self._shortest = seconds  # that a client has waited for, as each request may say

    def issue(self, accepted: AcceptedRequest) -> Future[Delivery]:
        """Return a chain for an accepted request, at once if it is stored and fresh.

        Returns:
            a future; it holds the chain, or an `AcmeException` that tells why there is none.

        Raises:
            PayloadInvalid: the CSR is for the account's own key, or for a compromised one.
            StorageUnavailable: the storage cannot tell what it holds.
            CAUnavailable: nothing is stored, and the server is stopping.
        """
        self.admit(accepted)
        return self.attempt(accepted)

    def admit(self, accepted: AcceptedRequest) -> None:
        """Refuse what is never issued, and tell that a request has come.

        Raises:
            PayloadInvalid: the CSR is for the account's own key, or for a compromised one.
        """
        refuse_key_of_account(accepted.request, self.issuer.key_digest)
        refuse_compromised_key(accepted.request, self._history)
        self.bus.emit(RequestedEvent(**accepted.known(self.issuer.account_url)))

    def attempt(self, accepted: AcceptedRequest) -> Future[Delivery]:
        """Return a chain for a request that was admitted; as `issue`."""
        key, ended = self.key(accepted.request), self._table.ended
        client = self._waiting(accepted)
        if accepted.storage.is_local:
            self._answer(key, client, self._chains.fresh(key, accepted), ended)
        else:
            self._submit(self._look_up(key, client, ended), [client])
        return client.future

    def fresh(self, accepted: AcceptedRequest) -> Chain | None:
        """Return the chain that is stored for a request and needs no renewal, None for none; it blocks.

        Raises:
            StorageUnavailable: the storage cannot tell what it holds.
        """
        return self._chains.fresh(self.key(accepted.request), accepted)

    def look_up(self, accepted: AcceptedRequest) -> Steps[Chain | None]:
        """Return what `fresh` does, without blocking the loop."""
        return (yield from self._storages.look_up(lambda: self.fresh(accepted)))

    def is_running(self, accepted: AcceptedRequest) -> bool:
        """Tell whether a request would join another one for the same, or go on with what was prepared."""
        key = self.key(accepted.request)
        return self._table.has(key) or self.preparations.has(key.identifiers)

    def stale(self, accepted: AcceptedRequest, error: AcmeException) -> Steps[Delivery | None]:
        """Return the stored chain to send in the place of an error, None if there is none that is valid.

        Args:
            accepted: what is asked for.
            error: why there is no new one.
        """
        # A chain that is out of date by a wrong clock may be good by that of the CA.
        now = error.theirs if isinstance(error, ClocksDiffer) else self.clock.now()
        chain = yield from self._storages.call(accepted.storage, lambda: self._chains.usable(accepted, now))
        if chain is None:
            return None
        reason = f"{error}; the stored chain is sent"
        known = accepted.known(self.issuer.account_url)
        self.bus.emit(FailedEvent(stage="renew", status=200, reason=reason, **known))
        return Delivery(chain, "stale")

    @property
    def limits(self) -> LimitAccounting | None:
        """Has orders count for the limits of the CA, None where nothing is counted."""
        return self._limits

    @property
    def workload(self) -> Workload:
        """What is to be done, and what is being done."""
        return self._table.workload(self._chains.unsaved)

    def is_healthy(self) -> bool:
        """Tell whether fewer issuances hang than one client may have: it would get nothing any more."""
        return not self._table.hang(self.work_seconds + self.HANGING_SECONDS)

    def uses(self, validator: Validator) -> bool:
        """Tell whether an issuance that runs or waits for its turn may prove names by a validator."""
        return self._table.uses(validator) or self.preparations.uses(validator)

    def adapt(self, most_at_once: int, most_waiting: int) -> None:
        """Go by other limits from now on, which the arguments are, as for the constructor.

        Whoever has the configuration read anew may have ended what the CA has paused, so that is tried again.
        """
        self.pauses.retry_paused()
        self._table.adapt(most_at_once, most_waiting)
        self.preparations.adapt(most_at_once, most_waiting)
        self._begin_next()

    def key(self, request: CertificateRequest) -> IssuanceKey:
        """Return what makes requests the same as this one."""
        return IssuanceKey(self.identity, request.identifiers, request.key_digest, request.must_staple)

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        """Return when a chain is to be renewed that is delivered from a storage, at some time (aware)."""
        return self._times.outlook(chain, storage, now)

    def save_kept(self) -> None:
        """Try again to store the chains that could not be stored; called from time to time."""
        self._chains.save()

    def let_go(self) -> None:
        """Answer all clients that seem to have hung up, so that a stop does not wait for their orders."""
        self._dismiss(self._table.leave_gone())

    def drain(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that somebody waits for; others are refused.

        Args:
            deadline: when to give up.
        """
        tell(self._table.close(), stopping())
        self.preparations.close()
        while self._table.is_waited_for and not deadline.passed:
            self.clock.sleep(min(0.05, deadline.remaining))

    def close(self, deadline: Deadline) -> None:
        """Begin no further issuance, and wait for those that run; those that have not begun are refused.

        Args:
            deadline: when to give up.
        """
        tell(self._table.close(), stopping())
        self.preparations.close()
        while (len(self._table) or len(self.preparations)) and not deadline.passed:
            self.clock.sleep(min(0.05, deadline.remaining))
        self.save_kept()

    def _waiting(self, accepted: AcceptedRequest) -> WaitingClient:
        arrived = self.clock.monotonic() if accepted.arrived is None else accepted.arrived
        seconds = self._seconds(accepted)
        self._shortest = min(self._shortest, seconds)
        return WaitingClient(accepted, Future(), Deadline(arrived + seconds, self.clock.monotonic))

    def _look_up(self, key: IssuanceKey, client: WaitingClient, ended: int) -> Steps[None]:
        """Answer a client by what a storage has that may take long to tell."""
        OWNER.set(client.owner)
        try:
            fresh = yield from self._storages.look_up(lambda: self._chains.fresh(key, client.accepted))
            self._answer(key, client, fresh, ended)
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits must hear of it
            tell([client], stopping() if isinstance(error, CancelledError) else error)

    def _answer(self, key: IssuanceKey, client: WaitingClient, fresh: Chain | None, ended: int) -> None:
        """Deliver the chain that is stored, or let a client wait for one."""
        if fresh is not None:
            client.future.set_result(Delivery(fresh, "stored"))
        else:
            self._dismiss(self._table.enter(key, client, ended))
            self._begin_next(key)

    def _begin_next(self, new: IssuanceKey | None = None) -> None:
        """Begin issuances as their turns come, as far as there is room.

        Args:
            new: one that has not waited yet.
        """
        while True:
            running, leavers = self._table.next(new)
            self._dismiss(leavers)
            if running is None:
                break
            try:
                self.issuer.loop.submit(self._run(running))
            except RuntimeError:  # the loop is closed
                tell(self._table.end(running), stopping())
        if self._table.has_to_be_looked_at():
            self._submit(self._watch_queue(), [])

    def _watch_queue(self) -> Steps[None]:
        """Look after what waits for its turn, as long as there is anything."""
        while True:
            look = self._table.look()
            self._dismiss(look.leavers)
            for line in look.sums:
                logger.warning("%s", line)
            if look.wait is None:
                return
            yield pause(look.wait)

    def _dismiss(self, leavers: Leavers) -> None:
        """Tell clients that wait no longer why; those that have not hung up may get their stored chain."""
        for each in leavers.gone:
            each.future.set_exception(hung_up())
        told = [
            *leavers.told,
            *((each, not_begun(each.accepted, self._seconds(each.accepted))) for each in leavers.late),
        ]
        told += [(each, queue_full()) for each in leavers.refused]
        for each, error in told:
            if each.is_gone:
                each.future.set_exception(error)
            else:
                self._submit(self._tell_failure([(each, error)]), [each])

    def _submit(self, steps: Steps[None], waiting: Sequence[WaitingClient]) -> None:
        """Run steps, or tell those who wait for them that the server is stopping."""
        try:
            self.issuer.loop.submit(steps)
        except RuntimeError:  # the loop is closed
            tell(waiting, stopping())

    def _run(self, running: RunningIssuance) -> Steps[None]:
        """Run one issuance to its end, and tell everyone who waits."""
        OWNER.set(running.accepted.owner)
        with contextlib.suppress(RuntimeError):  # the loop is being closed, which ends this issuance, too
            self.issuer.loop.submit(self._watch(running))
        try:
            delivery = yield from self._obtain(running)
            waiting = yield from self._chains.store(
                running, delivery, lambda is_over: self._table.end_if(running, is_over)
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            yield from self._fail(running, stopping() if isinstance(error, CancelledError) else error)
        else:
            running.ended.set()
            tell(waiting, delivery)
        self._begin_next()

    def _fail(self, running: RunningIssuance, error: Exception) -> Steps[None]:
        """Tell those whom an error is for, and let the others have their own try."""
        leavers = self._table.fail(
            running, error, lambda each: self.pauses.answer(running.accepted, error, each.accepted)
        )
        running.ended.set()
        told, leavers.told = leavers.told, []
        if running.gave_up and not told:
            names = ", ".join(running.accepted.request.names)
            logger.warning("what went on for %s after its clients had stopped waiting: %s", names, error)
        self._dismiss(leavers)
        yield from self._tell_failure(told)

    def _tell_failure(self, told: Sequence[tuple[WaitingClient, Exception]]) -> Steps[None]:
        """Send the chain that is stored for each who waited, if it is valid still, else the error."""
        found: dict[Storage, Delivery | None] = {}
        for each, error in told:
            outcome: Delivery | Exception = error
            storage = each.accepted.storage
            try:
                if isinstance(error, AcmeException) and each.accepted.takes_stale:
                    if storage not in found:
                        found[storage] = yield from self.stale(each.accepted, error)
                    outcome = found[storage] or error
            except Exception as failure:  # noqa: BLE001 - whatever it is, who waits must hear of it
                outcome = stopping() if isinstance(failure, CancelledError) else failure
            tell([each], outcome)

    def _watch(self, running: RunningIssuance) -> Steps[None]:
        """Tell each client whose time is over that the work goes on, until that ends."""
        while True:
            left = min(running.next_deadline, self._shortest)
            # Who joins meanwhile waits for as long at least from then on, so that it is not missed.
            if (yield running.ended.wait(max(0.001, left))):
                return
            leavers = self._table.leave_late(running)
            yield from self._tell_failure(
                [(each, late(each.accepted, self._seconds(each.accepted))) for each in leavers]
            )
            self._begin_next()

    def _seconds(self, accepted: AcceptedRequest) -> float:
        return accepted.seconds or self.seconds

    def _obtain(self, running: RunningIssuance) -> Steps[Delivery]:
        key, accepted = running.key, running.accepted
        if running.looks_again:
            fresh = yield from self._storages.call(
                accepted.storage, lambda: self._chains.fresh(key, accepted)
            )
            if fresh is not None:
                return Delivery(fresh, "stored")
        obtain = self.claims.obtain(running, lambda: self._order(key, accepted))
        return (yield from self.preparations.joined(running, obtain))

    def _order(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[Chain]:
        self.pauses.check(accepted)
        yield from self._storages.check(accepted.storage)
        yield from self.claims.intend(key.digest, accepted.request.pem, accepted.block)
        began = self.clock.monotonic()
        try:
            chain = yield from self._issue(key, accepted)
        except Exception as error:
            self._note_failure(accepted, error, began)
            raise
        self.pauses.clear(accepted)
        self.breaker.note(None)
        self._check_dates(accepted, chain)
        self.bus.emit(IssuedEvent(not_after=chain.not_after, **self._ordered(accepted, began)))
        return chain

    def _note_failure(
        self, asked: AcceptedRequest | PreparationRequest, error: Exception, began: float
    ) -> None:
        self.pauses.note(asked, error)
        self.breaker.note(error)
        if self._limits is not None:
            self._limits.note(error, asked.request, asked.block)
        self.bus.emit(NotIssuedEvent(error=error, **self._ordered(asked, began)))

    def _terms(self, key: IssuanceKey, asked: AcceptedRequest | PreparationRequest) -> OrderTerms | None:
        if self._limits is None:
            return None
        client = None if asked.client == "-" else asked.client
        ahead, placement = isinstance(asked, PreparationRequest), self._limits.placement
        return placement(key.digest, asked.request, asked.block, client, asked.replaces, is_ahead=ahead)

    def _issue(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[Chain]:
        deadline, request = self.clock.deadline(self.work_seconds), accepted.request
        offered = yield from self.issuer.obtain(
            *(request, accepted.validators, deadline, key.digest, self._terms(key, accepted)),
            prepared=key.of_names.digest,
        )
        try:
            chain = read_issued(
                offered.pem, request, subject=accepted.subject or self.subject, grants=accepted.grants
            )
        except CertificateUnusable:
            self.claims.forget(key)
            raise
        return dataclasses.replace(chain, alternates=offered.alternates) if offered.alternates else chain

    def _is_revoked(self, chain: Chain) -> bool:
        return self._history is not None and self._history.is_revoked(chain)

    def _check_dates(self, accepted: AcceptedRequest, chain: Chain) -> None:
        """Warn of a new chain that is not valid by this server's clock, and do not order it anew at once."""
        now = self.clock.now()
        if not chain.is_valid(now):
            error = not_valid(chain, now)
            logger.warning("%s; the certificate is delivered all the same", error)
            self.pauses.note(accepted, error)

    def _report_unsaved(self, accepted: AcceptedRequest, error: Exception) -> None:
        reason = f"{error}; the chain is kept in memory, storing is tried again"
        known = accepted.known(self.issuer.account_url)
        self.bus.emit(FailedEvent(stage="store", status=200, reason=reason, **known))

    def _ordered(self, asked: AcceptedRequest | PreparationRequest, began: float) -> dict[str, Any]:
        """Return what is known of an order that has ended, as fields of an event."""
        seconds = self.clock.monotonic() - began
        known = asked.known(self.issuer.account_url)
        return {"directory": self.identity.directory, "seconds": seconds, **known}
