"""What orders of ACME clients need of a server: issuances, the state, and who looks for proofs."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

from acmems.app.memory import StateMemory
from acmems.auth.processor import client_ip, client_name
from acmems.config import Configuration
from acmems.events import Bus
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acts.performing import Performer
from acmems.frontends.delivery import SigningPolicy
from acmems.issuing.failover.issuances import Issuances
from acmems.net.http import Exchange
from acmems.state.acme.certificates import AccountCertificates
from acmems.state.acme.orders import ClientOrders
from acmems.state.chains import ChainRecord
from acmems.state.chains.alternates import AlternateRecords
from acmems.system.clock import Clock
from acmems.text import one_line

if TYPE_CHECKING:
    # Read only where ACME clients can ask, as in `serving`.
    from acmems.frontends.acme.ordering import OrderResources
    from acmems.frontends.acme.problems import AcmeProblem
    from acmems.frontends.acme.proving.options import ProvingOptions
    from acmems.frontends.acme.proving.prover import Prover
    from acmems.frontends.acme.proving.validation import Validation

REVOKER = "an ACME client"
"""Who has asked for a revocation, in events."""


class AcmeOrdering:
    """Lets ACME clients order from the issuers of a server.

    Args:
        issuances: turn accepted requests into chains.
        config: returns what the server goes by.
        policy: returns who may ask for what.
        perform: returns what does what commands ask for, such as a revocation.
        own_ports: returns the TCP ports that this server listens on, where no proof is looked for.
        bus: told of what happens.
        clock: time.
    """

    def __init__(
        self,
        issuances: Issuances,
        *,
        config: Callable[[], Configuration],
        policy: Callable[[], SigningPolicy],
        perform: Callable[[], Performer],
        own_ports: Callable[[], Collection[int]],
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._issuances = issuances
        self._config = config
        self._policy = policy
        self._perform = perform
        self._own_ports = own_ports
        self._bus = bus
        self._clock = clock
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._prover: Prover | None = None
        self._proving: ProvingOptions | None = None

    def resources(self, memory: StateMemory, linker: Callable[[], Linker]) -> OrderResources:
        """Return the resources of orders.

        Args:
            memory: the state.
            linker: returns what makes URLs.
        """
        ordering = importlib.import_module("acmems.frontends.acme.ordering")
        parts = ordering.OrderParts(
            policy=self._policy,
            issuances=self._issuances,
            orders=ClientOrders(memory.database),
            certificates=AccountCertificates(memory.database),
            chains=memory.chains,
            alternates=AlternateRecords(memory.database),
            plans=memory.plans,
            linker=linker,
            bus=self._bus,
            loop=self._issuances.first.issuer.loop,
            prove=self._prove,
            clock=self._clock,
        )
        return cast("OrderResources", ordering.OrderResources.of(parts, self._revoke, self._client_of))

    def close(self) -> None:
        """Look for no proof any more."""
        self._stopping.set()
        with self._lock:
            if self._prover is not None:
                self._prover.close()

    def _prove(self, validation: Validation) -> Future[AcmeProblem | None]:
        """Look for a proof, as the configuration of now says."""
        options = self._config().acme.proving
        with self._lock:
            prover = self._prover
            if prover is None or options != self._proving:
                checks = importlib.import_module("acmems.frontends.acme.proving.checks").challenge_checks(
                    options, self._own_ports, clock=self._clock, stopping=self._stopping
                )
                if prover is None:
                    module = importlib.import_module("acmems.frontends.acme.proving.prover")
                    prover = self._prover = cast("Prover", module.Prover(checks, clock=self._clock))
                else:
                    prover.adapt(checks)
                self._proving = options
        return prover.prove(validation)

    def _revoke(self, chain: ChainRecord, reason: str, client: str) -> None:
        """Revoke a chain, as `acmems revoke` does."""
        arguments = {"certificate": chain.pem.decode("ascii"), "reason": reason}
        self._perform()("revoke", arguments, REVOKER, lambda _: None, client=one_line(client, 100))

    def _client_of(self, exchange: Exchange) -> str:
        peer = exchange.client_address[0]
        proxies = self._policy().auth.trusted_proxies
        return client_name(peer, client_ip(peer, exchange.headers, proxies))
