"""The preparations of one account: one at most for the same names, however many wait for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from acmems.challenges import Validator
from acmems.exceptions import AcmeException, DeadlinePassed
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuing.claims import OrderClaims
from acmems.issuing.contract import Issuer
from acmems.issuing.pauses import Pauses
from acmems.issuing.preparing.preparation import Preparation, PreparationRequest
from acmems.issuing.requests import IssuanceKey
from acmems.issuing.running import RunningIssuance, queue_full, stopping
from acmems.issuing.storing import StorageAccess
from acmems.storages import IssuerIdentity
from acmems.system.clock import Clock
from acmems.system.shares import FairQueue
from acmems.system.steps import OWNER, Steps
from acmems.x509.identifiers import Identifier

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Preparations:
    """Has the names of orders proved before their CSRs are there, each set of names once.

    Nobody has to come for what is prepared: it waits for whoever asks for the same names next, as long as the
    CA keeps it.

    Preparations take turns as issuances do, and have places of their own: an issuance that has a place may
    wait for a preparation, and never for the place of one. `joined` is for the loop's thread, all others for
    any.

    Args:
        issuer: proves names.
        identity: whose chains these are.
        claims: have one server at a time prepare the same.
        pauses: which requests are not tried again for now.
        storages: how storages are used.
        terms: returns those of an order that has to be placed, given what makes others the same.
        note_failure: told what has failed, how, and when it began on the monotonic clock.
        clock: for deadlines.
        work_seconds: how long one may take.
        most_at_once: how many run at once; further ones wait.
        most_waiting: how many may wait for their turn.
    """

    def __init__(
        self,
        issuer: Issuer,
        identity: IssuerIdentity,
        claims: OrderClaims,
        pauses: Pauses,
        storages: StorageAccess,
        *,
        terms: Callable[[IssuanceKey, PreparationRequest], OrderTerms | None],
        note_failure: Callable[[PreparationRequest, Exception, float], None],
        clock: Clock,
        work_seconds: float,
        most_at_once: int,
        most_waiting: int,
    ) -> None:
        self._issuer = issuer
        self._identity = identity
        self._claims = claims
        self._pauses = pauses
        self._storages = storages
        self._terms = terms
        self._note_failure = note_failure
        self._clock = clock
        self._work_seconds = work_seconds
        self._queue: FairQueue[Preparation] = FairQueue(
            most_at_once, most_waiting, 0, lambda each: pauses.places(each.request)
        )
        self._running: dict[IssuanceKey, Preparation] = {}
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many run or wait for their turn."""
        return len(self._running)

    def begin(self, request: PreparationRequest) -> Future[None]:
        """Prepare an order, or join the one that is being prepared for the same names.

        Args:
            request: what is asked for.

        Returns:
            a future; it is done once the names are proved, or there is nothing to prove, and holds an
            `AcmeException` where that has failed: whoever asks for a certificate then has it tried once more,
            by the rules that hold after failures.
        """
        future: Future[None] = Future()
        if self._issuer.preparing is None:
            future.set_result(None)
            return future
        try:
            self._issuer.loop.submit(self._enter(self._key(request.identifiers), [(request, future)]))
        except RuntimeError:  # the loop is closed
            future.set_exception(stopping())
        return future

    def has(self, identifiers: tuple[Identifier, ...]) -> bool:
        """Tell whether an order for some names is being prepared, or is prepared."""
        key, preparing = self._key(identifiers), self._issuer.preparing
        return key in self._running or (preparing is not None and preparing.has_prepared(key.digest))

    def uses(self, validator: Validator) -> bool:
        """Tell whether any of them may prove names by a validator."""
        waiting = (each for running in tuple(self._running.values()) for each in tuple(running.waiting))
        return any(validator in request.validators for request, _ in waiting)

    def adapt(self, most_at_once: int, most_waiting: int) -> None:
        """Go by other limits from now on; what runs or waits is left alone."""
        self._queue.most_running, self._queue.most_waiting = most_at_once, most_waiting

    def close(self) -> None:
        """Begin none any more, and wait for no other server; who waits for their turn is told so."""
        self._is_closed = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, which has ended all
            self._issuer.loop.submit(self._refuse_queued())

    def joined(self, issuance: RunningIssuance, issue: Steps[T]) -> Steps[T]:
        """Issue a certificate, after the preparation of its names where one runs.

        One that waits for its turn is left out: the issuance does the same.

        Args:
            issuance: the issuance.
            issue: issues the certificate.

        Raises:
            DeadlinePassed: nobody waits any more, and what was prepared is left to the next request.
            AcmeException: what `issue` raises.
        """
        key = issuance.key.of_names
        left_out: list[tuple[PreparationRequest, Future[None]]] = []
        while (running := self._running.get(key)) is not None:
            if running.has_begun:
                yield running.ended.wait()
                if issuance.accepted.ends_with_client and not issuance.is_waited_for:
                    raise DeadlinePassed("nobody waits for the certificate any more", retry_after=1.0)
            else:
                self._queue.remove(lambda each: each is running)
                del self._running[key]
                left_out += running.waiting
        try:
            issued = yield from issue
        except BaseException as error:
            _tell(left_out, stopping() if isinstance(error, CancelledError) else error)
            raise
        _tell(left_out, None)
        return issued

    def _enter(self, key: IssuanceKey, waiting: list[tuple[PreparationRequest, Future[None]]]) -> Steps[None]:
        """Have somebody wait: for the preparation of the same that is there, or for a new one."""
        yield from ()
        running = self._running.get(key)
        if self._is_closed:
            _tell(waiting, stopping())
            return
        if running is not None:
            running.waiting += waiting
            return
        new = self._running[key] = Preparation(key, waiting[0][0], waiting)
        shed = self._queue.put(new)
        if shed is not None:
            self._leave_out(shed, queue_full())
        self._begin_next()

    def _refuse_queued(self) -> Steps[None]:
        yield from ()
        for each in self._queue.remove(lambda _: True):
            self._leave_out(each, stopping())

    def _leave_out(self, queued: Preparation, error: AcmeException) -> None:
        del self._running[queued.key]
        _tell(queued.waiting, error)

    def _begin_next(self) -> None:
        while (running := self._queue.next()) is not None:
            running.has_begun = True
            self._issuer.loop.submit(self._run(running))

    def _run(self, running: Preparation) -> Steps[None]:
        OWNER.set(running.request.owner)
        names, error = ", ".join(running.request.names), None
        try:
            yield from self._claims.hold(
                running.key.digest,
                running.request,
                lambda: self._prepare(running.key, running.request),
                lambda: self._is_closed,
            )
        except Exception as failure:  # noqa: BLE001 - whatever it is, who waits must hear of it
            error = stopping() if isinstance(failure, CancelledError) else failure
            logger.info("an order for %s could not be prepared: %s", names, error)
        else:
            logger.info("an order for %s is prepared", names)
        del self._running[running.key]
        self._queue.end(running.share, behind=False)
        running.ended.set()
        # What one auth block's verifications have failed at says nothing of those of another.
        others = [] if error is None else [e for e in running.waiting if e[0].block != running.request.block]
        _tell([each for each in running.waiting if each not in others], error)
        if others:
            yield from self._enter(running.key, others)
        self._begin_next()

    def _prepare(self, key: IssuanceKey, asked: PreparationRequest) -> Steps[None]:
        """Have names proved, by the rules that hold for what is ordered."""
        preparing = self._issuer.preparing
        if preparing is None:
            return
        self._pauses.check(asked)
        yield from self._storages.check(asked.storage)
        yield from self._claims.intend(key.digest, b"", asked.block)
        began, deadline = self._clock.monotonic(), self._clock.deadline(self._work_seconds)
        try:
            terms = self._terms(key, asked)
            yield from preparing.prepare(asked.identifiers, asked.validators, deadline, key.digest, terms)
        except Exception as error:
            self._note_failure(asked, error, began)
            raise

    def _key(self, identifiers: tuple[Identifier, ...]) -> IssuanceKey:
        return IssuanceKey(self._identity, identifiers, "", must_staple=False)


def _tell(waiting: Iterable[tuple[PreparationRequest, Future[None]]], error: BaseException | None) -> None:
    """Tell all who wait for a preparation how it ended."""
    for _, future in waiting:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error if isinstance(error, AcmeException) else stopping())
