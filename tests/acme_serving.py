"""The ACME front end on a listener without TLS, for tests of the protocol alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.acme_client import AcmeClient
from tests.auth_blocks import block

from acmems.auth import Authenticator, Block
from acmems.events import Bus, Event
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.ordering import OrderResources
from acmems.frontends.acme.policy import AcmePolicy
from acmems.frontends.acme.service import AcmeParts, AcmeService
from acmems.frontends.delivery import SigningPolicy
from acmems.net.address import Address
from acmems.net.http import HttpService
from acmems.net.listening import Listener
from acmems.state.engines.contract import Database
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import SYSTEM, Clock

ANYONE = (("all", "yes"), ("domain", "**"))
"""A block that anybody may use."""


MakeOrders = Callable[[Callable[[], AcmePolicy], Callable[[], Linker], Bus], OrderResources]
"""Makes the resources of orders from policy, linker and bus."""


@dataclass
class Serving:
    """An ACME front end that serves.

    Args:
        service: the front end.
        listener: where it serves.
        url: its base.
        events: what it has told.
        blocks: the auth blocks, which a test may replace.
        requires_external_account: whether an account needs an external one.
    """

    service: AcmeService
    listener: Listener
    url: str
    events: list[Event]
    blocks: tuple[Block, ...]
    requires_external_account: bool

    @property
    def port(self) -> int:
        """The port of its listener."""
        return self.listener.addresses[0].port

    def client(self) -> AcmeClient:
        """Return a client with a key of its own."""
        return AcmeClient(f"{self.url}/directory")


@contextlib.contextmanager
def serving(
    database: Database,
    *blocks: Block,
    requires_external_account: bool = False,
    clock: Clock = SYSTEM,
    url: str | None = None,
    orders: MakeOrders | None = None,
) -> Iterator[Serving]:
    """Serve ACME clients.

    Args:
        database: the state.
        blocks: the auth blocks; anybody may have anything where there are none.
        requires_external_account: whether an account needs an external one.
        clock: for dates and durations.
        url: the base of all URLs; the address of the listener where it is not given.
        orders: makes the resources of orders; None: there are none.
    """
    bus, events = Bus(), list[Event]()
    bus.subscribe(events.append)
    found: list[Serving] = []

    def policy() -> AcmePolicy:
        signing = SigningPolicy(Authenticator(found[0].blocks), 60.0, "names")
        return AcmePolicy(signing, requires_external_account=found[0].requires_external_account)

    def linker() -> Linker:
        return Linker(found[0].url)

    resources = None if orders is None else orders(policy, linker, bus)
    service = AcmeService(AcmeParts(database, policy, linker, bus, clock), resources)
    listener = Listener("acme", [Address("127.0.0.1", 0)], HttpService(service.front_end))
    listener.open()
    found.append(
        Serving(
            service,
            listener,
            url or f"http://127.0.0.1:{listener.addresses[0].port}",
            events,
            blocks or (block(*ANYONE),),
            requires_external_account,
        )
    )
    try:
        yield found[0]
    finally:
        listener.close()
        service.close()


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    """Open a state in a folder."""
    database = SqliteDatabase.open(folder / "state.sqlite")
    try:
        yield database
    finally:
        database.close()
