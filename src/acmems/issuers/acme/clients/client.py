"""What speaks to the CA with one account key: made once for each key."""

from __future__ import annotations

from dataclasses import dataclass

from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import AccountError
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.certificates.clocks import ClockComparison
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.orders.open_orders import OpenOrders
from acmems.issuers.acme.prechecks.examination import PreChecks
from acmems.issuers.acme.proving import Proving
from acmems.issuers.acme.session import Session
from acmems.system.steps import StepLoop


@dataclass(slots=True, eq=False)
class Client:
    """What speaks to the CA with one key.

    Args:
        account: the account of this key as the CA last described it, None while it is not known.
        is_refused: whether an order has failed since because of the account.
    """

    key: AccountKey
    session: Session
    proving: Proving
    ordering: Ordering
    prechecks: PreChecks
    clocks: ClockComparison
    account: Account | None = None
    is_refused: bool = False

    def reconfigure(self, options: AccountOptions, exchange_seconds: float) -> None:
        """Go by other options from now on; `AccountOptions.fixed` must be the same.

        Args:
            options: the account and its CA.
            exchange_seconds: how long one request about an order may take, repetitions included.
        """
        self.proving.exchange_seconds = self.ordering.exchange_seconds = exchange_seconds
        self.prechecks.reconfigure(options.pre_checks)


def session_with(key: AccountKey, options: AccountOptions, loop: StepLoop, processes: int = 1) -> Session:
    """Return a way to the CA by a key.

    Args:
        key: signs the requests.
        options: say where the CA is.
        loop: runs the steps.
        processes: that speak to the CA from the same address, this one among them.

    Raises:
        AccountError: there is none as the options say.
    """
    try:
        return Session(
            options.directory_url,
            key,
            loop,
            ca_file=options.ca_file,
            hosts=options.hosts,
            processes=processes,
        )
    except ValueError as error:
        raise AccountError(f"the CA cannot be spoken to as [account] says: {error}") from error


def make_client(
    key: AccountKey,
    session: Session,
    options: AccountOptions,
    proofs: PresentedProofs,
    open_orders: OpenOrders,
    *,
    loop: StepLoop,
    exchange_seconds: float,
) -> Client:
    """Return what speaks to the CA by a key.

    Args:
        key: the account's.
        session: the way to the CA by this key.
        options: the account and its CA.
        proofs: what is presented to the CA at this moment.
        open_orders: those that can be continued.
        loop: runs the steps.
        exchange_seconds: how long one request about an order may take, repetitions included.
    """
    proving = Proving(session, key, loop, proofs, exchange_seconds=exchange_seconds)
    prechecks = PreChecks(options.pre_checks, loop)
    ordering = Ordering(
        session,
        proving,
        loop.clock,
        prechecks=prechecks,
        open_orders=open_orders,
        profile=options.profile,
        exchange_seconds=exchange_seconds,
        preferred_chain=options.preferred_chain,
    )
    return Client(key, session, proving, ordering, prechecks, ClockComparison(session, loop.clock))
