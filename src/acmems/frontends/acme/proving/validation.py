"""What is validated, and why it failed, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from acmems.system.clock import Deadline
from acmems.x509.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class Validation:
    """One challenge that a client says it has met.

    Args:
        challenge_type: `http-01`, `dns-01` or `tls-alpn-01`.
        identifier: what is proved, a wildcard name with its `*.`.
        token: the challenge's token.
        key_authorization: the token and the thumbprint of the account's key (RFC 8555 section 8.1).
        account: names the account, whose share of this server it takes.
    """

    challenge_type: str
    identifier: Identifier
    token: str
    key_authorization: str = field(repr=False)
    account: str = ""


class ChallengeCheck(Protocol):
    """Looks at what a client presents, by one type of challenge.

    `check` runs in a thread of its own, so it may block; it MUST return by the deadline, whatever comes.
    """

    @property
    def challenge_type(self) -> str:
        """The type, such as "dns-01"."""

    def check(self, validation: Validation, deadline: Deadline) -> None:
        """Return if the challenge is met.

        Raises:
            AcmeProblem: it is not.
        """
