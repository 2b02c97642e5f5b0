"""What acts work on, what they are told, and what they tell."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from acmems.events import Bus
from acmems.exceptions import ActFailed
from acmems.frontends.sign import SigningPolicy
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.state.chains import ChainRecord
from acmems.storages import Storage
from acmems.system.clock import Clock

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


@dataclass(frozen=True, slots=True)
class ActingParts:
    """What acts work on: parts of a server.

    Args:
        issuer: the account at the CA.
        issuance: turns accepted requests into chains.
        policy: returns what holds now.
        storages: returns where chains are kept now.
        known_chains: those that were issued, None where there is no state.
        bus: told of each act.
        clock: for dates.
    """

    issuer: AcmeIssuer
    issuance: Issuance
    policy: Callable[[], SigningPolicy]
    storages: Callable[[], Sequence[Storage]]
    known_chains: RevocableChains | None
    bus: Bus
    clock: Clock

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
