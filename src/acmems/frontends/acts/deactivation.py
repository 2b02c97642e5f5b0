"""Ending the account at the CA: `acmems account deactivate`."""

from __future__ import annotations

from acmems.frontends.acts.contract import ActArguments, ActingParts, ActOutcome, Progress
from acmems.frontends.acts.rotation import described


def deactivate_account(parts: ActingParts, _: ActArguments, __: Progress) -> ActOutcome:
    """Deactivate the account, for good.

    Args:
        parts: what it works on.

    Raises:
        AcmeException: it could not be done.
    """
    parts.issuer.ensure_opened()
    return ActOutcome(described(parts.issuer, parts.issuer.deactivate()))
