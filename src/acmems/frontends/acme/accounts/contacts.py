"""Contacts of accounts (RFC 8555 section 7.3): e-mail addresses, as URLs."""

from __future__ import annotations

import re
from typing import Any, Final

from acmems.frontends.acme.problems import AcmeProblem

MOST: Final = 10
_LONGEST = 320  # characters of an address (RFC 5321 section 4.5.3.1)
_SCHEME = "mailto:"
# One address without header fields (RFC 8555 section 7.3); its host has labels, and nothing in it is quoted.
_ADDRESS = re.compile(
    r"[A-Za-z0-9.!#$&'*+/=^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*",
    re.ASCII,
)


def read_contacts(value: Any) -> tuple[str, ...]:
    """Return the contacts of an account.

    Args:
        value: the member `contact` of a payload.

    Raises:
        AcmeProblem: `unsupportedContact`: one is no `mailto` URL; `invalidContact`: there is something wrong.
    """
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise AcmeProblem("invalidContact", "'contact' must be a list of URLs, such as mailto:a@example.org")
    if len(value) > MOST:
        raise AcmeProblem("invalidContact", f"an account may have {MOST} contacts")
    for each in value:
        if not each.lower().startswith(_SCHEME):
            raise AcmeProblem("unsupportedContact", "contacts must be mailto URLs")
        address = each[len(_SCHEME) :]
        if len(address) > _LONGEST or not _ADDRESS.fullmatch(address):
            raise AcmeProblem("invalidContact", "a mailto URL must hold one e-mail address and nothing else")
    return tuple(value)
