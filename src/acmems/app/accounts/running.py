"""What a server orders with: accounts and local CAs, each with its issuances, limits and pauses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from cryptography import x509

from acmems.app.accounts.account import OrderingAccount
from acmems.app.accounts.contract import OrderingParty
from acmems.app.accounts.founding import AccountFounding
from acmems.app.accounts.identities import count_at, identity_of
from acmems.app.accounts.local_ca import OrderingCa
from acmems.app.memory import StateMemory, accounting
from acmems.challenges import Validator
from acmems.config import Configuration
from acmems.events import Bus
from acmems.exceptions import AccountError, CAError, DeadlinePassed, RateLimited
from acmems.frontends.history import RecordedHistory
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.local.issuer import LocalIssuer
from acmems.issuing.contract import Issuer
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.issuing.limits.accounting import LimitAccounting
from acmems.state.chains.revocations import RevocationRecords
from acmems.storages import IssuerIdentity
from acmems.system.clock import Clock
from acmems.x509.leaf import SubjectPolicy

logger = logging.getLogger(__name__)

_FAILURES = (AccountError, CAError, RateLimited, DeadlinePassed)


class Accounts:
    """All accounts of a server, the one of the section without a name first, and its local CAs.

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
        self._local_cas = {name: self._made_ca(name) for name in config.local_cas}
        self.parties: tuple[OrderingParty, ...] = (*self._by_name.values(), *self._local_cas.values())
        self.issuances = Issuances({each.name: each.issuance for each in self.parties}, clock)

    def __iter__(self) -> Iterator[OrderingAccount]:
        """Iterate over the accounts."""
        return iter(self._by_name.values())

    @property
    def first(self) -> OrderingParty:
        """The account of the section without a name, or the first local CA where there is no account."""
        return self.parties[0]

    def certificates(self, name: str) -> Sequence[x509.Certificate]:
        """Return the certificates of a local CA, its root first; none for what is none."""
        local_ca = self._local_cas.get(name)
        return () if local_ca is None else local_ca.issuer.certificates

    def published(self, name: str, kind: str) -> bytes | None:
        """Return what a local CA publishes, None where there is none of that name: `Published`."""
        local_ca = self._local_cas.get(name)
        return None if local_ca is None else local_ca.published(kind)

    def of(self, name: str) -> OrderingAccount | None:
        """Return the account of a name, None if there is none."""
        return self._by_name.get(name)

    def party(self, name: str) -> OrderingParty | None:
        """Return the account or local CA of a name, None if there is none."""
        return self._by_name.get(name) or self._local_cas.get(name)

    def history(self, name: str) -> RecordedHistory:
        """Return what notes the chains of an account or a local CA.

        Raises:
            LookupError: there is none of that name, or no state.
        """
        party = self.party(name)
        if party is None or party.history is None:
            raise LookupError(name)
        return party.history

    def at(self, directory: str) -> OrderingParty | None:
        """Return the first account at a CA, or a local CA; None if there is none.

        Args:
            directory: the URL of the CA's directory, or what stands for a local CA.
        """
        return next((each for each in self.parties if each.identity.directory == directory), None)

    def find(self) -> bool:
        """Load the keys of each, or make the account; tell whether any CA is to be asked about one.

        An account that is known on disk is not waited for.

        Where there are several, one whose CA does not give it an account is left for later: the others may
        order meanwhile.

        Raises:
            AccountError, NeedToAgreeToTOS: there is none yet, or its key cannot be used.
            CAError, RateLimited, DeadlinePassed: the first has none yet, and the CA does not give one.
            StateUnavailable: it cannot be told what other servers use.
        """
        is_known = False
        for each in self.parties:
            try:
                is_known = each.find() or is_known
            except (CAError, RateLimited, DeadlinePassed) as error:
                if not each.name:
                    raise
                logger.error("nothing can be ordered with %s yet: %s", each.section, error)  # noqa: TRY400 - its words tell all
        return is_known

    def check_behind(self) -> None:
        """Ask the CAs about the accounts, which nobody waits for: stored chains are delivered without it."""
        if self._checking is None or not self._checking.is_alive():
            self._checking = threading.Thread(target=self._check, name="acmems-account", daemon=True)
            self._checking.start()

    def _check(self) -> None:
        for each in self.parties:
            try:
                each.check()
            except _FAILURES as error:
                if not self._is_stopping:
                    # The first order asks again.
                    logger.error(  # noqa: TRY400 - its words tell all
                        "stored chains are delivered, but nothing can be ordered%s: %s",
                        *(f" with {each.section}" if len(self.parties) > 1 else "", error),
                    )

    def follow(self) -> None:
        """Do what is to be done from time to time: follow other servers, publish what is revoked.

        Raises:
            AccountError: a file cannot be written.
            StateUnavailable: the state cannot be read.
        """
        for each in self.parties:
            each.follow()

    def reconfigure(self, config: Configuration) -> None:
        """Go by another configuration from now on, which has the same accounts."""
        for each in self.parties:
            each.reconfigure(config)

    def sweep(self, validators: Mapping[str, Validator], on_progress: Callable[[], None]) -> None:
        """Withdraw the proofs that a crash, or a validator that did not work, has left behind.

        Args:
            validators: what may have presented them, by name.
            on_progress: called after each batch of proofs.
        """
        for each in self.parties:
            each.sweep(validators, on_progress)

    def stop(self) -> None:
        """End all that goes on with the CAs, now and from now on; unfinished orders stay open there."""
        self._is_stopping = True
        for each in self.parties:
            each.stop()

    def close(self) -> None:
        """Stop, and let go of threads."""
        for each in self.parties:
            each.close()

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
        limits = accounting(
            memory,
            options.directory_url,
            lambda: self._latest().account_limits[name],
            lambda: issuer.account_url,
            lambda: not self._latest().accounts[name].limits,
        )
        issuance = self._issuance(issuer, identity, history, limits, name)
        return OrderingAccount(
            name, identity, issuer, AccountFounding(issuer, shared, self._clock), issuance, history
        )

    def _made_ca(self, name: str) -> OrderingCa:
        memory, identity = self._memory, identity_of(self._config, name)
        issuer = LocalIssuer(self._config.local_cas[name], self._clock)
        history = None if memory is None else memory.history(identity)
        issuance = self._issuance(issuer, identity, history, None, name)
        revocations = None if memory is None else RevocationRecords(memory.database)
        return OrderingCa(name, identity, issuer, issuance, history, revocations, self._clock)

    def _issuance(
        self,
        issuer: Issuer,
        identity: IssuerIdentity,
        history: RecordedHistory | None,
        limits: LimitAccounting | None,
        name: str,
    ) -> Issuance:
        config, memory = self._config, self._memory
        issuance = Issuance(
            issuer,
            identity,
            self._bus,
            seconds=self._seconds,
            clock=self._clock,
            most_at_once=config.mgmt.max_orders,
            most_waiting=config.mgmt.max_waiting,
            subject=self._subject,
            memory=None if memory is None else memory.orders,
            pauses=None if memory is None else memory.pauses,
            history=history,
            times=None if memory is None else memory.times,
            limits=limits,
            name=f"issuance {name}".rstrip(),
        )
        if memory is not None:
            issuance.pauses.restore(memory.pauses.load())
        return issuance
