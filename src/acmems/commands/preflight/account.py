"""What can be told of accounts without asking their CAs."""

from __future__ import annotations

from collections.abc import Iterator

from acmems.config import Configuration
from acmems.exceptions import AccountError
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.acme.session.sockets import tls_context
from acmems.settings.findings import Finding, Location
from acmems.system.permissions import other_owner
from acmems.text import one_line


def check(config: Configuration) -> Iterator[Finding]:
    """Yield what is wrong with accounts, and what will stop them from being used."""
    for account in config.accounts.values():
        yield from _check_files(config, account)
        yield from _check_terms(config, account)
        yield from _check_registration(config, account)


def check_access(config: Configuration) -> Iterator[Finding]:
    """Yield what is wrong with the files of accounts."""
    for account in config.accounts.values():
        yield from _check_files(config, account)


def _check_files(config: Configuration, account: AccountOptions) -> Iterator[Finding]:
    where = _where(config, account, "dir")
    for text in AccountDirectory(account.dir).self_check():
        yield Finding(where, text)
    owner = other_owner(account.dir)
    if owner is not None:
        yield Finding(
            where,
            f"this runs as root, and {account.dir} belongs to the user {owner}, who cannot use files "
            f"that root makes there: run acmems as that user (runuser -u {owner} -- acmems …)",
            warning=True,
        )
    try:
        account.binding_key()
    except AccountError as error:
        yield Finding(_where(config, account, "eab-hmac-key-file"), str(error))
    if account.ca_file is not None:
        try:
            tls_context(account.ca_file)
        except ValueError as error:
            yield Finding(_where(config, account, "ca-file"), str(error))


def _where(config: Configuration, account: AccountOptions, key: str) -> Location:
    return config.where("account", account.name or None, key)


def _check_terms(config: Configuration, account: AccountOptions) -> Iterator[Finding]:
    """Yield that no account will be made, because nobody has accepted the CA's terms."""
    accepted, directory = account.accepted_terms, AccountDirectory(account.dir)
    try:
        is_settled = accepted is True or bool(accepted) or directory.has_registration()
        has_key = directory.has_key()
    except OSError:
        return  # told by `check_access`
    if is_settled or not directory.exists():
        return
    will = "the CA may refuse it" if has_key else "none is made"
    yield Finding(
        _where(config, account, "accept-terms-of-service"),
        f"no account is registered yet, and {will} before the CA's terms of service are accepted: read them, "
        f"then add 'accept-terms-of-service = yes' to {account.section}",
        warning=has_key,
    )


def _check_registration(config: Configuration, options: AccountOptions) -> Iterator[Finding]:
    """Yield that nothing can be ordered with the registration; stored chains are delivered all the same."""
    directory, where = AccountDirectory(options.dir), _where(config, options, "dir")
    try:
        directory.load_key()
    except (AccountError, OSError):
        return  # told by `check_access`
    try:
        account = directory.load_registration()
    except AccountError as error:
        yield Finding(where, f"nothing can be ordered: {error}", warning=True)
    else:
        if account is not None and not options.is_of_ca(account.url):
            yield Finding(
                where,
                f"{directory.registration_file} is of another CA ({one_line(account.url, 200)}): unless "
                f"{options.directory_url} knows its key, too, nothing can be ordered; give each CA a "
                f"'dir' of its own",
                warning=True,
            )
