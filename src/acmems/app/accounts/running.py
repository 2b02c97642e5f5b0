"""The accounts that a server orders with: each with its CA, its issuances, its limits and its pauses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from acmems.app.accounts.founding import AccountFounding
from acmems.app.memory import StateMemory, accounting
from acmems.challenges import Validator
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import AccountError, CAError, DeadlinePassed, RateLimited
from acmems.frontends.history import RecordedHistory
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.failover.issuances import Issuances, called
from acmems.issuing.issuance import Issuance
from acmems.storages import IssuerIdentity
from acmems.system.clock import Clock
from acmems.x509.leaf import SubjectPolicy

logger = logging.getLogger(__name__)

_FAILURES = (AccountError, CAError, RateLimited, DeadlinePassed)


@dataclass(frozen=True, slots=True)
class OrderingAccount:
    """One account, and what orders with it.

    Args:
        name: of its section; empty where that has none.
        identity: whose chains these are.
        issuer: speaks to its CA.
        founding: finds it, or makes it.
        issuance: turns requests into chains.
        history: notes its chains, None where there is no state.
    """

    name: str
    identity: IssuerIdentity
    issuer: AcmeIssuer
    founding: AccountFounding
    issuance: Issuance
    history: RecordedHistory | None


class Accounts:
    """All accounts of a server; the one of the section without a name comes first.

    Args:
        config: the configuration that the server begins with.
        latest: returns the configuration of today.
        memory: the state, None where another server uses it.
        bus: told of what happens.
        seconds: how long a client waits for an issuance.
        subject: what the subject of a certificate may hold beside names.
        clock: time.

    Attributes:
        issuances: the issuances of all of them.
    """

    def __init__(
        self,
        config: Configuration,
        latest: Callable[[], Configuration],
        memory: StateMemory | None,
        bus: Bus,
        *,
        seconds: float,
        subject: SubjectPolicy,
        clock: Clock,
    ) -> None:
        self._config = config
        self._latest = latest
        self._memory = memory
        self._bus = bus
        self._seconds = seconds
        self._subject = subject
        self._clock = clock
        self._is_stopping = False
        self._checking: threading.Thread | None = None  # asks the CAs about the accounts
        self._by_name = {name: self._made(name) for name in config.accounts}
        self.issuances = Issuances({each.name: each.issuance for each in self}, clock)

    def __iter__(self) -> Iterator[OrderingAccount]:
        """Iterate over them."""
        return iter(self._by_name.values())

    @property
    def first(self) -> OrderingAccount:
        """The one of the section without a name."""
        return self._by_name[""]

    def of(self, name: str) -> OrderingAccount | None:
        """Return the one of a name, None if there is none."""
        return self._by_name.get(name)

    def history(self, name: str) -> RecordedHistory:
        """Return what notes the chains of an account.

        Raises:
            LookupError: there is no such account, or no state.
        """
        history = self._by_name[name].history
        if history is None:
            raise LookupError(name)
        return history

    def at(self, directory: str) -> OrderingAccount | None:
        """Return the first one at a CA, None if there is none.

        Args:
            directory: the URL of the CA's directory.
        """
        return next((each for each in self if each.identity.directory == directory), None)

    def find(self) -> bool:
        """Load the key of each, or make the account; tell whether any was known before.

        One that is known on disk is not waited for.

        Where there are several, one whose CA does not give it an account is left for later: the others may
        order meanwhile.

        Raises:
            AccountError, NeedToAgreeToTOS: there is none yet, or its key cannot be used.
            CAError, RateLimited, DeadlinePassed: the first has none yet, and the CA does not give one.
            StateUnavailable: it cannot be told what other servers use.
        """
        is_known = False
        for each in self:
            try:
                with each.issuer.directory.founding():
                    is_known = each.founding.find() or is_known
            except (CAError, RateLimited, DeadlinePassed) as error:
                if each is self.first:
                    raise
                logger.error("nothing can be ordered with %s yet: %s", called(each.name), error)  # noqa: TRY400 - its words tell all
        return is_known

    def check_behind(self) -> None:
        """Ask the CAs about the accounts, which nobody waits for: stored chains are delivered without it."""
        if self._checking is None or not self._checking.is_alive():
            self._checking = threading.Thread(target=self._check, name="acmems-account", daemon=True)
            self._checking.start()

    def _check(self) -> None:
        for each in self:
            try:
                each.issuer.ensure_opened()
            except _FAILURES as error:
                if not self._is_stopping:
                    # The first order asks again.
                    logger.error(  # noqa: TRY400 - its words tell all
                        "stored chains are delivered, but nothing can be ordered%s: %s",
                        *(f" with {called(each.name)}" if len(self._by_name) > 1 else "", error),
                    )

    def follow(self) -> None:
        """Use other keys where another server has changed those of accounts; called from time to time.

        Raises:
            AccountError: one cannot be written.
        """
        for each in self:
            each.founding.follow()

    def reconfigure(self, config: Configuration) -> None:
        """Go by another configuration from now on, which has the same accounts."""
        for each in self:
            each.issuer.reconfigure(config.accounts[each.name], config.mgmt.request_timeout)

    def sweep(self, validators: Mapping[str, Validator], on_progress: Callable[[], None]) -> None:
        """Withdraw the proofs that a crash, or a validator that did not work, has left behind.

        Args:
            validators: what may have presented them, by name.
            on_progress: called after each batch of proofs.
        """
        for each in self:
            each.issuer.sweep(validators, on_progress)

    def stop(self) -> None:
        """End all that goes on with the CAs, now and from now on; unfinished orders stay open there."""
        self._is_stopping = True
        for each in self:
            each.issuer.stop()

    def close(self) -> None:
        """Stop, and let go of threads."""
        for each in self:
            each.issuer.close()

    def _made(self, name: str) -> OrderingAccount:
        config, memory, options = self._config, self._memory, self._config.accounts[name]
        identity = identity_of(config, name)
        orders = None if memory is None else memory.orders
        issuer = AcmeIssuer(
            options,
            config.mgmt.request_timeout,
            self._clock,
            memory=orders,
            journal=None if memory is None else memory.journal,
            # A CA counts requests by address: accounts share that as processes do.
            processes=config.mgmt.processes * count_at(config, options.directory_url),
        )
        shared = None if memory is None else memory.shared_accounts
        history = None if memory is None else memory.history(identity)
        issuance = Issuance(
            issuer,
            identity,
            self._bus,
            seconds=self._seconds,
            clock=self._clock,
            most_at_once=config.mgmt.max_orders,
            most_waiting=config.mgmt.max_waiting,
            subject=self._subject,
            memory=orders,
            pauses=None if memory is None else memory.pauses,
            history=history,
            times=None if memory is None else memory.times,
            limits=accounting(
                memory,
                options.directory_url,
                lambda: self._latest().account_limits[name],
                lambda: issuer.account_url,
                lambda: not self._latest().accounts[name].limits,
            ),
            name=f"issuance {name}".rstrip(),
        )
        if memory is not None:
            issuance.pauses.restore(memory.pauses.load())
        return OrderingAccount(
            name, identity, issuer, AccountFounding(issuer, shared, self._clock), issuance, history
        )


def count_at(config: Configuration, directory: str) -> int:
    """Return how many accounts speak to one CA, from the same address."""
    return sum(each.directory_url == directory for each in config.accounts.values())


def identity_of(config: Configuration, name: str) -> IssuerIdentity:
    """Return whose chains an account orders; of two alike at one CA, the second one's bear its name."""
    options = config.accounts[name]
    alike = next(
        each
        for each in config.accounts.values()
        if (each.directory_url, each.profile) == (options.directory_url, options.profile)
    )
    return IssuerIdentity(
        options.directory_url,
        options.profile,
        None if alike.name == name else name,
        owns_unmarked=not name,
    )
