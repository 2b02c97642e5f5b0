"""Revoked chains in a directory: nobody finds them any more."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.exceptions import StorageUnavailable
from acmems.storages import FileStorage, IssuerIdentity

ORIGIN = IssuerIdentity("https://ca.example.org/directory")
REQUEST = make_request("a.example.org", "b.example.org")
CHAIN = make_chain(REQUEST)
NEWER = make_chain(REQUEST, days=91)


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """A storage in an empty directory."""
    return FileStorage("disk", tmp_path)


def entry_of(storage: FileStorage) -> Path:
    """Return where 0.3 to 0.5 keep the chain for `REQUEST`."""
    digest = hashlib.sha384(REQUEST.pem).hexdigest()
    return storage.directory / digest[:2] / digest[2:]


def test_everywhere(storage: FileStorage) -> None:
    """It is moved aside in the index and in the tree, and others stay."""
    other = make_request("other.example.org")
    kept = make_chain(other)
    storage.store_all([(REQUEST, CHAIN), (other, kept)], ORIGIN)
    assert storage.discard(CHAIN.fingerprint) == 2
    assert storage.find(REQUEST, ORIGIN) is None
    assert storage.find(other, ORIGIN) == kept
    assert [path.read_bytes() for path in storage.directory.rglob("*.revoked")] == [CHAIN.pem] * 2
    assert storage.discard(CHAIN.fingerprint) == 0


def test_what_old_versions_left(storage: FileStorage) -> None:
    """It is found in the tree of 0.3 to 0.5, with other line ends, too."""
    entry_of(storage).mkdir(parents=True)
    (entry_of(storage) / "cert.pem").write_bytes(CHAIN.pem.replace(b"\n", b"\r\n"))
    assert storage.discard(CHAIN.fingerprint) == 1
    assert storage.find(REQUEST, ORIGIN) is None


def test_again(storage: FileStorage) -> None:
    """A newer one is kept, and when that is revoked as well, both are left aside."""
    storage.store(REQUEST, CHAIN, ORIGIN)
    storage.discard(CHAIN.fingerprint)
    storage.store(REQUEST, NEWER, ORIGIN)
    assert storage.discard(CHAIN.fingerprint) == 0
    assert storage.find(REQUEST, ORIGIN) == NEWER
    assert storage.discard(NEWER.fingerprint) == 2
    assert len([*storage.directory.rglob("*.revoked"), *storage.directory.rglob("*.revoked-1")]) == 4


def test_beside_damaged_files(storage: FileStorage) -> None:
    """What holds no chain is left where it is."""
    storage.store(REQUEST, CHAIN, ORIGIN)
    (entry_of(storage) / "cert.pem").write_bytes(b"nothing")
    (storage.directory / "identities" / f"{'0' * 64}.pem").mkdir()
    assert storage.discard(CHAIN.fingerprint) == 1
    assert (entry_of(storage) / "cert.pem").read_bytes() == b"nothing"


def test_a_failing_disk(storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be moved, the operator is told."""
    storage.store(REQUEST, CHAIN, ORIGIN)

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StorageUnavailable, match="cannot move a revoked chain away: Read-only"):
        storage.discard(CHAIN.fingerprint)


def test_a_crash_brings_nothing_back(storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directories are on disk without the chain before anybody is told that it is gone."""
    storage.store(REQUEST, CHAIN, ORIGIN)
    synced: list[Path] = []
    monkeypatch.setattr("acmems.storages.file.files.sync_directory", synced.append)
    storage.discard(CHAIN.fingerprint)
    assert set(synced) == {storage.directory / "identities", entry_of(storage)}
