"""What `acmems check` sees on the machine, and that it only looks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from acmems.commands import preflight
from acmems.config import Configuration
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.key import AccountKey
from acmems.settings.findings import Finding

TEXT = """
[account]
dir = {folder}/account
accept-terms-of-service = yes
[storage "disk"]
type = file
directory = {folder}/storage

[auth "all"]
all = yes
domain = **
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the configuration names."""
    for name in ("account", "storage"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


def look(folder: Path, more: str = "") -> list[Finding]:
    """Return what is seen of a configuration for a folder, with further sections or lines of [auth]."""
    return preflight.check(Configuration.from_text(TEXT.format(folder=folder) + more, "a.ini"))


def test_a_good_place_has_no_findings(folder: Path) -> None:
    """With all directories there, before a first start, nothing is wrong."""
    assert look(folder) == []


def test_nothing_is_changed(folder: Path) -> None:
    """Looking makes and changes no file."""
    AccountDirectory(folder / "account").save_key(AccountKey.generate("ec256"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert look(folder) == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_missing_directories_are_told_at_their_lines(tmp_path: Path) -> None:
    """Each directory that is missing is a finding at the line that names it."""
    assert list(map(str, look(tmp_path))) == [
        f"a.ini:3: the account directory {tmp_path}/account does not exist: create it, mode 0700",
        f"a.ini:7: there is no directory {tmp_path}/storage: create it, mode 0700",
    ]


def test_a_directory_that_is_a_file(folder: Path) -> None:
    """A file in the place of a directory is as good as none."""
    (folder / "storage").rmdir()
    (folder / "storage").write_text("")
    (finding,) = look(folder)
    assert "there is no directory" in finding.message


def test_directories_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that this user cannot write to is told, for the account and for storages."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)  # root may write everywhere
    for finding in look(folder):
        assert (
            " is not writable: Permission denied: the user root may not look into / (mode " in finding.message
        )


def test_a_key_that_others_can_read(folder: Path) -> None:
    """An account key that is open to others is told with what to do."""
    directory = AccountDirectory(folder / "account")
    directory.save_key(AccountKey.generate("ec256"))
    directory.key_file.chmod(0o644)
    (finding,) = look(folder)
    assert finding.location.line == 3
    assert finding.message.endswith("is open to others than its owner (mode 0644); chmod 600 it")


def test_a_lost_key(folder: Path) -> None:
    """A registration without its key is told; a key without a registration is fine."""
    (folder / "account" / "registration.json").write_text("{}")
    (finding,) = look(folder)
    assert "never replaced silently" in finding.message


def test_a_folder_that_cannot_be_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account directory that cannot even be listed is a finding, not an error."""

    def refuse(_: AccountDirectory) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(AccountDirectory, "has_key", refuse)
    (finding,) = look(folder)
    assert "cannot be read: Permission denied" in finding.message


def test_trust_anchors_that_are_none(folder: Path) -> None:
    """A `ca-file` that is missing or holds no certificates is told."""
    (folder / "empty.pem").write_text("")
    for name in ("missing.pem", "empty.pem"):
        text = TEXT.replace("[account]", f"[account]\nca-file = {folder}/{name}").format(folder=folder)
        (finding,) = preflight.check(Configuration.from_text(text, "a.ini"))
        assert finding.location.line == 3
        assert name in finding.message
        assert "_ssl" not in finding.message


def test_a_log_file_without_a_directory(folder: Path) -> None:
    """A log file needs its directory."""
    (finding,) = look(folder, f"[logging]\ndestination = {folder}/none/acmems.log\n")
    assert "the directory of the log file" in finding.message


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        (
            "type = dns01-dnsUpdate\ntsig-name = k\ntsig-key-file = {folder}/missing",
            "{folder}/missing: No such file or directory",
        ),
        (
            "type = dns01-exec\ncommand = {folder}/missing x",
            "a.ini:15: {folder}/missing: there is no",
        ),
        (
            "type = dns01-exec\ncommand = {folder}/plain",
            "a.ini:15: {folder}/plain cannot be executed: chmod +x",
        ),
        (
            "type = dns01-provider\nprovider = gandi\noption = auth_token = file:{folder}/missing",
            "a.ini:16: auth_token: {folder}/missing: No such file or directory",
        ),
        (
            "type = dns01-provider\nprovider = gandi\noption = auth_token = env:NOT_THERE_AT_ALL",
            "a.ini:16: auth_token: it is empty",
        ),
    ],
)
def test_what_verifications_name(folder: Path, lines: str, finding: str) -> None:
    """Key files, programs and secrets that are not there are told before an order needs them."""
    (folder / "plain").touch(mode=0o600)
    more = f'\n[verification "v"]\n{lines.format(folder=folder)}\n'
    (told,) = look(folder, more)
    assert finding.format(folder=folder) in str(told)
