"""What the resources of accounts are made of, and what they tell of an account."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from acmems.events import AcmeAccountAct, AcmeAccountEvent, Bus
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.policy import AcmePolicy
from acmems.frontends.acme.rates import ClientRates
from acmems.frontends.acme.reception.known import KnownAccounts
from acmems.frontends.acme.requests import SignedRequest
from acmems.net.http import Exchange
from acmems.state.acme.accounts import AcmeAccount, AcmeAccountRecords
from acmems.system.clock import Clock

T = TypeVar("T")
R = TypeVar("R")


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


def after(future: Future[T], step: Callable[[T], R]) -> Future[R]:
    """Return a future of what a step makes of what another one brings; it fails with either."""
    made: Future[R] = Future()

    def go_on(done: Future[T]) -> None:
        try:
            made.set_result(step(done.result()))
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            made.set_exception(error)

    future.add_done_callback(go_on)
    return made


def chained(future: Future[T], step: Callable[[T], Future[R]]) -> Future[R]:
    """Return a future of what a step's own future brings; it fails with any of them."""
    made: Future[R] = Future()

    def end(done: Future[R]) -> None:
        if (error := done.exception()) is not None:
            made.set_exception(error)
        else:
            made.set_result(done.result())

    def go_on(done: Future[T]) -> None:
        try:
            step(done.result()).add_done_callback(end)
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            made.set_exception(error)

    future.add_done_callback(go_on)
    return made
