"""What a configuration says of ACME clients."""

from __future__ import annotations

from dataclasses import dataclass

from acmems.auth import Caller
from acmems.frontends.delivery import SigningPolicy


@dataclass(frozen=True, slots=True)
class AcmePolicy:
    """What holds for ACME clients; each request is judged by the one that holds when it begins.

    Args:
        signing: who may have what.
        requires_external_account: whether an account must be bound to an external one.
    """

    signing: SigningPolicy
    requires_external_account: bool

    def may_register(self, caller: Caller) -> bool:
        """Tell whether any auth block could accept a client as it is known when it registers."""
        return any(block.may_accept(caller) for block in self.signing.auth.blocks)
