"""Another key for the account: `acmems account rotate-key`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from acmems.exceptions import ActFailed
from acmems.frontends.acts.contract import ActArguments, ActingParts, ActOutcome, Progress
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.key import KEY_TYPES


def rotate_key(parts: ActingParts, arguments: ActArguments, progress: Progress) -> ActOutcome:
    """Change the account's key.

    Args:
        parts: what it works on.
        arguments: `account`: its name, where it has one; `key_type`: one of `KEY_TYPES`, where it is to be
            another than the configured one.
        progress: told what is waited for.

    Raises:
        ActFailed: there is no such type of key.
        AcmeException: the key was not changed, or it is not known whether it was.
    """
    key_type = arguments.text("key_type")
    if key_type is not None and key_type not in KEY_TYPES:
        raise ActFailed(f"there is no key type {key_type!r}: {', '.join(KEY_TYPES)} are")
    issuer = parts.account(arguments).issuer
    return ActOutcome(described(issuer, issuer.rotate_key(key_type, progress)))


def described(issuer: AcmeIssuer, account: Account) -> Mapping[str, Any]:
    """Return what commands print of an account; docs/operations.md describes each member."""
    key = issuer.client.key
    return {
        "server": issuer.options.directory_url,
        "account": account.url,
        "status": account.status,
        "key": key.kind,
        "thumbprint": key.thumbprint,
        "contacts": list(account.contacts),
        "terms": account.terms_of_service,
    }
