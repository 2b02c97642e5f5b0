"""The contract between an issuance and what proves a name to the CA (RFC 8555 section 8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, Self

from acmems.challenges.responses import ChallengeResponses
from acmems.exceptions import CAProtocolError
from acmems.ini import Options
from acmems.names import Identifier

# RFC 8555 section 8.3: the base64url alphabet, no padding. The upper bound is ours.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,512}")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a validator shows the CA, for one challenge.

    Args:
        identifier: what is proved, as the CA looks it up: without "*.".
        token: the challenge's token.
        key_authorization: the token and the account key's thumbprint (RFC 8555 section 8.1).
        on_request: called, from any thread, each time the CA is seen fetching the proof.

    Raises:
        CAProtocolError: the CA's token is none.
    """

    identifier: Identifier
    token: str
    key_authorization: str = field(repr=False)
    on_request: Callable[[], None] = field(repr=False)

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.token):
            raise CAProtocolError(
                f"the CA sent a challenge for {self.identifier.value} with a token that is none"
            )


class Validator(Protocol):
    """What proves names to the CA by one type of challenge: a `[verification "NAME"]`."""

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def challenge_type(self) -> str:
        """The type as the CA spells it, such as "dns-01"."""

    @property
    def proves_wildcards(self) -> bool:
        """Whether the CA takes this type for wildcard names."""

    @classmethod
    def from_options(cls, name: str, options: Options, responses: ChallengeResponses) -> Self:
        """Make the validator that a section describes.

        It MUST NOT touch anything outside.

        Args:
            name: its name in the configuration.
            options: the keys of its section; problems are reported there, not raised.
            responses: the table that all http-01 listeners answer from.
        """

    def present(self, proof: Proof) -> None:
        """Show a proof to the CA.

        It MUST be safe to call from several threads, MUST leave other proofs for the same name alone,
        MUST be harmless when repeated, and MUST return within the validator's own timeout.

        Raises:
            ValidatorUnavailable: it cannot be shown now.
            NoChallengeMethodsSupported: this name can never be proved so.
        """

    def withdraw(self, proof: Proof) -> None:
        """Take away exactly what `present` has added for this proof.

        It MUST NOT raise for what is gone already, and MUST return within the validator's own timeout.

        Raises:
            ValidatorUnavailable: it cannot be taken away now.
        """
