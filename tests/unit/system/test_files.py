"""Files are written whole or not at all, private, durable; and read without surprises."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from acmems.system import files

OLD, NEW = b"the old content", b"the new content" * 1000
ANY_UMASK = pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file with the old content, alone in its directory."""
    path = tmp_path / "file"
    path.write_bytes(OLD)
    return path


@contextlib.contextmanager
def umask_of(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse what makes a file larger, as a full disk does: in the middle of a write."""
    _, most = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def failing(function: Callable[..., Any], number: int, *, call: int = 1) -> Callable[..., Any]:
    """Return a system call that fails with an error number, the first time or a later one."""
    calls = 0

    def fail(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(number, os.strerror(number))
        return function(*arguments, **keywords)

    return fail


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the disk from now on, in order."""
    done: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any, **keywords: Any) -> Any:
            done.append(name)
            return function(*arguments, **keywords)

        return note

    def sync(descriptor: int) -> None:
        done.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", noting("rename", os.replace))
    monkeypatch.setattr(os, "link", noting("link", os.link))
    monkeypatch.setattr(os, "mkdir", noting("make directory", os.mkdir))
    return done


class TestWriteAtomically:
    def test_the_file_has_the_new_content_alone(self, old: Path) -> None:
        """The file has the new content, and nothing else lies in its directory."""
        files.write_atomically(old, NEW)
        assert old.read_bytes() == NEW
        assert list(old.parent.iterdir()) == [old]

    @ANY_UMASK
    def test_only_the_owner_may_read_it(self, old: Path, umask: int) -> None:
        """The file has mode 0600, whatever the umask, and whatever its predecessor had."""
        old.chmod(0o666)
        with umask_of(umask):
            files.write_atomically(old, NEW)
        assert stat.S_IMODE(old.stat().st_mode) == 0o600

    def test_a_link_is_replaced(self, old: Path) -> None:
        """A link in the file's place is replaced and not followed: nobody's file is written through it."""
        link = old.with_name("link")
        link.symlink_to(old)
        files.write_atomically(link, NEW)
        assert old.read_bytes() == OLD
        assert not link.is_symlink()

    def test_it_is_durable(self, old: Path, steps: list[str]) -> None:
        """The content is on disk before its name, and the name before the call returns."""
        files.write_atomically(old, NEW)
        assert steps == ["sync file", "rename", "sync directory"]

    @pytest.mark.threat("disk", "a disk that is full")
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
    @pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
    def test_a_failing_step_changes_nothing(
        self, old: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
    ) -> None:
        """Whichever step fails, the error is told, the old file is intact, and nothing lies beside it."""
        monkeypatch.setattr(os, step, failing(getattr(os, step), number))
        with pytest.raises(OSError) as caught:
            files.write_atomically(old, NEW)
        assert caught.value.errno == number
        assert old.read_bytes() == OLD
        assert list(old.parent.iterdir()) == [old]

    def test_a_write_that_stops_in_the_middle_changes_nothing(self, old: Path) -> None:
        """Where only a part can be written, the old file is intact, and the part is removed."""
        with largest_file(len(NEW) // 2), pytest.raises(OSError):
            files.write_atomically(old, NEW)
        assert old.read_bytes() == OLD
        assert list(old.parent.iterdir()) == [old]

    def test_an_unsynced_directory_is_told(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where only the directory cannot be synced, that is an error, and the new file is there, whole."""
        monkeypatch.setattr(os, "fsync", failing(os.fsync, errno.EIO, call=2))
        with pytest.raises(OSError):
            files.write_atomically(old, NEW)
        assert old.read_bytes() == NEW
        assert list(old.parent.iterdir()) == [old]

    @pytest.mark.parametrize(
        ("deadly", "content"),
        [
            ("os.fsync = die", OLD),
            ("os.replace = die", OLD),
            ("files.sync_directory = die", NEW),
        ],
        ids=["written", "synced", "renamed"],
    )
    def test_a_killed_writer_leaves_no_half_file(self, old: Path, deadly: str, content: bytes) -> None:
        """Killed at any step, a writer leaves the old file or the new one, and what can be swept."""
        script = (
            "import os, signal, sys; from pathlib import Path; from acmems.system import files\n"
            "die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"{deadly}\n"
            "files.write_atomically(Path(sys.argv[1]), sys.stdin.buffer.read())"
        )
        killed = subprocess.run([sys.executable, "-c", script, old], input=NEW, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert old.read_bytes() == content
        files.sweep(old.parent, before=2**40)
        assert list(old.parent.iterdir()) == [old]


class TestWriteTogether:
    def test_all_are_written_with_one_sync_of_their_directory(self, tmp_path: Path, steps: list[str]) -> None:
        """Every file is on disk before the first one gets its name."""
        files.write_together(tmp_path, {"a": b"1", "b": b"2"})
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}
        assert steps == ["sync file", "sync file", "rename", "rename", "sync directory"]

    def test_without_durability_nobody_waits_for_the_disk(self, tmp_path: Path, steps: list[str]) -> None:
        """What may be lost with the machine is written as whole, without a sync."""
        files.write_together(tmp_path, {"a": b"1", "b": b"2"}, durably=False)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}
        assert steps == ["rename", "rename"]

    @pytest.mark.parametrize("durably", [True, False], ids=["durably", "not durably"])
    def test_if_one_cannot_be_written_none_is(self, old: Path, durably: bool) -> None:
        """A disk that is full before the last file leaves the first as it was."""
        with largest_file(len(NEW) - 1), pytest.raises(OSError):
            files.write_together(old.parent, {old.name: b"short", "other": NEW}, durably=durably)
        assert old.read_bytes() == OLD
        assert list(old.parent.iterdir()) == [old]


class TestCreate:
    @ANY_UMASK
    def test_a_new_file(self, tmp_path: Path, umask: int) -> None:
        """A new file has its content and mode 0600, and lies alone in its directory."""
        path = tmp_path / "file"
        with umask_of(umask):
            files.create(path, NEW)
        assert path.read_bytes() == NEW
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [path]

    def test_it_is_durable(self, tmp_path: Path, steps: list[str]) -> None:
        """The content is on disk before its name, and the name before the call returns."""
        files.create(tmp_path / "file", NEW)
        assert steps == ["sync file", "link", "sync directory"]

    def test_an_existing_file_or_link_stays(self, old: Path) -> None:
        """What has this name already stays, and so does a link, though it leads nowhere."""
        link = old.with_name("link")
        link.symlink_to("nowhere")
        for taken in (old, link):
            with pytest.raises(FileExistsError):
                files.create(taken, NEW)
        assert old.read_bytes() == OLD
        assert link.is_symlink()
        assert sorted(old.parent.iterdir()) == [old, link]

    def test_one_of_many_creators_wins(self, tmp_path: Path) -> None:
        """Of many that create one file at once, one does, and the others are told."""
        path = tmp_path / "file"

        def create(number: int) -> bool:
            try:
                files.create(path, b"%d" % number)
            except FileExistsError:
                return False
            return True

        with ThreadPoolExecutor(16) as threads:
            won = list(threads.map(create, range(32)))
        assert won.count(True) == 1
        assert path.read_bytes() == b"%d" % won.index(True)


class TestProbe:
    def test_it_leaves_nothing(self, tmp_path: Path, steps: list[str]) -> None:
        """A test file is gone afterwards, and nobody waits for the disk to have had it."""
        files.probe(tmp_path)
        assert list(tmp_path.iterdir()) == []
        assert steps == []

    def test_a_disk_that_is_nearly_full(self, tmp_path: Path) -> None:
        """A test file needs as much room as a chain, so a disk without it is found out."""
        with largest_file(files.PROBE_SIZE - 1), pytest.raises(OSError):
            files.probe(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_nearly_full_disk_that_knows_no_claims(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where room cannot be claimed the whole probe is written, also after a write that took a part."""
        monkeypatch.setattr(os, "posix_fallocate", failing(os.posix_fallocate, errno.EOPNOTSUPP))
        with pytest.raises(OSError, match="File too large"), largest_file(files.PROBE_SIZE // 2):
            files.probe(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_no_directory(self, old: Path) -> None:
        """Where there is no directory, that is an error."""
        for path in (old, old.with_name("missing")):
            with pytest.raises(OSError):
                files.probe(path)


class TestWriteAll:
    def test_short_writes(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What one call does not take the next one gets."""
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:999]))
        with old.open("wb") as file:
            files.write_all(file.fileno(), NEW)
        assert old.read_bytes() == NEW

    def test_a_call_that_takes_nothing(self, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that takes no further byte and gives no error is an error, not an endless loop."""
        monkeypatch.setattr(os, "write", lambda *_: 0)
        with old.open("wb") as file, pytest.raises(OSError, match="Input/output error"):
            files.write_all(file.fileno(), NEW)


class TestMakeDirectory:
    @ANY_UMASK
    def test_only_the_owner_may_enter_it(self, tmp_path: Path, umask: int) -> None:
        """A directory has mode 0700, whatever the umask."""
        with umask_of(umask):
            files.make_directory(tmp_path / "made")
        assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700

    def test_it_is_durable(self, tmp_path: Path, steps: list[str]) -> None:
        """Its name is on disk when the call returns; one that exists, or may be lost, costs no sync."""
        for _ in range(2):
            files.make_directory(tmp_path / "made")
        files.make_directory(tmp_path / "other", durably=False)
        assert steps == ["make directory", "sync directory", "make directory", "make directory"]

    def test_a_file_has_its_name(self, old: Path) -> None:
        """A file in its place is an error, and stays."""
        with pytest.raises(FileExistsError):
            files.make_directory(old)
        assert old.read_bytes() == OLD

    def test_parents_are_not_made(self, tmp_path: Path) -> None:
        """A parent that is missing is an error: a disk that is not mounted must not be filled from below."""
        with pytest.raises(FileNotFoundError):
            files.make_directory(tmp_path / "missing" / "made")


class TestSweep:
    def test_only_old_leftovers_go(self, tmp_path: Path) -> None:
        """What a crash left is removed; what is young, has another name, or lies deeper stays."""
        folder = tmp_path / ".acmems-folder.tmp"
        folder.mkdir()
        leftover, young, *others = paths = [
            tmp_path / ".acmems-1.tmp",
            tmp_path / ".acmems-2.tmp",
            tmp_path / ".acmems-3",
            tmp_path / "4.tmp",
            folder / ".acmems-5.tmp",
        ]
        for path in paths:
            path.write_bytes(b"")
            os.utime(path, (1000, 1000))
        os.utime(folder, (1000, 1000))
        os.utime(young, (3000, 3000))
        files.sweep(tmp_path, before=2000)
        assert not leftover.exists()
        assert all(path.exists() for path in (young, *others))

    def test_no_directory_is_no_error(self, tmp_path: Path) -> None:
        """Where there is nothing to sweep, nothing happens."""
        files.sweep(tmp_path / "missing", before=2000)


class TestRead:
    @pytest.mark.parametrize("size", [0, 1, 9, 10])
    def test_up_to_the_limit(self, old: Path, size: int) -> None:
        """A file is read whole as long as it is not over the limit."""
        old.write_bytes(bytes(size))
        assert files.read(old, 10) == bytes(size)

    def test_over_the_limit(self, old: Path) -> None:
        """A file over the limit is an error that names it, whatever its size: /dev/zero has no end."""
        old.write_bytes(bytes(11))
        for path in (old, Path("/dev/zero")):
            with pytest.raises(OSError, match="larger than 10 bytes") as caught:
                files.read(path, 10)
            assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))

    def test_a_file_system_that_gives_little_at_once(
        self, old: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Parts are put together until there are no more."""
        read = os.read
        monkeypatch.setattr(os, "read", lambda descriptor, size: read(descriptor, min(size, 3)))
        assert files.read(old, 100) == OLD
        with pytest.raises(OSError, match="larger"):
            files.read(old, len(OLD) - 1)

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        """A pipe that nobody writes to is read as empty, at once."""
        os.mkfifo(tmp_path / "pipe")
        assert files.read(tmp_path / "pipe", 10) == b""

    @pytest.mark.parametrize("read", [files.read, files.read_private])
    def test_no_descriptor_is_lost(self, old: Path, read: Callable[[Path, int], bytes]) -> None:
        """Every descriptor is closed, whether reading worked or not."""
        old.chmod(0o600)
        before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names are what is compared
        read(old, 100)
        for path, limit in ((old, 1), (old.parent, 100)):
            with pytest.raises(OSError):
                read(path, limit)
        assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - the same


class TestReadPrivate:
    @pytest.mark.parametrize("mode", [0o400, 0o600, 0o700], ids=oct)
    def test_a_private_file_is_read(self, old: Path, mode: int) -> None:
        """A file that only its owner may touch is read."""
        old.chmod(mode)
        assert files.read_private(old) == OLD

    @pytest.mark.threat("disk", "a key file open to others, or a link")
    @pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o644], ids=oct)
    def test_open_to_others(self, old: Path, mode: int) -> None:
        """Any right of group or others is refused; the reason tells the mode, and what to do."""
        old.chmod(mode)
        with pytest.raises(PermissionError) as caught:
            files.read_private(old)
        assert caught.value.strerror == f"is open to others than its owner (mode {mode:04o}); chmod 600 it"
        assert caught.value.filename == str(old)

    @pytest.mark.threat("disk", "a key file open to others, or a link")
    def test_a_link(self, old: Path) -> None:
        """A link is refused, though it leads to a private file."""
        old.chmod(0o600)
        link = old.with_name("link")
        link.symlink_to(old)
        with pytest.raises(PermissionError, match="is a link; a private file must be the file itself"):
            files.read_private(link)

    def test_no_regular_file(self, tmp_path: Path) -> None:
        """Pipes, directories and devices are refused, and not waited for."""
        os.mkfifo(tmp_path / "pipe", 0o600)
        for path in (tmp_path / "pipe", tmp_path, "/dev/null"):
            with pytest.raises(PermissionError, match="is not a regular file"):
                files.read_private(path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        """A missing file is told from a refused one."""
        with pytest.raises(FileNotFoundError):
            files.read_private(tmp_path / "missing")

    def test_over_the_limit(self, old: Path) -> None:
        """A private file has a limit, too."""
        old.chmod(0o600)
        with pytest.raises(OSError, match="larger than 10 bytes"):
            files.read_private(old, 10)
