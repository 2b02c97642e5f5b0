"""What acts work on, what they are told, and what they tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from acmems.events import Bus
from acmems.exceptions import ActFailed
from acmems.frontends.sign import SigningPolicy
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.system.clock import Clock

Progress = Callable[[str], None]
"""Told, in words for a person, how an act gets on."""


@dataclass(frozen=True, slots=True)
class ActingParts:
    """What acts work on: parts of a server.

    Args:
        issuer: the account at the CA.
        issuance: turns accepted requests into chains.
        policy: returns what holds now.
        bus: told of each act.
        clock: for dates.
    """

    issuer: AcmeIssuer
    issuance: Issuance
    policy: Callable[[], SigningPolicy]
    bus: Bus
    clock: Clock


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

    def is_set(self, name: str) -> bool:
        """Tell whether a flag is given.

        Raises:
            ActFailed: it is neither true nor false.
        """
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise ActFailed(f"'{name}' is no flag: is the command of the same version as the server?")
        return value
