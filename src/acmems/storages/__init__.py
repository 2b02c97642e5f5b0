"""Where chains are kept: a contract and its implementations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from acmems.storages.contract import (
    Discarding,
    Enumerable,
    IssuerIdentity,
    Storage,
    digest_of,
    identity_digest,
)
from acmems.storages.file import FileStorage
from acmems.storages.memory import PROCESS_MEMORY, MemoryStorage
from acmems.storages.none import NoStorage
from acmems.storages.sql import SqlStorage

__all__ = [
    "PROCESS_MEMORY",
    "STORAGES",
    "Discarding",
    "Enumerable",
    "FileStorage",
    "IssuerIdentity",
    "MemoryStorage",
    "NoStorage",
    "SqlStorage",
    "Storage",
    "digest_of",
    "identity_digest",
]

STORAGES: Final[Mapping[str, type[Storage]]] = {
    "none": NoStorage,
    "file": FileStorage,
    "sql": SqlStorage,
}
