"""Chains in a directory: found again by those they are for, kept whole, beside older versions."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request

from acmems.exceptions import StorageUnavailable
from acmems.storages import FileStorage, IssuerIdentity
from acmems.system import files
from acmems.x509.chain import Chain

ORIGIN = IssuerIdentity("https://ca.example.org/directory")
OTHERS = [
    IssuerIdentity("https://other.example.org/directory"),
    IssuerIdentity("https://ca.example.org/directory", "shortlived"),
]
REQUEST = make_request("a.example.org", "b.example.org")
CHAIN = make_chain(REQUEST)
NEWER = make_chain(REQUEST, days=91)
DIGEST = hashlib.sha384(REQUEST.pem).hexdigest()


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """A storage in an empty directory."""
    return FileStorage("disk", tmp_path)


def entry_of(storage: FileStorage) -> Path:
    """Return where 0.3 to 0.5 keep the chain for `REQUEST`."""
    return storage.directory / DIGEST[:2] / DIGEST[2:]


def leave_as_old_version(storage: FileStorage, chain: Chain) -> None:
    """Leave a chain for `REQUEST` as 0.3 to 0.5 do."""
    entry = entry_of(storage)
    entry.mkdir(parents=True)
    (entry / "csr.pem").write_bytes(REQUEST.pem)
    (entry / "cert.pem").write_bytes(chain.pem)


def drop_index(storage: FileStorage) -> None:
    shutil.rmtree(storage.directory / "identities")


def everything_in(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


class TestFind:
    def test_a_stored_chain_is_found(self, storage: FileStorage) -> None:
        """A stored chain is found, with all its certificates, also by a storage made anew."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        assert storage.find(REQUEST, ORIGIN) == CHAIN
        assert FileStorage("again", storage.directory).find(REQUEST, ORIGIN) == CHAIN

    def test_an_empty_storage_finds_nothing_and_stays_empty(self, storage: FileStorage) -> None:
        """Where nothing is stored nothing is found, and looking leaves nothing behind."""
        assert storage.find(REQUEST, ORIGIN) is None
        assert everything_in(storage.directory) == []

    def test_no_directory(self, storage: FileStorage) -> None:
        """Without a directory nothing is found: `check` is what tells that it is missing."""
        storage.directory.rmdir()
        assert storage.find(REQUEST, ORIGIN) is None

    def test_another_request_for_the_same(self, storage: FileStorage) -> None:
        """A new CSR of the same key for the same names, in whatever order, finds the chain of the first."""
        key = ec.generate_private_key(ec.SECP256R1())
        first, second = make_request("a.org", "b.org", key=key), make_request("b.org", "a.org", key=key)
        storage.store(first, chain := make_chain(first), ORIGIN)
        assert first.pem != second.pem
        assert storage.find(second, ORIGIN) == chain

    def test_requests_for_something_else(self, storage: FileStorage) -> None:
        """Another key, fewer names, must-staple: each is something else, finds nothing, and harms nothing."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = make_request("a.org", "b.org", key=key)
        storage.store(request, make_chain(request), ORIGIN)
        before = everything_in(storage.directory)
        for other in (
            make_request("a.org", "b.org"),
            make_request("a.org", key=key),
            make_request("a.org", "b.org", key=key, must_staple=True),
        ):
            assert storage.find(other, ORIGIN) is None
        assert everything_in(storage.directory) == before

    @pytest.mark.threat("disk", "another CA or account than before")
    @pytest.mark.parametrize("other", OTHERS, ids=["CA", "profile"])
    def test_another_origin(self, storage: FileStorage, other: IssuerIdentity) -> None:
        """A chain of another CA or profile is not found; each origin finds its own, side by side."""
        storage.store(REQUEST, CHAIN, other)
        assert storage.find(REQUEST, ORIGIN) is None
        storage.store(REQUEST, NEWER, ORIGIN)
        assert (storage.find(REQUEST, other), storage.find(REQUEST, ORIGIN)) == (CHAIN, NEWER)

    def test_an_expired_chain(self, storage: FileStorage) -> None:
        """An expired chain is found: freshness is not a storage's business."""
        storage.store(REQUEST, expired := make_chain(REQUEST, days=-1), ORIGIN)
        assert storage.find(REQUEST, ORIGIN) == expired

    @pytest.mark.parametrize("in_index", [CHAIN, NEWER], ids=["older", "newer"])
    def test_the_one_that_expires_last(self, storage: FileStorage, in_index: Chain) -> None:
        """Where index and tree differ, because 0.5 ran meanwhile, the chain that expires last is found."""
        storage.store(REQUEST, in_index, ORIGIN)
        shutil.rmtree(entry_of(storage))
        leave_as_old_version(storage, CHAIN if in_index is NEWER else NEWER)
        assert storage.find(REQUEST, ORIGIN) == NEWER

    @pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
    @pytest.mark.parametrize("name", ["identities", "cert.pem", "acmems.json"])
    def test_a_disk_that_does_not_tell(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch, name: str, number: int
    ) -> None:
        """Where nobody can tell what is stored that is an error, and everything stays where it is."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        if name != "identities":
            drop_index(storage)
        before = everything_in(storage.directory)
        opened = os.open

        def fail(path: str, *arguments: Any, **keywords: Any) -> int:
            if name in path:
                raise OSError(number, os.strerror(number), path)
            return opened(path, *arguments, **keywords)

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(StorageUnavailable, match=f"^storage 'disk' cannot be read: .*{name}"):
            storage.find(REQUEST, ORIGIN)
        assert everything_in(storage.directory) == before


class TestTree:
    """The directories of 0.3 to 0.5 are read, and written so that those still read them."""

    def test_old_versions_find_what_is_stored(self, storage: FileStorage) -> None:
        """The chain and the CSR lie where 0.3 to 0.5 look, byte for byte."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        assert (entry_of(storage) / "cert.pem").read_bytes() == CHAIN.pem
        assert (entry_of(storage) / "csr.pem").read_bytes() == REQUEST.pem

    @pytest.mark.parametrize("origin", [ORIGIN, *OTHERS], ids=["default", "CA", "profile"])
    def test_chains_of_older_versions_are_found(self, storage: FileStorage, origin: IssuerIdentity) -> None:
        """A chain of 0.3 to 0.5 is found whatever the CA, which those did not note."""
        leave_as_old_version(storage, CHAIN)
        assert storage.find(REQUEST, origin) == CHAIN

    def test_a_new_chain_replaces_one_of_an_older_version(self, storage: FileStorage) -> None:
        """A new chain lies in place of an old version's, and is found."""
        leave_as_old_version(storage, CHAIN)
        storage.store(REQUEST, NEWER, ORIGIN)
        assert (entry_of(storage) / "cert.pem").read_bytes() == NEWER.pem
        assert storage.find(REQUEST, ORIGIN) == NEWER

    @pytest.mark.threat("disk", "another CA or account than before")
    @pytest.mark.parametrize("other", OTHERS, ids=["CA", "profile"])
    def test_a_description_tells_which_ca_a_chain_is_of(
        self, storage: FileStorage, other: IssuerIdentity
    ) -> None:
        """Without the index, the description beside a chain tells whose it is."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        drop_index(storage)
        assert (storage.find(REQUEST, other), storage.find(REQUEST, ORIGIN)) == (None, CHAIN)

    def test_a_chain_that_the_description_does_not_mean(self, storage: FileStorage) -> None:
        """A chain that was put beside a description of another one is nobody's: half a write looks so."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        drop_index(storage)
        (entry_of(storage) / "cert.pem").write_bytes(NEWER.pem)
        assert storage.find(REQUEST, ORIGIN) is None

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"[]", b"{}", b"1", b"[" * 10_000, b"\xff", bytes(20_000), None],
        ids=["empty", "cut", "list", "keyless", "number", "deep", "bytes", "huge", "directory"],
    )
    def test_a_damaged_description(
        self, storage: FileStorage, caplog: pytest.LogCaptureFixture, content: bytes | None
    ) -> None:
        """A chain with a damaged description is not used, and stays damaged only until the next is stored."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        drop_index(storage)
        description = entry_of(storage) / "acmems.json"
        description.unlink()
        if content is None:
            description.mkdir()
        else:
            description.write_bytes(content)
        assert storage.find(REQUEST, ORIGIN) is None
        assert [vars(record)["fields"]["path"] for record in caplog.records] == [str(description)]
        assert description.exists()
        if content is not None:
            storage.store(REQUEST, CHAIN, ORIGIN)
            drop_index(storage)
            assert storage.find(REQUEST, ORIGIN) == CHAIN


def failing_at(function: Callable[..., Any], nth: int) -> Callable[..., Any]:
    """Return a system call for which the disk is full at its nth call."""
    calls = 0

    def fail(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **keywords)

    return fail


class TestStore:
    def test_four_private_files_are_written(self, storage: FileStorage) -> None:
        """Stored are three files in the tree and one in the index, for their owner only."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        entry = entry_of(storage)
        [indexed] = (storage.directory / "identities").iterdir()
        written = [indexed, entry / "acmems.json", entry / "cert.pem", entry / "csr.pem"]
        folders = [storage.directory / "identities", entry.parent, entry]
        assert everything_in(storage.directory) == sorted(written + folders)
        assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}

    @pytest.mark.threat("disk", "a disk that is full")
    @pytest.mark.parametrize(
        ("call", "nth"),
        [("fsync", nth) for nth in range(1, 3)] + [("replace", nth) for nth in range(1, 5)],
        ids=str,
    )
    def test_a_full_disk(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
    ) -> None:
        """Whichever step fails, that is told, the old chain or the new one is found, and nothing is left."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        before = everything_in(storage.directory)
        monkeypatch.setattr(os, call, failing_at(getattr(os, call), nth))
        with pytest.raises(StorageUnavailable, match=rf"No space left on device \({storage.directory}\)$"):
            storage.store(REQUEST, NEWER, ORIGIN)
        assert storage.find(REQUEST, ORIGIN) == (
            CHAIN if (call, nth) in {("fsync", 1), ("replace", 1)} else NEWER
        )
        assert everything_in(storage.directory) == before
        storage.store(REQUEST, NEWER, ORIGIN)
        drop_index(storage)
        assert storage.find(REQUEST, ORIGIN) == NEWER

    @pytest.mark.parametrize("nth", range(1, 5))
    def test_half_a_store_is_nobodys(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch, nth: int
    ) -> None:
        """Whatever the first store of a chain leaves when it fails is never taken for another CA's."""
        monkeypatch.setattr(os, "replace", failing_at(os.replace, nth))
        with pytest.raises(StorageUnavailable):
            storage.store(REQUEST, CHAIN, ORIGIN)
        for other in OTHERS:
            assert storage.find(REQUEST, other) is None
        assert storage.find(REQUEST, ORIGIN) == (None if nth == 1 else CHAIN)

    def test_leftovers_of_a_crash(self, tmp_path: Path) -> None:
        """What a killed writer left a day ago goes when a chain is stored beside it, and daily elsewhere."""
        now = 1_000_000.0
        storage = FileStorage("disk", tmp_path, now=lambda: now)
        storage.store(REQUEST, CHAIN, ORIGIN)
        left = [folder / ".acmems-x.tmp" for folder in (tmp_path, tmp_path / "identities", entry_of(storage))]

        def leave() -> None:
            for path in left:
                path.write_bytes(b"")
                os.utime(path, (now - 90_000, now - 90_000))

        leave()
        storage.check()
        storage.store(REQUEST, CHAIN, ORIGIN)
        assert [path.exists() for path in left] == [False, False, False]
        leave()
        storage.check()
        assert [path.exists() for path in left] == [True, True, True]
        now += 86_401
        storage.check()
        assert [path.exists() for path in left] == [False, False, True]

    @pytest.mark.parametrize(
        "place",
        ["", "identities", DIGEST[:2], f"{DIGEST[:2]}/{DIGEST[2:]}"],
        ids=["all", "index", "half", "entry"],
    )
    def test_something_in_the_way(self, tmp_path: Path, place: str) -> None:
        """A file where a folder belongs is an error that names it."""
        directory = tmp_path / "storage"
        (directory / place).parent.mkdir(parents=True, exist_ok=True)
        (directory / place).write_bytes(b"")
        with pytest.raises(StorageUnavailable, match=str(directory / place)):
            FileStorage("disk", directory).store(REQUEST, CHAIN, ORIGIN)
        assert (directory / place).read_bytes() == b""


class TestStoreAll:
    """Several chains at once, with as few waits for the disk as that takes."""

    REQUESTS = tuple(make_request(f"{number}.example.org") for number in range(3))
    ENTRIES = tuple((request, make_chain(request)) for request in REQUESTS)

    def test_every_chain_of_a_batch_is_found(self, storage: FileStorage) -> None:
        """Each chain is found by what it is for, in the index and in the tree."""
        storage.store_all(self.ENTRIES, ORIGIN)
        chains = [chain for _, chain in self.ENTRIES]
        assert [storage.find(request, ORIGIN) for request in self.REQUESTS] == chains
        drop_index(storage)
        assert [storage.find(request, ORIGIN) for request in self.REQUESTS] == chains

    def test_only_the_index_waits_for_the_disk(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each file of the index is synced, their directory once for all, and nothing of the tree."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        synced: list[Path] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
        storage.store_all(self.ENTRIES, ORIGIN)
        index = storage.directory / "identities"
        assert [path.parent for path in synced] == [index] * 3 + [storage.directory]
        assert synced[-1] == index

    @pytest.mark.threat("disk", "a disk that is full")
    @pytest.mark.parametrize("call", ["open", "fsync"])
    @pytest.mark.parametrize("nth", [1, 2, 3])
    def test_a_disk_too_full_for_one_changes_nothing(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch, call: str, nth: int
    ) -> None:
        """Where one of them cannot be written, none is; each can be stored alone afterwards."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        before = everything_in(storage.directory)
        monkeypatch.setattr(os, call, failing_at(getattr(os, call), nth))
        with pytest.raises(StorageUnavailable, match="No space left"):
            storage.store_all([(REQUEST, NEWER), *self.ENTRIES], ORIGIN)
        assert everything_in(storage.directory) == before
        assert storage.find(REQUEST, ORIGIN) == CHAIN
        for request, chain in self.ENTRIES:
            storage.store(request, chain, ORIGIN)
            assert storage.find(request, ORIGIN) == chain

    def test_a_tree_that_cannot_be_written_is_told(self, storage: FileStorage) -> None:
        """What only 0.5 would miss is an error as well, and what is in the index is found all the same."""
        (storage.directory / DIGEST[:2]).write_bytes(b"")
        with pytest.raises(StorageUnavailable, match="cannot keep a chain"):
            storage.store_all([(REQUEST, CHAIN), *self.ENTRIES], ORIGIN)
        assert storage.find(REQUEST, ORIGIN) == CHAIN

    def test_files_that_a_crash_left_empty_are_not_used(self, storage: FileStorage) -> None:
        """The tree may be empty after a crash of the machine; the index then has the chain."""
        storage.store(REQUEST, CHAIN, ORIGIN)
        for name in ("csr.pem", "acmems.json", "cert.pem"):
            (entry_of(storage) / name).write_bytes(b"")
        assert storage.find(REQUEST, ORIGIN) == CHAIN


STORE_FOREVER = """
import sys
from pathlib import Path
from acmems.x509 import chain
from acmems.x509 import csr
from acmems.storages import FileStorage, IssuerIdentity
folder = Path(sys.argv[1])
storage = FileStorage("disk", folder / "storage")
request = csr.parse((folder / "csr").read_bytes())
chains = [chain.parse((folder / name).read_bytes()) for name in ("older", "newer")]
while True:
    for each in chains:
        storage.store(request, each, IssuerIdentity("https://ca.example.org/directory"))
    print(flush=True)
"""


class TestTogether:
    """Many threads, and several processes, use one directory."""

    def test_a_look_during_storing_finds_a_whole_chain(
        self, storage: FileStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        """While others store every look finds a whole chain, and nothing is taken for damaged."""
        storage.store(REQUEST, CHAIN, ORIGIN)

        def work(number: int) -> Chain | None:
            storage.store(REQUEST, (CHAIN, NEWER)[number % 2], ORIGIN)
            return storage.find(REQUEST, ORIGIN)

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(work, range(80)))
        assert all(chain in {CHAIN, NEWER} for chain in found)
        assert caplog.records == []

    def test_processes_and_their_sudden_end(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """While others store, and after they were killed in the middle of it, a whole chain is found."""
        storage = FileStorage("disk", tmp_path / "storage")
        storage.directory.mkdir()
        for name, content in {"csr": REQUEST.pem, "older": CHAIN.pem, "newer": NEWER.pem}.items():
            (tmp_path / name).write_bytes(content)
        others = [
            subprocess.Popen([sys.executable, "-c", STORE_FOREVER, tmp_path], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for other in others:
            assert other.stdout
            assert other.stdout.readline()
        found = [storage.find(REQUEST, ORIGIN) for _ in range(300)]
        for other in others:
            other.kill()
            other.communicate()
        found.append(storage.find(REQUEST, ORIGIN))
        assert all(chain in {CHAIN, NEWER} for chain in found)
        for folder in (storage.directory / "identities", entry_of(storage)):
            files.sweep(folder, before=2**40)
        assert len(everything_in(storage.directory)) == 3 + 4
        assert caplog.records == []


class TestCheck:
    def test_a_check_leaves_only_the_folder_of_the_index(self, storage: FileStorage) -> None:
        """Where storing works, `check` makes the folder of the index and leaves nothing else."""
        storage.check()
        assert everything_in(storage.directory) == [storage.directory / "identities"]

    def test_no_directory(self, storage: FileStorage) -> None:
        """A missing directory is not made, as a disk may be missing: the error says what to do."""
        storage.directory.rmdir()
        with pytest.raises(StorageUnavailable, match="no such directory; create it, mode 0700"):
            storage.check()
        assert not storage.directory.exists()

    @pytest.mark.parametrize("place", [".", "identities"])
    def test_a_file_instead_of_a_directory(self, tmp_path: Path, place: str) -> None:
        """A file where a directory belongs is an error that names it."""
        path = tmp_path / "storage" / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        with pytest.raises(StorageUnavailable, match=f"^storage 'disk' is not writable: .*{path}"):
            FileStorage("disk", tmp_path / "storage").check()

    @pytest.mark.threat("disk", "a storage that cannot be written")
    @pytest.mark.parametrize("place", [".", "identities"])
    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC], ids=errno.errorcode.get)
    def test_a_directory_that_cannot_be_written(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch, place: str, number: int
    ) -> None:
        """Both places that a chain goes to are tried, by writing."""
        storage.check()
        opened = os.open

        def fail(path: str | Path, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_CREAT and Path(path).parent == storage.directory / place:
                raise OSError(number, os.strerror(number))
            return opened(path, flags, mode)

        monkeypatch.setattr(os, "open", fail)
        with pytest.raises(StorageUnavailable, match=f"is not writable: {os.strerror(number)}"):
            storage.check()


class TestLook:
    def test_a_directory_that_can_be_used(self, storage: FileStorage) -> None:
        """Nothing is wrong with a directory that can be written, and it stays as it is."""
        assert list(storage.self_check()) == []
        assert everything_in(storage.directory) == []

    def test_an_unusable_directory_is_told_by_its_key(
        self, storage: FileStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A directory that may not be written or does not exist is told, by its key in the configuration."""
        monkeypatch.setattr(os, "access", lambda *_: False)
        [(key, reason)] = storage.self_check()
        assert (key, "not writable" in reason) == ("directory", True)
        storage.directory.rmdir()
        [(key, reason)] = storage.self_check()
        assert (key, "create it" in reason) == ("directory", True)
