"""The upkeep of renewals: which chains are due is known to every process, and one of them renews."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable

from acmems.app.accounts.running import Accounts
from acmems.app.memory import StateMemory
from acmems.config import Configuration
from acmems.exceptions import CAUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.renewing import AheadRenewal, RenewalQuestions
from acmems.issuing.renewal.planner import OverdueChain, RenewalPlanner
from acmems.state.acme.certificates import AccountCertificates
from acmems.state.chains import ChainRecord
from acmems.system.threads import PeriodicThread

logger = logging.getLogger(__name__)

PLAN_SECONDS = 10.0
"""Between two looks at what is due."""
FIRST_SECONDS = 5.0
"""Until the first of them: a start has other things to do."""


class RenewalUpkeep:
    """Looks from time to time what is to be renewed.

    Args:
        memory: the state.
        config: returns the configuration of today.
        policy: returns what that grants.
        accounts: ask CAs, and order.

    Attributes:
        thread: looks; it is to be started.
    """

    def __init__(
        self,
        memory: StateMemory,
        *,
        config: Callable[[], Configuration],
        policy: Callable[[], SigningPolicy],
        accounts: Accounts,
    ) -> None:
        clock = memory.clock
        self._memory = memory
        self._config = config
        self._clock = clock
        self._accounts = accounts
        self._is_stopped = False
        self._ahead = AheadRenewal(
            memory.chains, policy, accounts.issuances, clock, AccountCertificates(memory.database)
        )
        self._planner = RenewalPlanner(
            memory.chains,
            memory.plans,
            RenewalQuestions({each.identity.directory: each.issuer for each in accounts}),
            self._ahead,
            tell=_tell,
            clock=clock,
            within=self._within,
            most_questions=2000,
            most_at_once=64,
        )

        self.thread = PeriodicThread("acmems-renew", self.run, PLAN_SECONDS, delay=FIRST_SECONDS, clock=clock)

    def run(self) -> None:
        """See which chains are due and what is known of limits, and renew unless another server does.

        Raises:
            StateUnavailable: the plans cannot be read.
        """
        self._memory.times.refresh(self._clock.now())
        for each in self._accounts.issuances:
            if each.limits is not None:
                each.limits.refresh()
        if not self._memory.may_renew():
            return
        try:
            self._planner.run()
        except CAUnavailable:
            if not self._is_stopped:
                raise

    def stop(self) -> None:
        """Wait for no order any more."""
        self._is_stopped = True
        self._ahead.stop()

    def _within(self, chain: ChainRecord) -> datetime.timedelta | None:
        storage = self._config().storages.get(chain.storage or "")
        return None if storage is None else storage.renew_within


def _tell(overdue: OverdueChain) -> None:
    chain = overdue.chain
    logger.warning(
        "the certificate for %s was to be renewed at %s, and cannot be: %s; it expires at %s",
        *(", ".join(chain.names), f"{overdue.due:%Y-%m-%d %H:%M} UTC", overdue.reason),
        f"{chain.not_after:%Y-%m-%d %H:%M} UTC",
    )
