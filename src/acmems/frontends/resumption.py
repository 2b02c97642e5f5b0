"""What a crash or a stop has left unfinished, asked for again on behalf of those who asked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future

from acmems.exceptions import AcmeException
from acmems.frontends.sign import SigningPolicy
from acmems.issuing.issuance import Issuance
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.state.orders import OrderRecord, OrderRecords
from acmems.system.clock import SYSTEM, Clock
from acmems.x509 import csr

logger = logging.getLogger(__name__)


class Resumption:
    """Finishes the orders of the last process, so that their chains are there when clients ask again.

    Args:
        orders: what is known of them.
        policy: returns the policy of today, which may not grant any more what it granted then.
        issuance: finishes them.
        clock: for dates.
    """

    def __init__(
        self,
        orders: OrderRecords,
        policy: Callable[[], SigningPolicy],
        issuance: Issuance,
        clock: Clock = SYSTEM,
    ) -> None:
        self._orders = orders
        self._policy = policy
        self._issuance = issuance
        self._clock = clock
        self._running: dict[str, Future[Delivery]] = {}

    def run(self) -> None:
        """Begin what is left and is not running, and write what waits for that; called from time to time.

        What seems to have expired is left to whoever asks for it again: by then, the clock may be set right.
        """
        self._orders.flush()
        now = self._clock.now()
        for record in self._orders.recovered:
            if record.expires <= now:
                continue
            running = self._running.get(record.identity)
            if running is None or running.done():
                self._begin(record)

    def _begin(self, record: OrderRecord) -> None:
        try:
            accepted = self._accepted(record)
            names = ", ".join(accepted.request.names)
            future = self._running[record.identity] = self._issuance.issue(accepted)
        except ValueError as error:
            logger.warning("an order of the last process is not finished: %s", error)
            self._orders.forget(record.identity)
        except AcmeException as error:
            logger.warning("an order of the last process cannot be finished now: %s", error)
        else:
            logger.info("going on with the order of the last process for %s", names)
            future.add_done_callback(lambda future: self._note_end(record, future))

    def _accepted(self, record: OrderRecord) -> AcceptedRequest:
        """Return what was granted, if policy still grants it.

        Raises:
            ValueError: it does not.
        """
        policy = self._policy()
        request = csr.parse(record.csr, policy.auth.rules)
        block = next((each for each in policy.auth.blocks if each.name == record.block), None)
        names = ", ".join(request.names)
        if block is None:
            raise ValueError(f"there is no [auth {record.block!r}] any more, which granted {names}")
        if (refusal := block.refusal(request.identifiers)) is not None:
            raise ValueError(f"[auth {record.block!r}] does not grant {names} any more: {refusal}")
        if self._issuance.key(request).digest != record.identity:
            raise ValueError(f"{names} is ordered from another CA, or by another profile, by now")
        return AcceptedRequest(
            request,
            block.validators,
            block.storage,
            block=block.name,
            gone=lambda: True,
            grants=block.grants,
            subject=policy.subject,
        )

    def _note_end(self, record: OrderRecord, future: Future[Delivery]) -> None:
        """Forget an order whose chain was there already; all else the issuance has noted."""
        if future.exception() is None and future.result().source == "stored":
            self._orders.forget(record.identity)
