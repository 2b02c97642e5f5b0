"""The ACME front end, put together; loaded only where `[acme]` has a listener, since joserfc takes memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from acmems.events import Bus
from acmems.frontends.acme.accounts.account import AccountResource
from acmems.frontends.acme.accounts.key_change import KeyChangeResource
from acmems.frontends.acme.accounts.new_account import NewAccountResource
from acmems.frontends.acme.accounts.orders_list import OrdersListResource
from acmems.frontends.acme.accounts.parts import AccountParts
from acmems.frontends.acme.directory import DirectoryResource, new_nonce
from acmems.frontends.acme.front_end import AcmeFrontEnd
from acmems.frontends.acme.linker import Linker, RouteName
from acmems.frontends.acme.ordering import OrderResources
from acmems.frontends.acme.policy import AcmePolicy
from acmems.frontends.acme.rates import ClientRates
from acmems.frontends.acme.reception.known import KnownAccounts
from acmems.frontends.acme.reception.nonces import Nonces
from acmems.frontends.acme.reception.reception import Reception
from acmems.frontends.acme.routes import PlainResource, Resources, SignedResource
from acmems.issuing.limits.gcra import Rate
from acmems.state.acme.accounts import AcmeAccountRecords
from acmems.state.acme.nonces import NonceRecords
from acmems.state.engines.contract import Database
from acmems.system.clock import Clock

ACCOUNT_RATE: Final = Rate(100, 3_600_000)
"""New accounts of one address: as many at once, and as many in each hour."""


@dataclass(frozen=True, slots=True)
class AcmeParts:
    """What the ACME front end needs of a server.

    Args:
        database: the state.
        policy: returns what holds now.
        linker: returns what makes and reads URLs, by the configuration of now.
        bus: told of answers, refusals and failures, and of what becomes of accounts.
        clock: for dates and durations.
    """

    database: Database
    policy: Callable[[], AcmePolicy]
    linker: Callable[[], Linker]
    bus: Bus
    clock: Clock


class AcmeService:
    """The ACME front end of a server.

    Args:
        parts: what it needs.
        orders: the resources of orders; None where clients can have accounts only.

    Raises:
        StateUnavailable: the state cannot be used.

    Attributes:
        front_end: answers the requests of its listeners.
    """

    def __init__(self, parts: AcmeParts, orders: OrderResources | None = None) -> None:
        self._orders = orders
        records = AcmeAccountRecords(parts.database)
        self._known = KnownAccounts(records, parts.clock)
        self._nonces = Nonces(NonceRecords(parts.database), parts.clock)
        accounts = AccountParts(
            records=records,
            known=self._known,
            linker=parts.linker,
            policy=parts.policy,
            rates=ClientRates(ACCOUNT_RATE, "new accounts", parts.clock),
            bus=parts.bus,
            clock=parts.clock,
        )
        signed: dict[RouteName, SignedResource] = {
            "new-account": NewAccountResource(accounts),
            "account": AccountResource(accounts),
            "account-orders": OrdersListResource(
                accounts, (lambda _account, _after, _most: ()) if orders is None else orders.ids
            ),
            "key-change": KeyChangeResource(accounts),
        }
        plain: dict[RouteName, PlainResource] = {"new-nonce": new_nonce}
        if orders is not None:
            signed |= orders.signed
            plain |= orders.plain
        offered = (*signed, *plain)

        def meta() -> dict[str, Any]:
            members: dict[str, Any] = {"externalAccountRequired": parts.policy().requires_external_account}
            profiles = {} if orders is None else orders.profiles()
            return {**members, "profiles": profiles} if profiles else members

        plain["directory"] = DirectoryResource(parts.linker, offered, meta)
        self.front_end = AcmeFrontEnd(
            parts.linker,
            self._nonces,
            Reception(parts.linker, self._nonces, self._known),
            Resources(plain, signed),
            policy=lambda: parts.policy().signing,
            bus=parts.bus,
            clock=parts.clock,
        )

    def forget(self) -> None:
        """Remove from the state what nobody needs any more; called from time to time."""
        self._nonces.forget()
        if self._orders is not None:
            self._orders.forget()

    def close(self) -> None:
        """Read nothing from the state any more."""
        self._known.close()
