"""What a running server shows to those who watch over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from acmems.auth import Authenticator
from acmems.events import Bus
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.net.listening import Listener
from acmems.state.engines.contract import Database
from acmems.storages import Storage
from acmems.system.clock import Clock
from acmems.system.threads import HealthCheck


class MonitoredConfiguration(Protocol):
    """What of a configuration metrics are about."""

    @property
    def auth(self) -> Authenticator:
        """The auth blocks."""

    @property
    def storages(self) -> Mapping[str, Storage]:
        """Where chains are kept, by name."""


class Monitored(Protocol):
    """A running server. Each look asks for these anew, so that they may be replaced meanwhile."""

    @property
    def config(self) -> MonitoredConfiguration:
        """What it runs."""

    @property
    def clock(self) -> Clock:
        """Time."""

    @property
    def bus(self) -> Bus:
        """Tells what happens."""

    @property
    def issuer(self) -> AcmeIssuer:
        """Speaks to the CA."""

    @property
    def issuance(self) -> Issuance:
        """Turns requests into chains."""

    @property
    def state(self) -> Database | None:
        """What must survive, None where it is not kept."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """Where it listens."""

    @property
    def watched(self) -> Sequence[HealthCheck]:
        """What has threads that must live."""
