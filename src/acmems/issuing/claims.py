"""One order for the same, however many servers are asked for it."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace

from acmems.exceptions import DeadlinePassed, LeaseLost, StateUnavailable
from acmems.issuing.contract import ChainHistory, IssuanceMemory, OrderSharing
from acmems.issuing.pauses import Asked, Pauses
from acmems.issuing.renewal.times import RenewalTimes
from acmems.issuing.requests import AcceptedRequest, Delivery, IssuanceKey
from acmems.issuing.running import RunningIssuance, stopping
from acmems.state.chains import ChainRecord
from acmems.state.sharing.together import OrderTaking
from acmems.storages import NoStorage
from acmems.system.clock import Clock
from acmems.system.steps import Steps, outcome, pause
from acmems.x509.chain import Chain, matches, parse

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between two looks at what another server does
_GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class _WantedChain:
    """What a chain must be that another server has got.

    Args:
        accepted: for whom.
        times: tells whether a chain is due.
        clock: for dates.
        known: the fingerprint of a chain that was there before, where whoever asks wants a new one each time.
    """

    accepted: AcceptedRequest
    times: RenewalTimes
    clock: Clock
    known: str | None = None

    def __call__(self, record: ChainRecord) -> bool:
        """Tell whether a chain is that."""
        return record.fingerprint != self.known and self.chain_of(record) is not None

    def chain_of(self, record: ChainRecord) -> Chain | None:
        """Return the chain that is kept, None where whoever asks must get another one."""
        try:
            chain = parse(record.pem)
        except ValueError:
            return None
        accepted = self.accepted
        now = self.clock.now()
        is_fresh = chain.is_fresh(now, accepted.storage.renew_within)
        if (
            self.times.is_overdue(chain.fingerprint, now)
            or not is_fresh
            or not matches(chain, accepted.request)
            or accepted.refusal(chain)
        ):
            return None
        return chain


class OrderClaims:
    """Has each thing ordered by one server at a time, and remembers what has begun.

    Where the state is not shared, nothing is claimed.

    Args:
        memory: remembers what has begun, None for nothing.
        history: told of chains that were issued; None where nothing is remembered.
        pauses: which requests are not tried again for now; other servers may have begun some.
        times: tells whether a chain is due.
        clock: for dates.
    """

    def __init__(
        self,
        memory: IssuanceMemory | None,
        history: ChainHistory | None,
        pauses: Pauses,
        times: RenewalTimes,
        clock: Clock,
    ) -> None:
        self._times = times
        self.memory = memory
        self.history = history
        self._pauses = pauses
        self._clock = clock

    def obtain(self, running: RunningIssuance, order: Callable[[], Steps[Chain]]) -> Steps[Delivery]:
        """Return a chain that is ordered here, or by another server that is at it already.

        Args:
            running: what it is for.
            order: orders it here.

        Raises:
            AcmeException: there is none; why.
        """
        identity, accepted = running.key.digest, running.accepted
        sharing = None if self.memory is None else self.memory.sharing
        if sharing is None:
            try:
                chain = yield from order()
            finally:
                self._end(identity)
            if self.history is not None:
                self.history.issued(identity, accepted, chain)
            return Delivery(chain, "issued")
        while True:
            found = yield from self._claim(sharing, running)
            if found is not None:
                return Delivery(found, "joined")
            try:
                chain = yield from order()
                yield from self._share(sharing, identity, accepted, chain)
            except LeaseLost:
                names = ", ".join(accepted.request.names)
                logger.warning("another server has taken over the order for %s: waiting for that", names)
            else:
                return Delivery(chain, "issued")
            finally:
                self._end(identity)

    def hold(
        self, identity: str, asked: Asked, work: Callable[[], Steps[None]], is_over: Callable[[], bool]
    ) -> Steps[None]:
        """Do something here that no other server does at the same time.

        Args:
            identity: what makes it the same.
            asked: what it is for.
            work: does it.
            is_over: tells whether this server stops, so that it waits for no other one any more.

        Raises:
            AcmeException: what `work` raises, or what the same failed by elsewhere, a short time ago.
        """
        sharing = None if self.memory is None else self.memory.sharing
        while True:
            if sharing is not None:
                yield from self._take_turn(sharing, identity, asked, is_over)
            try:
                yield from work()
            except LeaseLost:
                logger.warning("another server has taken over what was being prepared: waiting for that")
            else:
                return
            finally:
                self._end(identity)

    def _take_turn(
        self, sharing: OrderSharing, identity: str, asked: Asked, is_over: Callable[[], bool]
    ) -> Steps[None]:
        """Wait until no other server is at the same.

        Raises:
            AcmeException: what the same failed by elsewhere, a short time ago.
            CAUnavailable: this server stops.
            StateUnavailable: it cannot be claimed.
        """
        subjects, seconds = self._pauses.subjects(asked), _FIRST_PAUSE
        while not is_over():
            claim = yield from outcome(sharing.claim(identity, subjects, lambda _: False))
            if not claim.is_elsewhere:
                self._pauses.replace(subjects, claim.pauses)
                if claim.is_mine:
                    return
                self._pauses.check(asked)
            yield pause(seconds)
            seconds = min(_GROWTH * seconds, _LONGEST_PAUSE)
        raise stopping()

    def intend(self, identity: str, csr: bytes, block: str | None) -> Steps[None]:
        """Remember what is going to be ordered; nothing is ordered that a crash would lose.

        Args:
            identity: what makes two requests the same.
            csr: the certificate request as the client sent it; empty where there is none yet.
            block: the auth block that grants it.

        Raises:
            StateUnavailable: it cannot be remembered.
        """
        if self.memory is not None:
            written = self.memory.intend(identity, csr, block, self._clock.now())
            if written is None:
                return
            try:
                yield from outcome(written)
            except StateUnavailable as error:
                self._end(identity)
                raise copy.copy(error) from None  # others have the same one: with a traceback of its own

    def forget(self, key: IssuanceKey) -> None:
        """Forget what has begun: its chain is safe, or of no use."""
        if self.memory is not None:
            self.memory.forget(key.digest)

    def _claim(self, sharing: OrderSharing, running: RunningIssuance) -> Steps[Chain | None]:
        """Return the chain that another server has got, or None once this one is to order.

        Raises:
            AcmeException: what the same failed by elsewhere, a short time ago.
            DeadlinePassed: another server is at it, and nobody waits for it here.
            StateUnavailable: it cannot be claimed.
        """
        accepted, seconds = running.accepted, _FIRST_PAUSE
        subjects = self._pauses.subjects(accepted)
        wanted = _WantedChain(accepted, self._times, self._clock)
        taking = OrderTaking(running.key.of_names.digest, accepted.request.pem, accepted.block)
        # Where nothing is kept every request gets a new chain, unless one comes while it waits.
        wants_new = accepted.is_wanted_anew or isinstance(accepted.storage, NoStorage)
        while True:
            is_wanted = (lambda _: False) if wants_new else wanted
            claim = yield from outcome(sharing.claim(running.key.digest, subjects, is_wanted, taking))
            found = None if claim.chain is None else wanted.chain_of(claim.chain)
            if found is not None:
                return found
            if not claim.is_elsewhere:
                self._pauses.replace(subjects, claim.pauses)
                if claim.is_mine:
                    return None
                self._pauses.check(accepted)
            if wants_new:
                wanted, wants_new = replace(wanted, known=claim.newest), False
            yield pause(seconds)
            # Before the next look: what another server has prepared is left to who waits for it.
            if all(each.is_gone for each in tuple(running.waiting)):
                raise DeadlinePassed(
                    "another server orders it, and nobody waits for it here", retry_after=10.0
                )
            seconds = min(_GROWTH * seconds, _LONGEST_PAUSE)

    def _share(
        self, sharing: OrderSharing, identity: str, accepted: AcceptedRequest, chain: Chain
    ) -> Steps[None]:
        """Keep a new chain where every server finds it; where that fails it is tried again later.

        It is not waited for where a storage keeps the chain over a crash and nobody can have taken over the
        order: other servers that are asked for the same wait until it is done.

        Raises:
            LeaseLost: another server has taken over the order, and its chain counts.
        """
        if self.history is None:
            return
        record = self.history.record(identity, accepted, chain)
        has_time = accepted.storage.is_durable and sharing.is_certain
        kept = sharing.issued(identity, record, soon=not has_time)
        kept.add_done_callback(lambda kept: _complain(kept, accepted))
        if not has_time:
            with contextlib.suppress(StateUnavailable):
                yield from outcome(kept)

    def _end(self, identity: str) -> None:
        if self.memory is not None:
            self.memory.end(identity)


def _complain(kept: Future[None], accepted: AcceptedRequest) -> None:
    """Say in the log where a chain cannot be kept where every server finds it."""
    error = kept.exception()
    if isinstance(error, StateUnavailable):
        names = ", ".join(accepted.request.names)
        logger.error(
            "the certificate for %s is delivered, but other servers do not find it yet: %s", names, error
        )
