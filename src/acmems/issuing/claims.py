"""One order for the same, however many servers are asked for it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from acmems.exceptions import DeadlinePassed, LeaseLost, StateUnavailable
from acmems.issuing.contract import ChainHistory, IssuanceMemory, OrderSharing
from acmems.issuing.pauses import Pauses
from acmems.issuing.renewal.times import RenewalTimes
from acmems.issuing.requests import AcceptedRequest, Delivery, IssuanceKey
from acmems.issuing.running import RunningIssuance
from acmems.state.chains import ChainRecord
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

    def intend(self, key: IssuanceKey, accepted: AcceptedRequest) -> Steps[None]:
        """Remember what is going to be ordered; nothing is ordered that a crash would lose.

        Raises:
            StateUnavailable: it cannot be remembered.
        """
        if self.memory is not None:
            csr, now = accepted.request.pem, self._clock.now()
            written = self.memory.intend(key.digest, csr, accepted.block, now)
            if written is None:
                return
            try:
                yield from outcome(written)
            except StateUnavailable as error:
                self._end(key.digest)
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
        # Where nothing is kept every request gets a new chain, unless one comes while it waits.
        wants_new = accepted.is_wanted_anew or isinstance(accepted.storage, NoStorage)
        while True:
            is_wanted = (lambda _: False) if wants_new else wanted
            claim = yield from outcome(sharing.claim(running.key.digest, subjects, is_wanted))
            found = None if claim.chain is None else wanted.chain_of(claim.chain)
            if found is not None:
                return found
            if not claim.is_elsewhere:
                self._pauses.replace(accepted, claim.pauses)
                if claim.is_mine:
                    return None
                self._pauses.check(accepted)
            if wants_new:
                wanted, wants_new = replace(wanted, known=claim.newest), False
            if all(each.is_gone for each in tuple(running.waiting)):
                raise DeadlinePassed(
                    "another server orders it, and nobody waits for it here", retry_after=10.0
                )
            yield pause(seconds)
            seconds = min(_GROWTH * seconds, _LONGEST_PAUSE)

    def _share(
        self, sharing: OrderSharing, identity: str, accepted: AcceptedRequest, chain: Chain
    ) -> Steps[None]:
        """Keep a new chain where every server finds it; where that fails it is tried again later.

        Raises:
            LeaseLost: another server has taken over the order, and its chain counts.
        """
        if self.history is None:
            return
        try:
            yield from outcome(sharing.issued(identity, self.history.record(identity, accepted, chain)))
        except StateUnavailable as error:
            names = ", ".join(accepted.request.names)
            logger.error(  # noqa: TRY400 - its words tell all
                "the certificate for %s is delivered, but other servers do not find it yet: %s",
                *(names, error),
            )

    def _end(self, identity: str) -> None:
        if self.memory is not None:
            self.memory.end(identity)
