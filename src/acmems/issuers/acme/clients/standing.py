"""Whether an order has failed because of the account."""

from __future__ import annotations

import logging
from typing import TypeVar

from acmems.exceptions import AccountError, AcmeException, CAProblem
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.key import AccountKey
from acmems.issuers.acme.registration import key_refused
from acmems.system.steps import Steps

logger = logging.getLogger(__name__)

T = TypeVar("T")


def judged(
    ordering: Steps[T], key: AccountKey, directory: AccountDirectory, look: Steps[Account]
) -> Steps[T]:
    """Order something, and raise what is the account's as an error of the account.

    `unauthorized` is what a name is answered that could not be validated, and a deactivated account
    (RFC 8555 sections 6.7, 7.3.6): where no identifier is named, the account itself tells.

    Args:
        ordering: orders it.
        key: the account's.
        directory: where that lies.
        look: asks the CA for the account; not begun unless that is needed.

    Raises:
        AccountError: it has failed because of the account.
        AcmeException: what `ordering` raises.
    """
    try:
        return (yield from ordering)
    except AcmeException as error:
        yield from _check_account(error, key, directory, look)
        raise


def _check_account(
    error: AcmeException, key: AccountKey, directory: AccountDirectory, look: Steps[Account]
) -> Steps[None]:
    problem = error if isinstance(error, CAProblem) else error.__cause__
    if not isinstance(problem, CAProblem):
        return
    if problem.code == "badSignatureAlgorithm":
        raise key_refused(problem, key, directory) from problem
    if problem.code != "unauthorized" or any(name for name, *_ in problem.subproblems):
        return
    try:
        yield from look
    except AccountError as meaning:
        raise meaning from problem
    except AcmeException as other:
        logger.debug("whether the account is valid cannot be told: %s", other)
