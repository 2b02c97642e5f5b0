"""What lies in the directory of a file storage, for those who look at all of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

CHAIN = "cert.pem"
REQUEST = "csr.pem"
DESCRIPTION = "acmems.json"
INDEX = "identities"

_FOLDER = re.compile(r"[0-9a-f]{2}", re.ASCII)
_INDEXED = re.compile(r"[0-9a-f]{64}\.pem", re.ASCII)
_ENTRY = re.compile(r"[0-9a-f]{94}", re.ASCII)

Unread = Callable[[str, OSError], None]
"""Is told which folder cannot be read, and why."""


def _ignored(_: str, __: OSError) -> None:
    """Take no notice of a folder that cannot be read."""


def entries(directory: Path, index: str) -> Iterator[tuple[str, int]]:
    """Yield the path of each chain, relative to the directory, and a number that changes with the chain.

    What this version has put into the tree of 0.5 also lies in the index, and is left out.

    Args:
        directory: the storage's.
        index: the name of the folder of the index.
    """
    for name in _names(f"{directory}/{index}", _INDEXED):
        yield from _entry(directory, f"{index}/{name}")
    for folder in _names(str(directory), _FOLDER):
        for name in _names(f"{directory}/{folder}", _ENTRY):
            if not os.path.exists(f"{directory}/{folder}/{name}/{DESCRIPTION}"):  # noqa: PTH110 - a hot path
                yield from _entry(directory, f"{folder}/{name}/{CHAIN}")


def folders(directory: Path, unread: Unread = _ignored) -> Iterator[str]:
    """Yield where each folder of the tree has its chain, if it has one; tell which folders cannot be read."""
    for folder in _names(str(directory), _FOLDER, unread):
        for name in _names(f"{directory}/{folder}", _ENTRY, unread):
            yield f"{directory}/{folder}/{name}/{CHAIN}"


def indexed(directory: Path, unread: Unread = _ignored) -> Iterator[str]:
    """Yield the files of the index; tell where it cannot be read."""
    for name in _names(f"{directory}/{INDEX}", _INDEXED, unread):
        yield f"{directory}/{INDEX}/{name}"


def _names(folder: str, form: re.Pattern[str], unread: Unread = _ignored) -> Iterator[str]:
    """Yield the names of this form in a folder; nothing where there is no folder, or it cannot be read."""
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if form.fullmatch(entry.name):
                    yield entry.name
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        unread(folder, error)


def _entry(directory: Path, path: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError):
        status = os.stat(f"{directory}/{path}")  # noqa: PTH116 - the same
        yield path, hash((status.st_ino, status.st_mtime_ns))
