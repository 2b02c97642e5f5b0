"""What lies where a chain should: a miss, moved aside, logged; never an error, never delivered."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chains import make_chain, make_request

from acmems.storages import FileStorage, IssuerIdentity
from acmems.system import files

ORIGIN = IssuerIdentity("https://ca.example.org/directory")
REQUEST = make_request("a.example.org")
CHAIN = make_chain(REQUEST)
FOREIGN = make_chain(make_request("a.example.org"))
OTHER_NAMES = make_chain(make_request("b.example.org"))


def write(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):  # its name must be short
        made.bind(path.name)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": write(b""),
    "cut": write(CHAIN.pem[:-100]),
    "zeros": write(bytes(len(CHAIN.pem))),
    "text": write(b"<html>not a certificate</html>"),
    "foreign-key": write(FOREIGN.pem),
    "foreign-names": write(OTHER_NAMES.pem),
    "request": write(REQUEST.pem),
    "huge": write(CHAIN.pem * 1000),
    "directory": Path.mkdir,
    "loop": lambda path: path.symlink_to(path),
    "pipe": os.mkfifo,
    "socket": make_socket,
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture
def storage(tmp_path: Path) -> FileStorage:
    """A storage that holds the chain for `REQUEST`."""
    made = FileStorage("disk", tmp_path)
    made.store(REQUEST, CHAIN, ORIGIN)
    return made


@pytest.fixture(params=["index", "tree"])
def place(request: pytest.FixtureRequest, storage: FileStorage) -> Path:
    """The only place in which that chain lies now: in the index, or in the tree."""
    digest = hashlib.sha384(REQUEST.pem).hexdigest()
    kept = storage.directory / digest[:2] / digest[2:] / "cert.pem"
    [indexed] = (storage.directory / "identities").iterdir()
    only, other = (indexed, kept) if request.param == "index" else (kept, indexed)
    other.unlink()
    return only


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what was logged: words and path."""
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    return [(record.getMessage(), vars(record)["fields"]["path"]) for record in caplog.records]


def read_once(content: bytes, then: Callable[[], object]) -> Callable[[str, int], bytes]:
    """Return a way to read files that finds some content first, before something happens to the disk."""
    read = files.read
    first = True

    def read_and_change(path: str, limit: int) -> bytes:
        nonlocal first
        if first and os.path.lexists(path):
            first = False
            then()
            return content
        return read(path, limit)

    return read_and_change


class TestDamage:
    @pytest.mark.threat("disk", "something else in a chain's place")
    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
    def test_a_damaged_file_is_moved_aside(
        self,
        storage: FileStorage,
        place: Path,
        caplog: pytest.LogCaptureFixture,
        damage: Callable[[Path], None],
    ) -> None:
        """Whatever lies in a chain's place is no chain, is found once, and makes room for the next one."""
        place.unlink()
        damage(place)
        assert [storage.find(REQUEST, ORIGIN) for _ in range(2)] == [None, None]
        assert logged(caplog) == [("a damaged stored chain was moved aside", str(place))]
        assert os.path.lexists(f"{place}.damaged")
        assert not os.path.lexists(place)
        storage.store(REQUEST, CHAIN, ORIGIN)
        assert storage.find(REQUEST, ORIGIN) == CHAIN

    def test_all_of_it_is_kept(
        self, storage: FileStorage, place: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is damaged later is moved beside what was damaged before, and the log says where."""
        for content in (b"first", b"second", b"third"):
            place.write_bytes(content)
            assert storage.find(REQUEST, ORIGIN) is None
        asides = [Path(vars(record)["fields"]["aside"]) for record in caplog.records]
        assert [aside.name for aside in asides] == [
            f"{place.name}.damaged",
            f"{place.name}.damaged-1",
            f"{place.name}.damaged-2",
        ]
        assert [aside.read_bytes() for aside in asides] == [b"first", b"second", b"third"]

    def test_the_other_place_still_counts(self, storage: FileStorage) -> None:
        """Where the index is damaged, the chain in the tree is found."""
        [indexed] = (storage.directory / "identities").iterdir()
        indexed.write_bytes(b"")
        assert storage.find(REQUEST, ORIGIN) == CHAIN

    def test_a_link_to_nowhere(
        self, storage: FileStorage, place: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A link that leads nowhere is a miss, and replaced by the next chain."""
        place.unlink()
        place.symlink_to("nowhere")
        assert storage.find(REQUEST, ORIGIN) is None
        assert logged(caplog) == []
        storage.store(REQUEST, CHAIN, ORIGIN)
        assert storage.find(REQUEST, ORIGIN) == CHAIN

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM], ids=errno.errorcode.get)
    def test_a_file_that_must_not_be_read(
        self,
        storage: FileStorage,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        number: int,
    ) -> None:
        """A file of somebody else's, which cannot be read, is moved aside as well."""

        def read(path: str, limit: int) -> bytes:
            raise OSError(number if os.path.lexists(path) else errno.ENOENT, "", path)

        monkeypatch.setattr(files, "read", read)
        assert storage.find(REQUEST, ORIGIN) is None
        assert logged(caplog) == [("a damaged stored chain was moved aside", str(place))]
        assert not place.exists()

    def test_a_damaged_file_that_cannot_be_moved_is_a_miss(
        self,
        storage: FileStorage,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Where a damaged file cannot be moved it is a miss all the same, and logged."""

        def fail(*_: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        place.write_bytes(b"")
        monkeypatch.setattr(os, "rename", fail)
        assert storage.find(REQUEST, ORIGIN) is None
        assert logged(caplog) == [("a damaged stored chain cannot be moved aside", str(place))]
        assert vars(caplog.records[0])["fields"]["error"] == os.strerror(errno.EROFS)
        assert place.read_bytes() == b""


class TestRaces:
    """Between a look and a rename another thread or process may act."""

    def test_a_good_chain_came_meanwhile(
        self,
        storage: FileStorage,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A good chain that replaced the damaged one after it was read is found, and stays in its place."""
        monkeypatch.setattr(files, "read", read_once(b"", then=lambda: None))
        assert storage.find(REQUEST, ORIGIN) == CHAIN
        assert place.read_bytes() == CHAIN.pem
        assert list(place.parent.glob("*damaged*")) == []
        assert logged(caplog) == []

    def test_a_damaged_file_moved_by_another_thread_is_a_miss(
        self,
        storage: FileStorage,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A damaged file that another thread moved aside meanwhile is a miss and no error."""
        monkeypatch.setattr(files, "read", read_once(b"", then=place.unlink))
        assert storage.find(REQUEST, ORIGIN) is None
        assert logged(caplog) == []

    @pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE], ids=errno.errorcode.get)
    def test_a_good_chain_cannot_be_put_back(
        self,
        storage: FileStorage,
        place: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        number: int,
    ) -> None:
        """Where the disk fails just then that is logged, and a miss."""

        def fail(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(files, "read", read_once(b"", then=lambda: None))
        monkeypatch.setattr(os, "replace", fail)
        assert storage.find(REQUEST, ORIGIN) is None
        assert logged(caplog) == [("a damaged stored chain cannot be moved aside", str(place))]
