"""What a crash or a stop has left unfinished, asked for again on behalf of those who asked."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Protocol

from acmems.exceptions import AcmeException, PolicyRefusal
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.granting import granted_again
from acmems.issuing.contract import ChainHistory
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.state.orders import OrderRecord
from acmems.system.clock import SYSTEM, Clock

logger = logging.getLogger(__name__)


class LeftOrders(Protocol):
    """What is known of orders that processes have left which have ended."""

    @property
    def recovered(self) -> Iterable[OrderRecord]:
        """Those that are left, oldest first."""

    def discard(self, record: OrderRecord) -> None:
        """Forget one that need not be finished."""

    def flush(self) -> None:
        """Write what waits for that, and look for more."""


class Resumption:
    """Finishes orders of processes that have ended, so that their chains are there when clients ask again.

    Args:
        orders: what is known of them.
        policy: returns the policy of today, which may not grant any more what it granted then.
        issuances: finish them.
        history: returns what is told of an account's chains that were stored before the last process could
            note them, given its name.
        clock: for dates, and for the time between two tries.
    """

    RETRY_SECONDS = 30.0

    def __init__(
        self,
        orders: LeftOrders,
        policy: Callable[[], SigningPolicy],
        issuances: Issuances,
        history: Callable[[str], ChainHistory],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._orders = orders
        self._policy = policy
        self._issuances = issuances
        self._clock = clock
        self._history = history
        self._running: dict[str, Future[Delivery]] = {}
        self._next: dict[str, float] = {}  # when each may be tried again

    def run(self) -> None:
        """Begin what is left and is not running, and write what waits for that; called from time to time.

        What seems to have expired is left to whoever asks for it again: by then, the clock may be set right.
        """
        self._orders.flush()
        # What was prepared waits for a CSR: whoever brings one finds it.
        left = {each.identity: each for each in self._orders.recovered if not each.is_prepared}
        self._running = {identity: each for identity, each in self._running.items() if identity in left}
        self._next = {identity: at for identity, at in self._next.items() if identity in left}
        now = self._clock.monotonic()
        for identity, record in left.items():
            running = self._running.get(identity)
            if record.expires <= self._clock.now():
                continue
            if (running is None or running.done()) and self._next.get(identity, now) <= now:
                self._next[identity] = now + self.RETRY_SECONDS
                self._begin(record)

    def _begin(self, record: OrderRecord) -> None:
        try:
            accepted = self._accepted(record)
            names = ", ".join(accepted.request.names)
            future = self._running[record.identity] = self._issuances.issue(accepted)
        except PolicyRefusal as error:
            logger.warning("an order that was left is not finished: %s", error)
            self._orders.discard(record)
        except AcmeException as error:
            logger.warning("an order that was left cannot be finished now: %s", error)
        else:
            logger.info("going on with the order that was left for %s", names)
            future.add_done_callback(lambda future: self._note_end(record, accepted, future))

    def _accepted(self, record: OrderRecord) -> AcceptedRequest:
        """Return what was granted, if policy still grants it.

        Raises:
            PolicyRefusal: it does not.
        """
        accepted = granted_again(self._policy(), record.csr, record.block)
        account = self._issuances.identities(accepted).get(record.identity)
        names = ", ".join(accepted.request.names)
        if account is None:
            raise PolicyRefusal(f"{names} is ordered from another CA, or by another profile, by now")
        others = tuple(name for name in accepted.issuers if name != account)
        if self._issuances.fresh(dataclasses.replace(accepted, issuers=others)) is not None:
            raise PolicyRefusal(f"{names} has a certificate of another CA by now")
        # What is stored may be fresh, where a person had a certificate renewed: the order is for a newer one.
        is_for_newer = self._history(account).is_older(record.identity, record.begun)
        return dataclasses.replace(
            accepted, gone=lambda: True, is_wanted_anew=is_for_newer, issuers=(account,)
        )

    def _note_end(self, record: OrderRecord, accepted: AcceptedRequest, future: Future[Delivery]) -> None:
        """Forget an order whose chain was there already; all else the issuance has noted."""
        if future.exception() is None and future.result().source == "stored":
            history = self._history(accepted.issuers[0])
            history.issued(record.identity, accepted, future.result().chain)
            self._orders.discard(record)
