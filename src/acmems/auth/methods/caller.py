"""What is known of a client before its body is read, and what a way to tell clients apart must do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from acmems.auth.methods.claim import Claim
from acmems.net.address import IPAddress
from acmems.text import Secret


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of a client before its body is read.

    Args:
        address: where it asks from; None if a trusted proxy did not say it understandably.
        claim: its HMAC claim, if any.
        token: its bearer token, if any.
        certificate: the client certificate of its connection, verified, in DER.
        is_revoked: whether that certificate was issued here and is revoked, or being revoked.
        external_account: the key identifier of the external account that its ACME account is bound to.
    """

    address: IPAddress | None
    claim: Claim | None
    token: Secret | None = None
    certificate: bytes | None = None
    is_revoked: bool = False
    external_account: str | None = None

    def of_account(self, external_account: str | None) -> Caller:
        """Return the same caller, once its ACME account is known.

        Args:
            external_account: the key identifier that this account is bound to, None if it is bound to none.
        """
        return replace(self, external_account=external_account)


class AuthMethod(Protocol):
    """One way to tell whether a client may use a block.

    `may_accept` MUST be cheap and MUST NOT need the body: it is asked before the body is read.
    `refusal` MUST be complete: a client that it does not refuse is accepted by it alone.
    """

    def may_accept(self, caller: Caller) -> bool:
        """Tell whether the client could be accepted, as far as its address and headers show."""

    def refusal(self, caller: Caller, body: bytes) -> str | None:
        """Return why the client is not accepted, for the operator; None if it is."""

    def accepts(self, caller: Caller, body: bytes) -> bool:
        """Tell whether the client is accepted."""
