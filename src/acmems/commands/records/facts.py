"""What records depend on beside the configuration: the account's URL, and the names of the CA."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from acmems.auth import Block
from acmems.challenges.dns_persist01 import DnsPersist
from acmems.exceptions import AcmeException
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.session import Session
from acmems.system.clock import SYSTEM
from acmems.system.steps import StepLoop
from acmems.text import one_line

_SECONDS = 10.0  # for the CA's directory


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An account at a CA, as far as records name it.

    Args:
        account_url: the URL of the account, None where none is registered.
        issuers: the names of the CA for its own records, best first.
        no_issuers: why the CA did not tell its names; empty if it did.
    """

    account_url: str | None = None
    issuers: tuple[str, ...] = ()
    no_issuers: str = ""


def account_facts(account: AccountOptions, blocks: Iterable[Block]) -> AccountFacts:
    """Read the URL of an account, and ask its CA for its names only where a validator needs them.

    Args:
        account: the account.
        blocks: those that it orders for.

    Raises:
        AccountError: the registration cannot be read.
    """
    registration = AccountDirectory(account.dir).load_registration()
    account_url = None if registration is None else one_line(registration.url)
    used = [validator for block in blocks for validator in block.validators]
    if account_url is None or not any(isinstance(each, DnsPersist) for each in used):
        return AccountFacts(account_url)
    return _with_issuers(account, account_url)


def applicant_facts(account: AccountOptions) -> AccountFacts:
    """Read the URL of an account, and ask its CA for its names.

    Raises:
        AccountError: the registration cannot be read.
    """
    registration = AccountDirectory(account.dir).load_registration()
    return _with_issuers(account, None if registration is None else one_line(registration.url))


def _with_issuers(account: AccountOptions, account_url: str | None) -> AccountFacts:
    try:
        return AccountFacts(account_url, _caa_identities(account))
    except AcmeException as error:
        return AccountFacts(account_url, no_issuers=one_line(error))


def _caa_identities(options: AccountOptions) -> tuple[str, ...]:
    """Return the names by which the CA calls itself in CAA records (RFC 8555 section 7.1.1)."""
    loop = StepLoop(name="acmems-records", threads=1)
    session = Session(options.directory_url, None, loop, ca_file=options.ca_file, hosts=options.hosts)
    try:
        directory = loop.run(session.directory(SYSTEM.deadline(_SECONDS)))
    finally:
        session.close()
        loop.close()
    return tuple(map(one_line, directory.caa_identities))
