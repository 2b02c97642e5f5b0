"""What `acmems check` says of the state."""

from __future__ import annotations

import os
import sys
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


def test_a_file_system_that_is_mounted_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No permission is missing, and no other owner helps: that is told of whatever is to be written."""
    opened = SqliteDatabase.open(folder / "state.sqlite")
    opened.close()
    read_only = os.statvfs_result((*os.statvfs(folder)[:8], os.ST_RDONLY, 255))
    monkeypatch.setattr(
        "os.access", lambda path, mode: not (Path(path).is_relative_to(folder) and mode & os.W_OK)
    )
    monkeypatch.setattr("os.statvfs", lambda _: read_only)
    found = look(folder, f"[logging]\ndestination = {folder}/log\n")
    for written in ("the state cannot be used", "the account directory", "the directory", "the log file"):
        assert any(f" {written}" in each for each in found)
    assert all("Read-only file system: mount it for writing" in each for each in found)


def test_a_network_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite is not safe the server would not start."""
    monkeypatch.setattr(places, "file_system", lambda _: "nfs4")
    [finding] = look(folder)
    assert "network file system (nfs4)" in finding


def test_postgresql(folder: Path) -> None:
    """A database is not connected to; the file that holds its URL must be there, and its owner's alone."""
    assert look(folder, "[state]\nurl = postgresql://127.0.0.1:1/state\n") == []
    more = f"[state]\nurl-file = {folder}/url\n"
    [finding] = look(folder, more)
    assert (
        finding == f"a.ini:11: the URL of the state cannot be read: {folder}/url: No such file or directory"
    )
    (folder / "url").write_text("postgresql://user:S3CRET@127.0.0.1:1/state\n", encoding="utf-8")
    (folder / "url").chmod(0o644)
    [finding] = look(folder, more)
    assert finding.startswith(
        f"a.ini:11: warning: every user of this machine can read the secrets in {folder}/url"
    )
    (folder / "url").chmod(0o600)
    assert look(folder, more) == []
    (folder / "url").write_text("postgresql://user:S3/CRET@127.0.0.1:1/state\n", encoding="utf-8")
    [finding] = look(folder, more)
    assert "CRET" not in finding
    assert f"what {folder}/url holds is no URL of a database" in finding


def test_postgresql_without_its_driver(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be installed is told once, at the line that wants it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    (folder / "url").write_text("postgresql://127.0.0.1:1/state", encoding="utf-8")
    (folder / "url").chmod(0o600)
    [finding] = look(folder, f"[state]\nurl-file = {folder}/url\n")
    assert finding.startswith("a.ini:11: ")
    assert "pip install 'acmems[postgres]'" in finding


@pytest.mark.parametrize(
    ("url", "is_secret"),
    [
        ("postgresql://user:S3CRET@host/state", True),
        ("postgresql://user@host/state?password=S3CRET", True),
        ("postgresql://user@host:5432/state", False),
        ("postgresql://host:5432/state", False),
        ("sqlite:////x/a:b@c", False),
    ],
)
def test_a_configuration_with_a_password(folder: Path, url: str, is_secret: bool) -> None:
    """A file of the configuration with a password must be read by its owner alone."""
    file = folder / "acmems.ini"
    file.write_text(TEXT.format(folder=folder) + f"[state]\nurl = {url}\n", encoding="utf-8")
    file.chmod(0o644)
    found = [str(each) for each in preflight.check(Configuration.load(file))]
    assert any(f"can read the secrets in {file}" in each for each in found) == is_secret
