"""`acmems state import`."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import time
from collections.abc import Iterator

from acmems.app.accounts.identities import identity_of
from acmems.commands.state.outcome import Outcome
from acmems.commands.terminal import complain
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.settings.findings import Finding, hint
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.opening import open_state
from acmems.storages import FileStorage
from acmems.storages.tree import DamagedEntry, StoredTree

_BATCH = 500  # chains in a transaction
_TOLD_SECONDS = 2.0  # between two lines that tell how far it is


def run(config: Configuration, options: argparse.Namespace) -> Outcome:
    """Take the chains of file storages into the state; the newest of each identity becomes current.

    Raises:
        ConfigurationError: there is no such storage.
        StateInUse: a server uses a SQLite file.
        StateUnavailable: the state cannot be written.
        StorageUnavailable: the directory of a storage cannot be read.
    """
    storages = _storages(config, options.storage)
    issuer = identity_of(config, config.default_issuers[0])
    trees = [StoredTree(storage, issuer) for storage in storages]
    for tree in trees:
        tree.check()
    database = open_state(config.state, config.home)
    found = new = 0
    damaged: list[DamagedEntry] = []
    told = time.monotonic()
    with contextlib.closing(database):
        records = ChainRecords(database)
        for batch in _batches(trees, damaged):
            new += records.adopt(batch).result()
            found += len(batch)
            if time.monotonic() - told >= _TOLD_SECONDS and sys.stderr.isatty():
                told = time.monotonic()
                complain(f"acmems: {found} chains so far")
    facts = {
        "state": database.place,
        "storages": ", ".join(storage.name for storage in storages),
        "new": new,
        "known": found - new,
        "damaged": len(damaged),
    }
    document = {
        "state": database.place,
        "storages": [storage.name for storage in storages],
        "new": new,
        "known": found - new,
        "damaged": [{"path": each.path, "reason": each.reason} for each in damaged],
    }
    return Outcome(facts, document, [f"acmems: not taken: {each.path}: {each.reason}" for each in damaged])


def _storages(config: Configuration, name: str | None) -> list[FileStorage]:
    """Return the storages to take chains from."""
    files = {each.name: each for each in config.storages.values() if isinstance(each, FileStorage)}
    if name is None:
        if not files:
            where = config.where("storage", None, "type")
            raise ConfigurationError([Finding(where, "there is no [storage] with 'type = file' to import")])
        return list(files.values())
    if name not in files:
        where = config.where("storage", name, "type")
        words = f"there is no [storage \"{name}\"] with 'type = file'{hint(name, files)}"
        raise ConfigurationError([Finding(where, words)])
    return [files[name]]


def _batches(trees: list[StoredTree], damaged: list[DamagedEntry]) -> Iterator[list[ChainRecord]]:
    def sound() -> Iterator[ChainRecord]:
        for tree in trees:
            for entry in tree.records():
                if isinstance(entry, DamagedEntry):
                    damaged.append(entry)
                else:
                    yield entry

    records = sound()
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch
