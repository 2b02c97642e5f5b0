"""What a running server shows to those who watch over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from acmems.auth import Authenticator
from acmems.events import Bus
from acmems.frontends.tls.expiry import Expiry
from acmems.issuers.acme.options import AccountOptions
from acmems.issuing.failover.issuances import Issuances
from acmems.net.listening import Listener
from acmems.notices.contract import NoticeTarget
from acmems.notices.counts import NoticeCounts
from acmems.state.engines.contract import Database
from acmems.storages import Storage
from acmems.system.clock import Clock
from acmems.system.threads import HealthCheck


class MonitoredIssuer(Protocol):
    """What speaks to a CA with one account."""

    @property
    def options(self) -> AccountOptions:
        """The account and its CA."""

    @property
    def is_account_known(self) -> bool:
        """Whether the CA has confirmed the account, and has not refused it since."""

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far the CA's clock is ahead of this server's, None where that is not known."""

    def probe(self, seconds: float) -> bool:
        """Tell whether the CA answers, within some seconds."""


class MonitoredConfiguration(Protocol):
    """What of a configuration metrics are about."""

    @property
    def auth(self) -> Authenticator:
        """The auth blocks."""

    @property
    def storages(self) -> Mapping[str, Storage]:
        """Where chains are kept, by name."""

    @property
    def notices(self) -> Mapping[str, NoticeTarget]:
        """Where notices go, by name."""

    @property
    def tls(self) -> Mapping[str, object]:
        """How front ends encrypt, by the kinds of their sections; those that do."""


class Notifying(Protocol):
    """What delivers notices."""

    @property
    def counts(self) -> NoticeCounts:
        """How many wait, and how deliveries ended."""


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
    def issuers(self) -> Sequence[MonitoredIssuer]:
        """What speaks to CAs, one for each account."""

    @property
    def issuances(self) -> Issuances:
        """Turn requests into chains."""

    @property
    def state(self) -> Database | None:
        """What must survive, None where it is not kept."""

    @property
    def notices(self) -> Notifying:
        """Tells operators what fails."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """Where it listens."""

    @property
    def expiries(self) -> Sequence[Expiry]:
        """What is wrong with the certificates that front ends show."""

    @property
    def watched(self) -> Sequence[HealthCheck]:
        """What has threads that must live."""
