"""What a reload may change, and what needs a restart."""

from __future__ import annotations

from collections.abc import Iterator

from acmems.challenges.dns01_server import DnsServer
from acmems.config import Configuration
from acmems.settings.findings import Finding


def restart_needed(before: Configuration, after: Configuration) -> list[Finding]:
    """Return what a running server cannot change from one configuration to another, where it stands.

    Args:
        before: what it goes by.
        after: what it is to go by.
    """
    return sorted([*_account(before, after), *_zones(before, after)])


def _account(before: Configuration, after: Configuration) -> Iterator[Finding]:
    old, new = before.account.fixed, after.account.fixed
    for key, value in new.items():
        if value != old[key]:
            yield Finding(
                after.where("account", None, key), f"'{key}' cannot be changed by a reload: restart acmems"
            )


def _zones(before: Configuration, after: Configuration) -> Iterator[Finding]:
    """Yield sections whose zone is another one: running orders have their proofs in that of before."""
    for name, new in after.validators.items():
        old = before.validators.get(name)
        if isinstance(old, DnsServer) and isinstance(new, DnsServer) and old.zone != new.zone:
            yield Finding(
                after.where("verification", name, "zone"),
                "'zone' cannot be changed by a reload: restart acmems, or add a section for the new zone",
            )
