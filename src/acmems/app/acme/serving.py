"""The ACME front end of a server, made when a configuration first has a listener for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, cast

from acmems.app.acme.ordering import AcmeOrdering
from acmems.app.memory import StateMemory
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import StateUnavailable
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.policy import AcmePolicy
from acmems.frontends.acts.performing import Performer
from acmems.frontends.delivery import SigningPolicy
from acmems.issuing.failover.issuances import Issuances
from acmems.system.clock import Clock
from acmems.system.threads import PeriodicThread

if TYPE_CHECKING:
    # Read only where ACME clients can ask: what verifies their signatures takes memory.
    from acmems.frontends.acme.front_end import AcmeFrontEnd
    from acmems.frontends.acme.service import AcmeService

FORGET_SECONDS = 60.0
"""Between two times that what has expired is removed from the state."""


class AcmeServing:
    """Makes the ACME front end of a server, and looks after it.

    Args:
        memory: the state; None where another server uses it.
        config: returns what the server goes by.
        policy: returns who may ask for what, and how long a client waits.
        issuances: turn accepted requests into chains.
        perform: returns what does what commands ask for, such as a revocation.
        own_ports: returns the TCP ports that this server listens on, where no proof is looked for.
        bus: told of answers, refusals and failures.
        clock: time.
    """

    def __init__(
        self,
        memory: StateMemory | None,
        *,
        config: Callable[[], Configuration],
        policy: Callable[[], SigningPolicy],
        issuances: Issuances,
        perform: Callable[[], Performer],
        own_ports: Callable[[], Collection[int]],
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._memory = memory
        self._config = config
        self._policy = policy
        self._ordering = AcmeOrdering(
            issuances,
            config=config,
            policy=policy,
            perform=perform,
            own_ports=own_ports,
            bus=bus,
            clock=clock,
        )
        self._bus = bus
        self._clock = clock
        self._known_linker: Linker | None = None
        self._service: AcmeService | None = None
        self._thread: PeriodicThread | None = None

    @property
    def threads(self) -> tuple[PeriodicThread, ...]:
        """What removes what has expired, where there is a front end."""
        return () if self._thread is None else (self._thread,)

    @property
    def front_end(self) -> AcmeFrontEnd:
        """What answers ACME clients.

        Raises:
            StateUnavailable: there is no state, or it cannot be used.
        """
        if self._service is None:
            if self._memory is None:
                raise StateUnavailable(
                    "another server uses the state, which ACME clients have their accounts in: give this one "
                    "a [state] of its own, or no [acme]"
                )
            self._service = self._made(self._memory)
            self._thread = PeriodicThread(
                "acmems-acme",
                self._service.forget,
                FORGET_SECONDS,
                longest_pause=FORGET_SECONDS,
                delay=FORGET_SECONDS,
                clock=self._clock,
            )
            self._thread.start()
        return self._service.front_end

    def stop(self) -> None:
        """Remove nothing any more, and look for no proofs."""
        self._ordering.close()
        if self._thread is not None:
            self._thread.close()

    def close(self) -> None:
        """Read nothing from the state any more."""
        if self._service is not None:
            self._service.close()

    def _made(self, memory: StateMemory) -> AcmeService:
        module = importlib.import_module("acmems.frontends.acme.service")
        return cast(
            "AcmeService",
            module.AcmeService(
                module.AcmeParts(memory.database, self._acme_policy, self._linker, self._bus, self._clock),
                self._ordering.resources(memory, self._linker),
            ),
        )

    def _acme_policy(self) -> AcmePolicy:
        """Return what holds for ACME clients now."""
        signing = self._policy()
        required = self._config().acme.requires_external_account(signing.auth.blocks)
        return AcmePolicy(signing, requires_external_account=required)

    def _linker(self) -> Linker:
        """Return what makes and reads URLs now."""
        url, known = self._config().acme.url, self._known_linker
        if known is None or known.base != url:
            known = self._known_linker = Linker(url)
        return known
