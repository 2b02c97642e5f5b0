"""The checks before a start: directories, keys and files that the configuration names on this machine.

They change nothing. What will fail later is reported like a mistake in the configuration itself.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

from acmems.challenges import SelfChecking
from acmems.config import Configuration
from acmems.exceptions import AccountError, ConfigurationError
from acmems.issuers.acme.account import AccountDirectory
from acmems.settings.findings import Finding


def require(config: Configuration) -> None:
    """Make sure that what a configuration names is there.

    Raises:
        ConfigurationError: with all that is wrong.
    """
    findings = check(config)
    if findings:
        raise ConfigurationError(findings)


def check(config: Configuration) -> list[Finding]:
    """Return what is wrong with what a configuration names, each at the line that names it."""
    findings = [Finding(config.where("account", None, "dir"), text) for text in _account(config.account.dir)]
    findings += [
        Finding(config.where("account", None, "ca-file"), text) for text in _anchors(config.account.ca_file)
    ]
    if isinstance(config.logging.destination, Path):
        findings += [
            Finding(config.where("logging", None, "destination"), text)
            for text in _log_file(config.logging.destination)
        ]
    for name, storage in config.storages.items():
        findings += [Finding(config.where("storage", name, key), text) for key, text in storage.self_check()]
    for name, validator in config.validators.items():
        if isinstance(validator, SelfChecking):
            findings += [
                Finding(config.where("verification", name, key), text) for key, text in validator.self_check()
            ]
    return sorted(findings)


def _account(path: Path) -> Iterator[str]:
    directory = AccountDirectory(path)
    try:
        if not directory.exists() or directory.has_key() or directory.has_registration():
            directory.load_key()
        elif not os.access(path, os.W_OK | os.X_OK):
            yield f"the account directory {path} is not writable"
    except AccountError as error:
        yield str(error)
    except OSError as error:
        yield f"the account directory {path} cannot be read: {error.strerror}"


def _anchors(path: Path | None) -> Iterator[str]:
    if path is None:
        return
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one, too
        yield f"{path}: no PEM certificates can be read from it ({error.strerror or error})"


def _log_file(path: Path) -> Iterator[str]:
    if not path.parent.is_dir():
        yield f"the directory of the log file {path} does not exist"
