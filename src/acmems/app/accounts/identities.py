"""Whose chains an account or a local CA orders."""

from __future__ import annotations

from acmems.config import Configuration
from acmems.issuers.local.files import LocalCaDirectory
from acmems.storages import IssuerIdentity


def identity_of(config: Configuration, name: str) -> IssuerIdentity:
    """Return whose chains an account or a local CA orders.

    Of two accounts alike at one CA, the second one's bear its name. Those of a local CA bear the fingerprint
    of its root, so that chains of a former CA of the same name are never delivered as its own.

    Args:
        config: describes them.
        name: that of the account or the local CA.
    """
    local_ca = config.local_cas.get(name)
    if local_ca is not None:
        fingerprint = LocalCaDirectory(local_ca.dir).fingerprint()
        return IssuerIdentity(local_ca.directory, None, fingerprint, owns_unmarked=False)
    options = config.accounts[name]
    alike = next(
        each
        for each in config.accounts.values()
        if (each.directory_url, each.profile) == (options.directory_url, options.profile)
    )
    return IssuerIdentity(
        options.directory_url,
        options.profile,
        None if alike.name == name else name,
        owns_unmarked=not name,
    )


def count_at(config: Configuration, directory: str) -> int:
    """Return how many accounts speak to one CA, from the same address."""
    return sum(each.directory_url == directory for each in config.accounts.values())
