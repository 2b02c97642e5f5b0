"""What outlives a process is noted before it is presented, and withdrawn by whoever comes after a crash."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest
from tests.fake_ca import FakeValidator, Time

from acmems.challenges import Proof
from acmems.challenges.presented.note_files import FileNote, NoteFiles
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.exceptions import ValidatorUnavailable
from acmems.system import files
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier


def proof(name: str = "a.example.org", token: str = "token") -> Proof:  # noqa: S107 - no password
    return Proof(
        Identifier.dns(name), token, f"{token}.thumbprint", lambda: None, account_url="https://ca/acct/1"
    )


NOTED = {
    "type": "dns",
    "name": "a.example.org",
    "wildcard": False,
    "token": "token",
    "key-authorization": "token.thumbprint",
    "account": "https://ca/acct/1",
}


def note(folder: Path, *proofs: Proof) -> FileNote:
    """Note proofs, wherever they are."""
    return NoteFiles(folder).note(Lasting(folder), dict.fromkeys(proofs, ""))


def abandon(folder: Path, *proofs: Proof) -> None:
    """Note proofs that are not withdrawn."""
    note(folder, *proofs).settle(proofs, withdrawn=False)


def fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Lasting(FakeValidator):
    """Leaves traces, and looks what is noted while it presents."""

    leaves_traces = True

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.noted: list[int] = []
        self.sticky = False

    def present(self, proofs: Sequence[Proof]) -> None:
        self.noted.append(len(list(self.folder.iterdir())))
        super().present(proofs)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        super().withdraw(proofs)
        if self.sticky:
            raise ValidatorUnavailable("no DNS", advice="start it")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "presented"


def test_noted_while_on_show(folder: Path) -> None:
    """The note is there before the proof is presented, private, and gone when it is withdrawn."""
    validator, proofs = Lasting(folder), PresentedProofs(Time().clock(), NoteFiles(folder))
    shown = [proof(), proof("b.example.org", "other")]
    proofs.present(validator, shown, Time().within())
    assert validator.noted == [1]
    (note,) = folder.iterdir()
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    proofs.withdraw(validator, shown[:1])
    assert list(folder.iterdir()) == [note]
    proofs.withdraw(validator, shown[1:])
    assert list(folder.iterdir()) == []


def test_a_proof_that_ends_with_the_process_is_not_noted(folder: Path) -> None:
    """A proof that ends with the process needs no note."""
    PresentedProofs(Time().clock(), NoteFiles(folder)).present(FakeValidator(), [proof()], Time().within())
    assert not folder.exists()


def test_a_sweep_leaves_notes_of_living_processes_alone(folder: Path) -> None:
    """Whoever sweeps leaves alone what another process has on show."""
    validator, proofs = Lasting(folder), PresentedProofs(Time().clock(), NoteFiles(folder))
    proofs.present(validator, [proof()], Time().within())
    PresentedProofs(Time().clock(), NoteFiles(folder)).sweep({"fake": validator})
    assert validator.withdrawn == []
    assert len(list(folder.iterdir())) == 1


def test_proofs_of_a_killed_process_are_withdrawn_once(folder: Path) -> None:
    """After a process was killed, the next one withdraws what it had on show, exactly that, and once."""
    script = (
        "import os, pathlib, sys\n"
        "from acmems.challenges import Proof\n"
        "from acmems.challenges.presented.note_files import NoteFiles\n"
        "from tests.fake_ca import FakeValidator\n"
        "from acmems.x509.identifiers import Identifier\n"
        "made = Proof(Identifier.dns('a.example.org'), 'token', 'token.thumbprint', lambda: None, "
        "account_url='https://ca/acct/1', is_wildcard=True)\n"
        "NoteFiles(pathlib.Path(sys.argv[1])).note(FakeValidator(), {made: ''})\n"
        "os._exit(9)\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, folder], check=False, cwd=Path(__file__).parents[4]
    )
    assert killed.returncode == 9
    validator = Lasting(folder)
    proofs = PresentedProofs(Time().clock(), NoteFiles(folder))
    proofs.sweep({"fake": validator})
    (left,) = validator.withdrawn
    assert (left.identifier.value, left.token, left.key_authorization) == (
        "a.example.org",
        "token",
        "token.thumbprint",
    )
    assert (left.account_url, left.is_wildcard) == ("https://ca/acct/1", True)
    assert list(folder.iterdir()) == []


def test_a_failed_withdrawal_is_tried_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be withdrawn stays noted; it is tried again, ever rarer, until it is gone."""
    time = Time()
    validator, proofs = Lasting(folder), PresentedProofs(time.clock(), NoteFiles(folder))
    shown = [proof()]
    proofs.present(validator, shown, time.within())
    validator.sticky = True
    proofs.withdraw(validator, shown)
    assert len(list(folder.iterdir())) == 1
    assert "no DNS; start it" in caplog.text
    proofs.sweep({"fake": validator})
    assert len(validator.withdrawn) == 2
    proofs.sweep({"fake": validator})
    assert len(validator.withdrawn) == 2
    validator.sticky = False
    time.clock().sleep(61)
    proofs.sweep({"fake": validator})
    assert len(validator.withdrawn) == 3
    assert list(folder.iterdir()) == []


def test_a_verification_that_is_gone(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody is left who could withdraw, the log names what may have stayed, once."""
    note(folder, proof()).settle([proof()], withdrawn=False)
    proofs = PresentedProofs(Time().clock(), NoteFiles(folder))
    proofs.sweep({})
    assert "a.example.org" in caplog.text
    assert list(folder.iterdir()) == []


def test_a_file_that_is_no_note_is_moved_aside(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no note is moved aside with a line in the log, once; half a note is removed without one."""
    folder.mkdir()
    contents = {"nonsense": "{", "list": "[]", "deep": "[" * 100_000, "token": ""}
    contents["token"] = json.dumps({"verification": "fake", "proofs": [{**NOTED, "token": "no token"}]})
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / ".half").write_text("", encoding="utf-8")
    for _ in range(2):
        PresentedProofs(Time().clock(), NoteFiles(folder)).sweep({})
    assert {path.name: path.read_text() for path in folder.iterdir()} == {
        f"{name}.damaged": text for name, text in contents.items()
    }
    assert [record.levelname for record in caplog.records] == ["WARNING"] * len(contents)


def test_folders_pipes_and_links_are_left_and_logged_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder, a pipe and a link are left where they are; the log tells of each once."""
    folder.mkdir()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("elsewhere")
    journal = NoteFiles(folder)
    for _ in range(2):
        with journal.abandoned() as found:
            assert found == []
    told = [record.getMessage().partition(" cannot be read")[0] for record in caplog.records]
    assert sorted(told) == [str(folder / name) for name in ("folder", "link", "pipe")]


def test_a_note_of_an_older_version(folder: Path) -> None:
    """A note without the names of the CA, which older versions left out, is withdrawn as any other."""
    folder.mkdir()
    (folder / "old").write_text(json.dumps({"verification": "fake", "proofs": [NOTED]}))
    validator = Lasting(folder)
    PresentedProofs(Time().clock(), NoteFiles(folder)).sweep({"fake": validator})
    assert validator.withdrawn == [proof()]


class TestDisk:
    """A note is whole or does not exist, whatever the disk does."""

    def test_a_disk_that_takes_no_note(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Where nothing can be noted, orders go on, and the log says what a crash would mean."""
        file = tmp_path / "file"
        file.touch()
        note(file / "presented", proof()).settle([proof()], withdrawn=True)
        assert "a crash now would leave them in DNS" in caplog.text
        assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names alone

    def test_a_short_write_is_continued(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A system call that takes only a part of the note is repeated for the rest."""
        write = os.write
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        wanted = Proof(
            Identifier.dns("a.example.org"),
            "token",
            "token.thumbprint",
            lambda: None,
            account_url="https://ca/acct/1",
            is_wildcard=True,
            issuers=("ca.example", "other.example"),
        )
        note(folder, wanted).settle([wanted], withdrawn=False)
        with NoteFiles(folder).abandoned() as notes:
            assert [tuple(note.places) for note in notes] == [(wanted,)]

    @pytest.mark.parametrize(
        "fault", ["half of it is written", "nothing is written", "it is not synced", "it is not renamed"]
    )
    def test_a_disk_that_becomes_full(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
    ) -> None:
        """Half a note never has the name of a note, and the order goes on with a warning."""
        write = os.write
        writes = iter(range(3))

        def half(descriptor: int, data: bytes) -> int:
            if next(writes, None) is None:
                fail(errno.ENOSPC)
            return write(descriptor, data[:10])

        folder.mkdir()
        faults: dict[str, tuple[object, str, Callable[..., object]]] = {
            "half of it is written": (os, "write", half),
            "nothing is written": (os, "write", lambda *_: 0),
            "it is not synced": (os, "fsync", lambda *_: fail(errno.ENOSPC)),
            "it is not renamed": (Path, "rename", lambda *_: fail(errno.ENOSPC)),
        }
        validator, proofs = Lasting(folder), PresentedProofs(Time().clock(), NoteFiles(folder))
        before, presented = descriptors(), proof()
        with monkeypatch.context() as patch:
            patch.setattr(*faults[fault])
            proofs.present(validator, [presented], Time().within())
        assert validator.noted == [0]
        assert "a crash now would leave them in DNS" in caplog.text
        proofs.withdraw(validator, [presented])
        assert validator.withdrawn == validator.presented
        assert descriptors() == before

    def test_a_folder_that_cannot_be_synced(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A note that is there counts, though only its file was synced; it is removed in the end."""
        folder.mkdir()
        monkeypatch.setattr(files, "sync_directory", lambda _: fail(errno.EIO))
        noted = note(folder, proof())
        assert "a crash now would leave them in DNS" in caplog.text
        assert len(list(folder.iterdir())) == 1
        noted.settle([proof()], withdrawn=True)
        assert list(folder.iterdir()) == []

    def test_a_note_that_would_be_too_large_to_read(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What could not be read back is not written either."""
        note(folder, *(proof(token=str(number)) for number in range(10_000)))
        assert "File too large" in caplog.text
        assert list(folder.iterdir()) == []

    def test_a_note_that_cannot_be_read_now(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An error of the disk is no reason to take a note for none: it stays, and is read another time."""
        note(folder, proof()).settle([proof()], withdrawn=False)
        before = list(folder.iterdir())
        journal = NoteFiles(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, "read", lambda *_: fail(errno.EIO))
            for _ in range(2):
                with journal.abandoned() as found:
                    assert found == []
        assert list(folder.iterdir()) == before
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        with journal.abandoned() as found:
            assert [tuple(note.places) for note in found] == [(proof(),)]

    def test_a_disk_that_became_read_only(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where notes cannot be removed, sweeping goes on and tells of it; withdrawing twice does no harm."""
        for _ in range(2):
            abandon(folder, proof())
        (folder / ".half").touch()
        validator, proofs = Lasting(folder), PresentedProofs(Time().clock(), NoteFiles(folder))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda *_, **__: fail(errno.EROFS))
            proofs.sweep({"fake": validator})
        assert len(validator.withdrawn) == 2
        assert caplog.text.count("cannot be removed: ") == 2
        assert len(list(folder.iterdir())) == 3


class TestRaces:
    """Processes that note and sweep at once; each interleaving is forced at the call that it depends on."""

    def test_a_sweep_between_opening_and_locking(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A note whose file a sweep removes before it is locked is written to another file."""
        lock, swept = fcntl.flock, []

        def sweep_first(descriptor: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", lock)
            with NoteFiles(folder).abandoned() as found:
                swept.append(found)
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", sweep_first)
        noted = note(folder, proof())
        assert swept == [[]]
        (path,) = folder.iterdir()
        assert not path.name.startswith(".")
        noted.settle([proof()], withdrawn=False)
        with NoteFiles(folder).abandoned() as found:
            assert [tuple(note.places) for note in found] == [(proof(),)]

    def test_a_sweep_that_has_the_lock(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A note whose file a sweep has locked is written to another file, without waiting for the sweep."""
        lock = fcntl.flock

        def locked_by_another(descriptor: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", lock)
            (path,) = folder.iterdir()
            other = os.open(path, os.O_RDWR)
            stack.callback(os.close, other)
            lock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", locked_by_another)
        with contextlib.ExitStack() as stack:
            note(folder, proof())
            assert [path.name.startswith(".") for path in sorted(folder.iterdir())] == [True, False]

    @pytest.mark.parametrize("withdrawn", [True, False])
    def test_a_sweep_that_comes_late(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, withdrawn: bool
    ) -> None:
        """A file that lost its name between a sweep's opening and locking is not that sweep's business."""
        noted, lock = note(folder, proof()), fcntl.flock
        (path,) = folder.iterdir()

        def settle_first(descriptor: int, operation: int) -> None:
            monkeypatch.setattr(fcntl, "flock", lock)
            noted.settle([proof()], withdrawn=withdrawn)
            if not withdrawn:
                path.rename(folder / "renamed")
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", settle_first)
        with NoteFiles(folder).abandoned() as found:
            assert found == []
        assert caplog.records == []
        with NoteFiles(folder).abandoned() as found:
            assert len(found) == (0 if withdrawn else 1)

    def test_a_note_is_swept_by_one_process_only(self, folder: Path) -> None:
        """A note that one sweep works on is left alone by another, and is nobody's afterwards."""
        note(folder, proof()).settle([proof()], withdrawn=False)
        with NoteFiles(folder).abandoned() as first, NoteFiles(folder).abandoned() as second:
            assert (len(first), len(second)) == (1, 0)
            first[0].forget()
        with NoteFiles(folder).abandoned() as third:
            assert third == []

    def test_no_note_is_lost_while_another_process_sweeps(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While another process sweeps without a pause no note is lost, nor swept while it has its owner."""
        script = (
            "import pathlib, sys\n"
            "from acmems.challenges.presented.note_files import NoteFiles\n"
            "from tests.fake_ca import FakeValidator\n"
            "journal, seen = NoteFiles(pathlib.Path(sys.argv[1])), 0\n"
            "print(flush=True)\n"
            "while not pathlib.Path(sys.argv[2]).exists():\n"
            "    with journal.abandoned() as found:\n"
            "        seen += len(found)\n"
            "print(seen)\n"
        )
        end, lock, pauses = folder.with_name("end"), fcntl.flock, itertools.cycle([True, False])

        def dawdle(descriptor: int, operation: int) -> None:
            if next(pauses):
                SYSTEM.sleep(0.002)  # long enough for a sweep to come in between, most times
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", dawdle)
        with subprocess.Popen(
            [sys.executable, "-c", script, folder, end], stdout=subprocess.PIPE, text=True
        ) as sweeping:
            assert sweeping.stdout is not None
            sweeping.stdout.readline()
            journal, lost = NoteFiles(folder), 0
            for _ in range(50):
                noted = journal.note(Lasting(folder), {proof(): ""})
                lost += [path.name.startswith(".") for path in folder.iterdir()] != [False]
                noted.settle([proof()], withdrawn=True)
            end.touch()
            assert (lost, sweeping.stdout.readline()) == (0, "0\n")


class TestLaterOrders:
    """The CA may give a later order the token of a proof that could not be withdrawn."""

    def test_an_abandoned_proof_that_is_presented_again_stays(self, folder: Path) -> None:
        """An abandoned proof that an order presents again stays as long as that order needs it."""
        time = Time()
        validator, proofs = Lasting(folder), PresentedProofs(time.clock(), NoteFiles(folder))
        abandon(folder, proof(), proof("b.example.org", "other"))
        presented = [proof()]
        proofs.present(validator, presented, time.within())
        proofs.sweep({"fake": validator})
        assert validator.withdrawn == []
        proofs.withdraw(validator, presented)
        assert [each.identifier.value for each in validator.withdrawn] == ["a.example.org"]
        time.clock().sleep(31)
        proofs.sweep({"fake": validator})
        assert [each.identifier.value for each in validator.withdrawn[1:]] == [
            "a.example.org",
            "b.example.org",
        ]
        assert list(folder.iterdir()) == []

    def test_an_order_waits_for_the_sweep_of_its_proof(self, folder: Path) -> None:
        """An order that wants a proof which is being swept waits for the end of that."""

        class Slow(Lasting):
            began, go_on = threading.Event(), threading.Event()

            def withdraw(self, proofs: Sequence[Proof]) -> None:
                self.began.set()
                assert self.go_on.wait(30)
                super().withdraw(proofs)

        validator, proofs = Slow(folder), PresentedProofs(SYSTEM, NoteFiles(folder))
        abandon(folder, proof())
        with ThreadPoolExecutor(2) as pool:
            sweeping = pool.submit(proofs.sweep, {"fake": validator})
            assert validator.began.wait(30)
            presenting = pool.submit(proofs.present, validator, [proof()], SYSTEM.deadline(30))
            with pytest.raises(TimeoutError):
                presenting.result(0.05)
            assert validator.presented == []
            validator.go_on.set()
            sweeping.result(30)
            presenting.result(30)
        assert (len(validator.withdrawn), len(validator.presented)) == (1, 1)

    def test_progress_is_told(self, folder: Path) -> None:
        """After each note the caller hears that the sweep has got on."""
        for name in ("a.example.org", "b.example.org"):
            abandon(folder, proof(name))
        told: list[int] = []
        validator, proofs = Lasting(folder), PresentedProofs(Time().clock(), NoteFiles(folder))
        proofs.sweep({"fake": validator}, lambda: told.append(len(validator.withdrawn)))
        assert told == [1, 2]
