"""Ending the account at the CA: `acmems account deactivate`."""

from __future__ import annotations

from acmems.frontends.acts.contract import ActArguments, ActingParts, ActOutcome, Progress
from acmems.frontends.acts.rotation import described


def deactivate_account(parts: ActingParts, arguments: ActArguments, _: Progress) -> ActOutcome:
    """Deactivate an account, for good.

    Args:
        parts: what it works on.
        arguments: `account`: its name, where it has one.

    Raises:
        AcmeException: it could not be done.
    """
    issuer = parts.account(arguments).issuer
    issuer.ensure_opened()
    return ActOutcome(described(issuer, issuer.deactivate()))
