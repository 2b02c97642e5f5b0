"""What `acmems check` says of the state."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.commands import preflight
from acmems.config import Configuration
from acmems.state.engines import places
from acmems.state.engines.sqlite import SqliteDatabase

TEXT = """[account]
dir = {folder}
accept-terms-of-service = yes
[storage "disk"]
type = file
directory = {folder}
[auth "all"]
all = yes
domain = **
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of the account."""
    tmp_path.chmod(0o700)
    return tmp_path


def look(folder: Path, more: str = "") -> list[str]:
    return list(
        map(str, preflight.check(Configuration.from_text(TEXT.format(folder=folder) + more, "a.ini")))
    )


def test_a_state_that_is_used(folder: Path) -> None:
    """Neither none, nor one that a server uses at this moment, is a finding."""
    assert look(folder) == []
    opened = SqliteDatabase.open(folder / "state.sqlite")
    assert look(folder) == []
    opened.close()
    assert look(folder) == []


def test_a_file_that_is_no_state(folder: Path) -> None:
    """A damaged file is told at the line that says where it lies, and is not changed."""
    (folder / "state.sqlite").write_bytes(b"nonsense")
    (folder / "state.sqlite").chmod(0o600)
    [finding] = look(folder)
    assert finding.startswith(f"a.ini:2: {folder}/state.sqlite is no SQLite file")
    assert (folder / "state.sqlite").read_bytes() == b"nonsense"


def test_a_directory_that_is_not_there(folder: Path) -> None:
    """The directory is not made by acmems."""
    assert look(folder, "[state]\nurl = sqlite:////nowhere/state.sqlite\n") == [
        "a.ini:11: the directory /nowhere of the state does not exist: create it, mode 0700"
    ]


def test_what_may_not_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of somebody else, and a directory in which none can be made, are told."""
    (folder / "state.sqlite.lock").touch(mode=0o600)
    monkeypatch.setattr("os.access", lambda path, _: not str(path).endswith((".lock", "/own")))
    (folder / "own").mkdir(mode=0o700)
    assert any(f"the state cannot be used: {folder}/state.sqlite.lock: " in each for each in look(folder))
    more = f"[state]\nurl = sqlite:///{folder}/own/state.sqlite\n"
    assert any(f"the state {folder}/own/state.sqlite cannot be made: " in each for each in look(folder, more))


def test_a_network_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite is not safe the server would not start."""
    monkeypatch.setattr(places, "file_system", lambda _: "nfs4")
    [finding] = look(folder)
    assert "network file system (nfs4)" in finding
