"""The profiles that an order can name (draft-ietf-acme-profiles): those of the accounts outside."""

from __future__ import annotations

from collections.abc import Sequence

from acmems.frontends.acme.problems import AcmeProblem
from acmems.issuing.failover.issuances import Issuances
from acmems.text import one_line


def offered_profiles(issuances: Issuances) -> dict[str, str]:
    """Return what `meta.profiles` tells: a description for the name of each profile."""
    found: dict[str, str] = {}
    for issuance in issuances:
        identity = issuance.identity
        if identity.profile is not None:
            found.setdefault(identity.profile, f"the profile {identity.profile} of {identity.directory}")
    return found


def issuers_of(issuances: Issuances, allowed: Sequence[str], profile: str | None) -> tuple[str, ...]:
    """Return the issuers that may issue an order, best first.

    Args:
        issuances: those of all issuers.
        allowed: the names of those that the auth block allows.
        profile: the profile that the client asks for, None where it leaves that to the auth block.

    Raises:
        AcmeProblem: none of those that are allowed has that profile.
    """
    if profile is None:
        return tuple(allowed)
    found = tuple(name for name in allowed if issuances.of(name).identity.profile == profile)
    if not found:
        known = {issuances.of(name).identity.profile for name in allowed} - {None}
        there = ", ".join(sorted(filter(None, known)))
        words = f"use {there}, or none" if there else "ask without one"
        raise AcmeProblem(
            "invalidProfile", f"there is no profile {one_line(profile, 60)!r} for these names: {words}"
        )
    return found
