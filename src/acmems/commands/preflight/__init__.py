"""The checks before a start: what the configuration names on this machine, and what will not work with it.

They change nothing. What will fail later is reported like a mistake in the configuration itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from acmems.challenges import SelfChecking
from acmems.commands.preflight import account, addresses, files, local_cas, logging, state, tls
from acmems.commands.preflight.addresses import refused_listener
from acmems.commands.terminal import complain
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.settings.findings import Finding
from acmems.storages import MemoryStorage

__all__ = ["check", "refused_listener", "require", "require_account", "require_state"]


def require(config: Configuration) -> None:
    """Make sure that a server can start with what a configuration names, and tell what it warns of.

    Whether addresses can be listened on shows when the server does.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    _judge(
        [
            *account.check(config),
            *local_cas.check(config),
            *state.check(config),
            *logging.check(config),
            *tls.check(config),
            *_plug_ins(config),
        ]
    )


def require_account(config: Configuration) -> None:
    """Make sure that the account can be read and written, and tell what there is to warn of.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    _judge([*account.check_access(config), *logging.check(config)])


def require_state(config: Configuration, *, is_read: bool = False) -> None:
    """Make sure that the state can be where the configuration says, and tell what there is to warn of.

    Args:
        config: the configuration.
        is_read: whether it is only to be read: from a disk that is mounted read-only, or a copy.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    _judge(state.check(config, is_read=is_read))


def check(config: Configuration) -> list[Finding]:
    """Return what is wrong with what a configuration names, each at the line that names it."""
    return sorted(
        [
            *account.check(config),
            *local_cas.check(config),
            *state.check(config),
            *logging.check(config),
            *tls.check(config),
            *_plug_ins(config),
            *_forgetful(config),
            *files.check(config),
            *addresses.check(config),
        ]
    )


def _judge(findings: Iterable[Finding]) -> None:
    found = sorted(findings)
    if any(not finding.warning for finding in found):
        raise ConfigurationError(found)
    for warning in found:
        complain(str(warning))


def _plug_ins(config: Configuration) -> Iterator[Finding]:
    for name, storage in config.storages.items():
        for key, text in storage.self_check():
            yield Finding(config.where("storage", name, key), text)
    for name, validator in config.validators.items():
        if isinstance(validator, SelfChecking):
            for key, text in validator.self_check():
                yield Finding(config.where("verification", name, key), text)
    for block in config.auth.blocks:
        for key, text in block.self_check():
            yield Finding(config.where("auth", block.name, key), f"{key}: {text}")
    for name, target in config.notices.items():
        for key, text in target.self_check():
            yield Finding(config.where("notice", name, key), text)


def _forgetful(config: Configuration) -> Iterator[Finding]:
    """Yield the auth blocks whose chains a restart loses, though nobody said that it should."""
    remedy = "add 'storage = …' to it, or 'default-storage = …' to [mgmt]"
    if set(config.storages) == {"none"}:
        remedy = "add a [storage \"disk\"] with 'type = file' and 'directory = …'"
    for block in config.auth.blocks:
        if isinstance(block.storage, MemoryStorage):
            yield Finding(
                config.where("auth", block.name, "storage"),
                f'[auth "{block.name}"] has no storage: its chains are kept in memory, and after a restart '
                f"each machine's next request orders a new certificate: {remedy}",
                warning=True,
            )
