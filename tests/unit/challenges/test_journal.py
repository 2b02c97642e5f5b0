"""What outlives a process is noted before it is presented, and withdrawn by whoever comes after a crash."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.fake_ca import FakeValidator, Time

from acmems.challenges import Proof
from acmems.challenges.presented.journal import Journal
from acmems.challenges.presented.proofs import Proofs
from acmems.exceptions import ValidatorUnavailable
from acmems.x509.identifiers import Identifier


def proof(name: str = "a.example.org", token: str = "token") -> Proof:  # noqa: S107 - no password
    return Proof(
        Identifier.dns(name), token, f"{token}.thumbprint", lambda: None, account_url="https://ca/acct/1"
    )


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
    validator, proofs = Lasting(folder), Proofs(Time().clock(), Journal(folder))
    shown = [proof(), proof("b.example.org", "other")]
    proofs.show(validator, shown, Time().within())
    assert validator.noted == [1]
    (note,) = folder.iterdir()
    assert stat.S_IMODE(note.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    proofs.hide(validator, shown[:1])
    assert list(folder.iterdir()) == [note]
    proofs.hide(validator, shown[1:])
    assert list(folder.iterdir()) == []


def test_what_leaves_no_traces_is_not_noted(folder: Path) -> None:
    """A proof that ends with the process needs no note."""
    Proofs(Time().clock(), Journal(folder)).show(FakeValidator(), [proof()], Time().within())
    assert not folder.exists()


def test_what_a_living_process_shows_is_its_own(folder: Path) -> None:
    """Whoever sweeps leaves alone what another process has on show."""
    validator, proofs = Lasting(folder), Proofs(Time().clock(), Journal(folder))
    proofs.show(validator, [proof()], Time().within())
    Proofs(Time().clock(), Journal(folder)).sweep({"fake": validator})
    assert validator.withdrawn == []
    assert len(list(folder.iterdir())) == 1


def test_what_a_crash_left_is_withdrawn(folder: Path) -> None:
    """After a process was killed, the next one withdraws what it had on show, exactly that, and once."""
    script = (
        "import os, pathlib, sys\n"
        "from acmems.challenges import Proof\n"
        "from acmems.challenges.presented.journal import Journal\n"
        "from acmems.x509.identifiers import Identifier\n"
        "made = Proof(Identifier.dns('a.example.org'), 'token', 'token.thumbprint', lambda: None, "
        "account_url='https://ca/acct/1', is_wildcard=True)\n"
        "Journal(pathlib.Path(sys.argv[1])).note('fake', [made])\n"
        "os._exit(9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, folder], check=False)
    assert killed.returncode == 9
    validator = Lasting(folder)
    proofs = Proofs(Time().clock(), Journal(folder))
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
    validator, proofs = Lasting(folder), Proofs(time.clock(), Journal(folder))
    shown = [proof()]
    proofs.show(validator, shown, time.within())
    validator.sticky = True
    proofs.hide(validator, shown)
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
    Journal(folder).note("fake", [proof()]).settle(withdrawn=False)
    proofs = Proofs(Time().clock(), Journal(folder))
    proofs.sweep({})
    assert "a.example.org" in caplog.text
    assert list(folder.iterdir()) == []


def test_foreign_files(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no note is removed with a line in the log, half a note without one."""
    folder.mkdir()
    (folder / "nonsense").write_text("{", encoding="utf-8")
    (folder / ".half").write_text("", encoding="utf-8")
    Proofs(Time().clock(), Journal(folder)).sweep({})
    assert list(folder.iterdir()) == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_disk_that_takes_no_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be noted, orders go on, and the log says what a crash would mean."""
    file = tmp_path / "file"
    file.touch()
    Journal(file / "presented").note("fake", [proof()]).settle(withdrawn=True)
    assert "would leave proofs behind" in caplog.text
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names alone
