"""What a configuration lets a server listen on."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from acmems.challenges import Http01, Listening, Validator
from acmems.challenges.http01 import DEFAULT_LISTENERS
from acmems.config import Configuration
from acmems.frontends.http01 import CHALLENGE_LIMITS
from acmems.frontends.options import MGMT_LISTENERS
from acmems.net.address import IPNetwork
from acmems.net.listening import (
    AcceptBalance,
    ClientSocket,
    Connection,
    Descriptors,
    Host,
    ListenerLimits,
    ListenerPlan,
    StreamService,
)

METRICS_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class PlannedListener:
    """What a listener is to be, and whose proofs are found there.

    Args:
        plan: the plan.
        validator: what presents the proofs; None where there are none.
        is_for_clients: whether clients ask there for certificates.
    """

    plan: ListenerPlan
    validator: Validator | None = None
    is_for_clients: bool = False


class Services(Protocol):
    """What answers at the listeners of a server."""

    @property
    def signing(self) -> StreamService:
        """Answers clients."""

    @property
    def encrypted_signing(self) -> StreamService:
        """Answers clients that speak TLS."""

    def acme(self) -> StreamService:
        """Return what answers ACME clients.

        Raises:
            StateUnavailable: there is no state for their accounts.
        """

    def challenges(self, validator: Http01, proxies: tuple[IPNetwork, ...]) -> StreamService:
        """Return what answers the CA by HTTP.

        Args:
            validator: what presents the proofs.
            proxies: whose `X-Forwarded-For` is believed.
        """

    def monitoring(self) -> StreamService:
        """Return what answers monitoring systems."""


class NoServices:
    """Services of a process that binds sockets for others, and accepts nothing itself."""

    @property
    def signing(self) -> StreamService:
        """Answers nobody."""
        return self

    @property
    def encrypted_signing(self) -> StreamService:
        """Answers nobody."""
        return self

    def acme(self) -> StreamService:
        """Return what answers nobody."""
        return self

    def challenges(self, _validator: Http01, _proxies: tuple[IPNetwork, ...]) -> StreamService:
        """Return what answers nobody."""
        return self

    def monitoring(self) -> StreamService:
        """Return what answers nobody."""
        return self

    def connection(self, host: Host, channel: ClientSocket, peer: tuple[str, int]) -> Connection:
        """Refuse to make a connection.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError


def planned(
    config: Configuration,
    services: Services,
    balance: AcceptBalance | None = None,
    tls: Mapping[str, Callable[[socket.socket], ClientSocket]] = MappingProxyType({}),
) -> Iterator[PlannedListener]:
    """Yield what a configuration lets a server listen on.

    Args:
        config: the configuration.
        services: what answers there.
        balance: tells whether another process is to accept clients; None where there is none.
        tls: encrypts the connections of front ends, by the kinds of their sections; nothing is accepted where
            that is missing.
    """
    mgmt = config.mgmt
    public = [
        validator
        for validator in config.validators.values()
        if isinstance(validator, Http01 | Listening) and validator.listeners
    ]
    descriptors = Descriptors.shared(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(public))
    # Listeners for clients, each of which has its own connections.
    kinds = 1 + bool(mgmt.tls_listeners) + bool(config.acme.listeners)
    limits = ListenerLimits(connections=mgmt.max_connections).within(descriptors.management // kinds)
    proxies = mgmt.trusted_proxies
    plan = ListenerPlan(
        "mgmt", mgmt.listeners, services.signing, limits, MGMT_LISTENERS, proxies, balance=balance
    )
    yield PlannedListener(plan, is_for_clients=True)
    if mgmt.tls_listeners:
        plan = ListenerPlan(
            "mgmt-tls",
            mgmt.tls_listeners,
            services.encrypted_signing,
            limits,
            trusted_proxies=proxies,
            balance=None if balance is None else balance.sibling(),
            tls=tls.get("mgmt"),
        )
        yield PlannedListener(plan, is_for_clients=True)
    if config.acme.listeners:
        plan = ListenerPlan(
            "acme",
            config.acme.listeners,
            services.acme(),
            limits,
            trusted_proxies=proxies,
            balance=None if balance is None else balance.sibling(),
            tls=tls.get("acme"),
        )
        yield PlannedListener(plan, is_for_clients=True)
    for validator in public:
        if isinstance(validator, Http01):
            proxies = validator.trusted_proxies or mgmt.trusted_proxies
            plan = ListenerPlan(
                f"http01 {validator.name}",
                validator.listeners,
                services.challenges(validator, proxies),
                CHALLENGE_LIMITS.within(descriptors.public),
                DEFAULT_LISTENERS,
                proxies,
            )
            yield PlannedListener(plan, validator)
        else:
            yield PlannedListener(validator.plan(descriptors.public), validator)
    if config.metrics.listeners:
        limits = ListenerLimits(connections=METRICS_CONNECTIONS)
        yield PlannedListener(
            ListenerPlan("metrics", config.metrics.listeners, services.monitoring(), limits)
        )
