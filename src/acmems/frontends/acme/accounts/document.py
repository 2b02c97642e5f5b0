"""An account as its client sees it (RFC 8555 section 7.1.2)."""

from __future__ import annotations

from typing import Any

from acmems.frontends.acme.answers import AcmeAnswer
from acmems.frontends.acme.linker import Linker
from acmems.state.acme.accounts import AcmeAccount


def account_answer(account: AcmeAccount, linker: Linker, status: int = 200) -> AcmeAnswer:
    """Return the answer that shows an account.

    Args:
        account: the account.
        linker: makes URLs.
        status: 201 where it was made just now, else 200.
    """
    url = linker.url("account", account.id)
    document: dict[str, Any] = {
        "status": account.status,
        "contact": list(account.contacts),
        "orders": linker.url("account-orders", account.id),
    }
    if account.agreed:
        document["termsOfServiceAgreed"] = True
    return AcmeAnswer(status, document, {"Location": url})
