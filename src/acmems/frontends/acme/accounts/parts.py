"""What the resources of accounts are made of, and what they tell of an account."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from acmems.events import AcmeAccountAct, AcmeAccountEvent, Bus
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.policy import AcmePolicy
from acmems.frontends.acme.rates import ClientRates
from acmems.frontends.acme.reception.known import KnownAccounts
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.accounts import AcmeAccount, AcmeAccountRecords
from acmems.system.clock import Clock


@dataclass(frozen=True, slots=True)
class AccountParts:
    """What the resources of accounts need.

    Args:
        records: keeps accounts.
        known: those that this process knows.
        linker: returns what makes URLs.
        policy: returns who may register.
        rates: how much one client may register.
        bus: told what becomes of accounts.
        clock: for dates.
    """

    records: AcmeAccountRecords
    known: KnownAccounts
    linker: Callable[[], Linker]
    policy: Callable[[], AcmePolicy]
    rates: ClientRates
    bus: Bus
    clock: Clock

    def tell(
        self, act: AcmeAccountAct, account: AcmeAccount, request: SignedRequest, exchange: Exchange
    ) -> None:
        """Tell the operator what has become of an account."""
        self.bus.emit(
            AcmeAccountEvent(
                reference=exchange.reference,
                client=request.client,
                front_end="acme",
                act=act,
                acme_account=account.id,
                external_account=account.external_account,
            )
        )
