"""A server to watch over that is a stand-in, with real storages and time that stands still."""

from __future__ import annotations

import datetime
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from acmems.config import Configuration
from acmems.events import Bus
from acmems.frontends.tls.expiry import Expiry
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.options import AccountOptions
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.net.listening import Listener
from acmems.notices.counts import NoticeCounts
from acmems.state.engines.contract import Database
from acmems.storages import IssuerIdentity
from acmems.system.clock import Clock
from acmems.system.steps import StepLoop
from acmems.system.threads import HealthCheck

TEXT = """
[account]
dir = {folder}/account

[storage "disk"]
type = file
directory = {folder}/disk

[auth "web"]
all = yes
domain = *.web.example.org

[auth "all"]
all = yes
domain = **.example.org
"""


@dataclass
class Moment:
    """Clocks that stand still until they are moved.

    Attributes:
        rests: the seconds that somebody wanted to wait.
        is_hasty: whether such waits are over at once; threads would not rest then.
    """

    seconds: float = 1000.0
    wall: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    rests: list[float] = field(default_factory=list)
    is_hasty: bool = False

    def pass_by(self, **by: float) -> None:
        """Let time pass on both clocks."""
        delta = datetime.timedelta(**by)
        self.seconds += delta.total_seconds()
        self.wall += delta

    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, lambda: self.wall, self._wait)

    def _wait(self, event: threading.Event, seconds: float) -> bool:
        self.rests.append(seconds)
        return event.is_set() if self.is_hasty else event.wait(seconds)


class Issuer:
    """In the place of an issuer: knows an account, and says of the CA what it is told to."""

    key_digest: str | None = None
    account_url: str | None = None
    silence = 0.0

    def __init__(self, options: AccountOptions, clock: Clock) -> None:
        self.options = options
        self.loop = StepLoop(clock)
        self.account: Account | None = Account("https://ca.example.org/account/1")
        self.clock_ahead: datetime.timedelta | None = None
        self.answers = True
        self.probes = 0

    @property
    def is_account_known(self) -> bool:
        return self.account is not None

    def probe(self, seconds: float) -> bool:
        self.probes += 1
        return self.answers


@dataclass
class Health:
    """In the place of something that has threads."""

    name: str
    well: bool = True

    def is_healthy(self) -> bool:
        return self.well


class Notifier:
    """In the place of what delivers notices."""

    def __init__(self) -> None:
        self.counts = NoticeCounts()


class Stand:
    """In the place of a running server."""

    def __init__(self, folder: Path) -> None:
        for name in ("account", "disk"):
            (folder / name).mkdir()
        self.folder = folder
        self.moment = Moment()
        self.clock = self.moment.clock()
        self.config = self.configured(TEXT)
        self.bus = Bus()
        self.stub = Issuer(self.config.account, self.clock)
        self.issuers = [self.stub]
        identity = IssuerIdentity(self.config.account.directory_url)
        self.issuance = Issuance(cast("AcmeIssuer", self.stub), identity, self.bus, clock=self.clock)
        self.issuances = Issuances({"": self.issuance}, self.clock)
        self.state: Database | None = None
        self.listeners: list[Listener] = []
        self.notices = Notifier()
        self.expiries: list[Expiry] = []
        self.health = Health("mgmt")
        self.watched: list[HealthCheck] = [self.health]

    def configured(self, text: str) -> Configuration:
        return Configuration.from_text(text.format(folder=self.folder))
