"""What acts work on, what they are told, and what they tell."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from acmems.events import Bus
from acmems.exceptions import ActFailed
from acmems.frontends.delivery import SigningPolicy
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.state.chains import ChainRecord
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import Clock, Deadline
from acmems.text import one_line

Progress = Callable[[str], None]
"""Told, in words for a person, how an act gets on."""


class RevocableChains(Protocol):
    """The chains that were issued here, found by who they are for, and marked when they are revoked."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes deliver them, too."""

    def check(self) -> Future[None]:
        """Write what waits for another change."""

    def find(self, wanted: str) -> Sequence[ChainRecord]:
        """Return those with a name, a serial number or a fingerprint, newest first, history included.

        Raises:
            StateUnavailable: they cannot be read.
        """

    def adopt(self, records: Sequence[ChainRecord]) -> Future[int]:
        """Keep chains that were issued at some time."""

    def revoking(self, fingerprint: str, reason: str) -> Future[None]:
        """Note that a chain is going to be revoked: from then on it is never delivered."""

    def revoked(self, fingerprint: str, at: datetime.datetime, reason: str) -> Future[None]:
        """Note that the CA has revoked a chain."""

    def learn_revoked(self) -> None:
        """See which chains must not be delivered, and which keys are compromised.

        Raises:
            StateUnavailable: that cannot be read.
        """


class ActingParty(Protocol):
    """An account at a CA, or a local CA, and what orders with it."""

    @property
    def name(self) -> str:
        """The name of its section; empty where that has none."""

    @property
    def identity(self) -> IssuerIdentity:
        """Whose chains it orders."""

    @property
    def issuance(self) -> Issuance:
        """Turns requests into chains."""

    def follow(self) -> None:
        """Do what is to be done from time to time, such as publishing which certificates are revoked."""

    def revoke(self, certificate: bytes, reason: str, deadline: Deadline) -> bool:
        """Revoke a certificate, and tell whether it was not revoked before.

        Args:
            certificate: in DER.
            reason: as RFC 5280 section 5.3.1 names it.
            deadline: when to give up.

        Raises:
            CAProblem: the CA refuses.
            CAError, RateLimited, DeadlinePassed: the CA did not answer usably.
        """


class ActingAccount(ActingParty, Protocol):
    """An account at a CA."""

    @property
    def issuer(self) -> AcmeIssuer:
        """Speaks to its CA."""


class ActingAccounts(Protocol):
    """All accounts of a server."""

    @property
    def issuances(self) -> Issuances:
        """Turn accepted requests into chains."""

    @property
    def first(self) -> ActingParty:
        """The account of the section without a name, or the first local CA where there is no account."""

    def of(self, name: str) -> ActingAccount | None:
        """Return the account of a name, None if there is none."""

    def party(self, name: str) -> ActingParty | None:
        """Return the account or local CA of a name, None if there is none."""

    def at(self, directory: str) -> ActingParty | None:
        """Return the first account at a CA, or a local CA; None if there is none.

        Args:
            directory: the URL of the CA's directory, or what stands for a local CA.
        """


@dataclass(frozen=True, slots=True)
class ActingParts:
    """What acts work on: parts of a server.

    Args:
        accounts: the accounts at CAs.
        policy: returns what holds now.
        storages: returns where chains are kept now.
        known_chains: those that were issued, None where there is no state.
        bus: told of each act.
        clock: for dates.
    """

    accounts: ActingAccounts
    policy: Callable[[], SigningPolicy]
    storages: Callable[[], Sequence[Storage]]
    known_chains: RevocableChains | None
    bus: Bus
    clock: Clock

    def account(self, arguments: ActArguments) -> ActingAccount:
        """Return the account that an act is about: `account` among its arguments, or the one without a name.

        Raises:
            ActFailed: there is no such account.
        """
        name = arguments.text("account") or ""
        found = self.accounts.of(name)
        if found is None:
            raise ActFailed(f"there is no [account {one_line(name, 100)!r}] in the configuration")
        return found

    def party(self, arguments: ActArguments) -> ActingParty:
        """Return the account or local CA that an act is about, which `account` among its arguments names.

        Raises:
            ActFailed: there is none of that name.
        """
        name = arguments.text("account") or ""
        found = self.accounts.party(name)
        if found is None:
            raise ActFailed(
                f"there is no [account] or [local-ca] {one_line(name, 100)!r} in the configuration"
            )
        return found

    def party_of(self, chain: ChainRecord) -> ActingParty:
        """Return an account at the CA that has issued a chain, or the local CA that has.

        Raises:
            ActFailed: there is none.
        """
        found = self.accounts.at(chain.directory)
        if found is None:
            raise ActFailed(
                f"{', '.join(chain.names)} was issued by {one_line(chain.directory, 200)}, and no [account] "
                f"of the configuration is there, nor is it a [local-ca] of it"
            )
        return found

    @property
    def chains(self) -> RevocableChains:
        """The chains that were issued.

        Raises:
            ActFailed: there is no state.
        """
        if self.known_chains is None:
            raise ActFailed("another server uses the state, which knows the certificates: ask that one")
        return self.known_chains


@dataclass(frozen=True, slots=True)
class ActOutcome:
    """What has come of an act.

    Args:
        document: what the command prints with `--json`.
        names: the names of the certificates that it is about.
        reason: why, as far as somebody said.
    """

    document: Mapping[str, Any]
    names: tuple[str, ...] = ()
    reason: str = ""


Act = Callable[[ActingParts, "ActArguments", Progress], ActOutcome]
"""Does what was asked for; raises an `AcmeException` that says why it was not done."""


@dataclass(frozen=True, slots=True)
class ActArguments:
    """What a command was given, as it came over the socket."""

    values: Mapping[str, Any]

    def text(self, name: str) -> str | None:
        """Return a text, None where it is not given.

        Raises:
            ActFailed: it is none.
        """
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise ActFailed(f"'{name}' is no text: is the command of the same version as the server?")
        return value

    def required(self, name: str) -> str:
        """Return a text.

        Raises:
            ActFailed: it is none, or is not given.
        """
        value = self.text(name)
        if not value:
            raise ActFailed(f"'{name}' is missing: is the command of the same version as the server?")
        return value

    def is_set(self, name: str) -> bool:
        """Tell whether a flag is given.

        Raises:
            ActFailed: it is neither true nor false.
        """
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise ActFailed(f"'{name}' is no flag: is the command of the same version as the server?")
        return value
