"""What an import finds in the directory of a file storage."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request

from acmems.state.chains import ChainRecord
from acmems.storages import FileStorage, IssuerIdentity, digest_of
from acmems.storages.tree import DamagedEntry, StoredTree, size

CA = IssuerIdentity("https://ca.example.org/directory")
OTHER = IssuerIdentity("https://other.example.org/directory", "shortlived")
REQUEST = make_request("a.example.org", "b.example.org")
CHAIN = make_chain(REQUEST)


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    return FileStorage("disk", tmp_path)


def found(storage: FileStorage) -> tuple[list[ChainRecord], list[DamagedEntry]]:
    entries = list(StoredTree(storage, CA).records())
    return (
        [each for each in entries if isinstance(each, ChainRecord)],
        [each for each in entries if isinstance(each, DamagedEntry)],
    )


def folder_of(storage: FileStorage, digest: str = REQUEST.body_digest) -> Path:
    return storage.directory / digest[:2] / digest[2:]


def test_a_stored_chain(storage: FileStorage) -> None:
    """It is found once, though it lies in two places, with the request and whose it is."""
    storage.store(REQUEST, CHAIN, CA)
    [record], damaged = found(storage)
    assert not damaged
    assert (record.identity, record.directory, record.profile) == (digest_of(REQUEST, CA), CA.directory, None)
    assert (record.pem, record.csr, record.storage) == (CHAIN.pem, REQUEST.pem, "disk")
    assert record.issued == CHAIN.not_before
    assert size(storage) == 1


def test_chains_of_another_ca(storage: FileStorage) -> None:
    """They are found as that CA's, in the index too."""
    storage.store(REQUEST, CHAIN, OTHER)
    shutil.rmtree(folder_of(storage))
    other = make_request("c.example.org")
    storage.store(other, make_chain(other), OTHER)
    records, damaged = found(storage)
    assert not damaged
    assert {(each.directory, each.profile) for each in records} == {(OTHER.directory, "shortlived")}
    assert {each.identity for each in records} == {digest_of(REQUEST, OTHER), digest_of(other, OTHER)}


@pytest.mark.parametrize("must_staple", [False, True])
def test_a_chain_in_the_index_only(storage: FileStorage, *, must_staple: bool) -> None:
    """Its name tells which request it is for, if that asked for what the leaf has."""
    request = make_request("a.example.org", must_staple=must_staple)
    storage.store(request, make_chain(request), CA)
    shutil.rmtree(folder_of(storage, request.body_digest))
    [record], damaged = found(storage)
    assert (record.identity, record.csr, damaged) == (digest_of(request, CA), None, [])


def test_a_tree_of_old_versions(storage: FileStorage) -> None:
    """Nothing says whose chains those are: they are taken for the configured CA's."""
    folder_of(storage).mkdir(parents=True)
    (folder_of(storage) / "csr.pem").write_bytes(REQUEST.pem)
    (folder_of(storage) / "cert.pem").write_bytes(CHAIN.pem)
    empty = storage.directory / "ab" / ("c" * 94)
    empty.mkdir(parents=True)
    [record], damaged = found(storage)
    assert (record.identity, damaged) == (digest_of(REQUEST, CA), [])


@pytest.mark.parametrize("request_pem", [None, b"what was accepted once"], ids=["none", "unreadable"])
def test_a_chain_without_a_request(storage: FileStorage, request_pem: bytes | None) -> None:
    """Its leaf tells what it is for."""
    storage.store(REQUEST, CHAIN, CA)
    place = folder_of(storage) / "csr.pem"
    place.unlink() if request_pem is None else place.write_bytes(request_pem)
    [record], damaged = found(storage)
    assert (record.identity, record.csr, damaged) == (digest_of(REQUEST, CA), None, [])


def test_chains_that_were_replaced(storage: FileStorage) -> None:
    """Older ones of other requests for the same are found as well: all are history of one identity."""
    key = ec.generate_private_key(ec.SECP256R1())
    requests = [make_request("a.example.org", key=key) for _ in range(3)]
    for request in requests:
        storage.store(request, make_chain(request), CA)
    records, damaged = found(storage)
    assert len(records) == 3
    assert {each.identity for each in records} == {digest_of(requests[0], CA)}
    assert not damaged


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cert.pem", b"-----BEGIN CERTIFICATE-----\n", ""),
        ("cert.pem", make_chain(make_request("c.example.org")).pem, "about another chain"),
        ("csr.pem", make_request("c.example.org").pem, "than the request beside it"),
        ("acmems.json", b"{", "does not say whose"),
        ("acmems.json", b"[]", "does not say whose"),
        ("acmems.json", b'{"directory": ["a"], "profile": null, "sha256": ""}', "does not say whose"),
        ("acmems.json", b'{"directory": null, "profile": null, "sha256": ""}', "does not say whose"),
        ("acmems.json", b'{"directory": "a", "profile": 1, "sha256": ""}', "does not say whose"),
        ("acmems.json", rb'{"directory": "\ud800", "profile": null, "sha256": ""}', "does not say whose"),
        ("acmems.json", b" " * 65537, "acmems.json: is larger"),
        ("csr.pem", b" " * 65537, "csr.pem: is larger"),
    ],
    ids=[
        *("cut off", "another chain", "another request", "half", "a list"),
        *("a list within", "nothing", "a number", "half a character", "a huge one", "a huge request"),
    ],
)
def test_what_is_damaged(storage: FileStorage, name: str, content: bytes, reason: str) -> None:
    """It is told, and left where it is; the index has the chain all the same."""
    storage.store(REQUEST, CHAIN, CA)
    (folder_of(storage) / name).write_bytes(content)
    [record], [damaged] = found(storage)
    assert record.fingerprint == CHAIN.fingerprint
    assert reason in damaged.reason
    assert damaged.path == str(folder_of(storage) / "cert.pem")
    assert (folder_of(storage) / name).read_bytes() == content


def test_a_chain_of_nobody(storage: FileStorage) -> None:
    """One in the index of which nothing tells whose it is cannot be taken; a folder is none either."""
    storage.store(REQUEST, CHAIN, OTHER)
    shutil.rmtree(folder_of(storage))
    (storage.directory / "identities" / f"{'0' * 64}.pem").mkdir()
    records, damaged = found(storage)
    assert not records
    assert len(damaged) == 2
    assert any("which CA" in each.reason for each in damaged)


def test_folders_that_cannot_be_read(storage: FileStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told: whoever imports as another user must not believe that nothing was there."""
    storage.store(REQUEST, CHAIN, CA)
    scandir = os.scandir
    closed = {str(folder_of(storage).parent), str(storage.directory / "identities")}

    def refusing(path: str) -> Any:
        if path in closed:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    records, damaged = found(storage)
    assert not records
    assert {each.path: each.reason for each in damaged} == dict.fromkeys(closed, "Permission denied")
