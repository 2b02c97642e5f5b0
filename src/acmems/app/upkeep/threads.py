"""What a server does from time to time: each in its own thread, so that nothing slow keeps the others."""

from __future__ import annotations

from collections.abc import Callable

from acmems.app.accounts.running import Accounts
from acmems.app.memory import StateMemory
from acmems.app.upkeep.renewals import RenewalUpkeep
from acmems.config import Configuration
from acmems.events import Bus
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.own.asking import OwnCertificates
from acmems.frontends.resumption import Resumption
from acmems.logs.events import EventLog
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread

UPKEEP_SECONDS = 30.0
OWN_SECONDS = 2.0  # between two looks at what has come of requests for the server's own certificate
SUM_SECONDS = 60.0  # between two lines that sum up what strangers were refused


class Upkeep:
    """The threads of a server that look after what nobody asks for.

    Args:
        accounts: those that the server orders with.
        memory: the state, None where another server uses it.
        config: returns the configuration of today.
        policy: returns what that grants.
        bus: what happens is kept from now on.
        log: sums up what strangers were refused.
        own: gets the certificates of the server's own names; None where another process does.
        clock: time.

    Attributes:
        threads: the threads.
    """

    def __init__(
        self,
        accounts: Accounts,
        memory: StateMemory | None,
        *,
        config: Callable[[], Configuration],
        policy: Callable[[], SigningPolicy],
        bus: Bus,
        log: EventLog,
        own: OwnCertificates | None,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._memory = memory
        self._config = config
        self._renewals: RenewalUpkeep | None = None
        self._sweeping = PeriodicThread("acmems-sweep", self._sweep, UPKEEP_SECONDS, clock=clock)
        self._saving = PeriodicThread("acmems-save", self._save, UPKEEP_SECONDS, clock=clock)
        summing = PeriodicThread("acmems-sums", log.tell, SUM_SECONDS, delay=SUM_SECONDS, clock=clock)
        self.threads = [self._sweeping, self._saving, summing]
        if own is not None:
            self.threads.append(PeriodicThread("acmems-own", own.run, OWN_SECONDS, clock=clock))
        if memory is None:
            return
        memory.record_events(bus, lambda: config().state.keep_events)
        resumption = Resumption(memory.orders, policy, accounts.issuances, accounts.history, clock=clock)
        resuming = PeriodicThread(
            "acmems-resume",
            resumption.run,
            memory.look_seconds,
            longest_pause=UPKEEP_SECONDS,
            clock=clock,
        )
        self._renewals = RenewalUpkeep(memory, config=config, policy=policy, accounts=accounts)
        self.threads += [resuming, self._renewals.thread]

    def start(self) -> None:
        """Begin."""
        for thread in self.threads:
            thread.start()

    def retire(self) -> None:
        """End all but what keeps chains that could not be stored."""
        for thread in self.threads:
            if thread is not self._saving:
                thread.close()

    def stop(self) -> None:
        """End all."""
        for thread in self.threads:
            thread.close()
        if self._renewals is not None:
            self._renewals.stop()

    def _sweep(self) -> None:
        self._accounts.sweep(self._config().validators, self._sweeping.progress)

    def _save(self) -> None:
        """Store what could not be stored, and keep what is known of chains up to date."""
        self._accounts.issuances.save_kept()
        if self._memory is not None:
            self._memory.keep_up(self._config().state.keep_chains)
            self._accounts.follow()
