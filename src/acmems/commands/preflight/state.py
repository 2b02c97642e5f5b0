"""Whether the state can be opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from acmems.config import Configuration
from acmems.exceptions import StateUnavailable
from acmems.settings.findings import Finding
from acmems.state.engines.places import unsafe_place
from acmems.state.engines.soundness import HEADER, exposure
from acmems.state.options import StateOptions, missing_driver
from acmems.system.permissions import denial, unwritable
from acmems.text import Secret

_BESIDE = ("", ".lock", ".writing", "-wal", "-shm")  # what SQLite and acmems add to the name of the file


def check(config: Configuration, *, is_read: bool = False) -> Iterator[Finding]:
    """Yield what is wrong with the file of the state, or with where it is to be made.

    A database of PostgreSQL is not connected to.

    Args:
        config: the configuration.
        is_read: whether the state is only to be read.
    """
    key = config.state.key
    text = _fault(config.state, config.home, is_read=is_read)
    if text is not None:
        section, key = ("state", key) if key is not None else ("account", "dir")
        yield Finding(config.where(section, None, key), text)


def _fault(options: StateOptions, account: Path, *, is_read: bool) -> str | None:
    try:
        place = options.place(account)
    except StateUnavailable as error:
        return str(error)
    if isinstance(place, Secret):
        # Where the URL stands in the configuration itself, reading that has told it already.
        return missing_driver() if options.url_file is not None else None
    return _fault_of_file(place, is_own=options.key is not None, is_read=is_read)


def _fault_of_file(path: Path, *, is_own: bool, is_read: bool) -> str | None:
    """Return what is wrong with a SQLite file, None if nothing is.

    Args:
        path: its file.
        is_own: whether it has a directory of its own; that of the account is looked at with the account.
        is_read: whether it is only to be read.
    """
    folder = path.parent
    if not os.path.isdir(folder):  # noqa: PTH112 - which says no where it may not look
        return f"the directory {folder} of the state does not exist: create it, mode 0700" if is_own else None
    for file in (Path(f"{path}{end}") for end in _BESIDE):
        if os.path.exists(file) and not os.access(file, os.R_OK):  # noqa: PTH110 - the same
            return f"the state cannot be used: {file}: {denial(file)}"
        if os.path.exists(file) and not is_read and not os.access(file, os.W_OK):  # noqa: PTH110 - the same
            return f"the state cannot be used: {file}: {unwritable(file)}"
    if os.path.exists(path):  # noqa: PTH110 - the same
        if not os.path.isfile(path):  # noqa: PTH113 - the same
            return f"{path} is no file: move it away, or set 'url' in [state] to another place"
        with path.open("rb") as opened:
            begins = opened.read(len(HEADER))
        if begins and begins != HEADER:
            return f"{path} is no SQLite file: restore the state from a backup, or move the file away"
        if (reason := exposure(path)) is not None:
            return reason
    elif is_own and not is_read and not os.access(folder, os.W_OK | os.X_OK):
        return f"the state {path} cannot be made: {unwritable(folder)}"
    return unsafe_place(path)
