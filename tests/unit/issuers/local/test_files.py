"""The files of a local CA."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.local_cas import NOW, make_ca, permits

from acmems.exceptions import LocalCaUnusable
from acmems.issuers.local.authority import RootAuthority
from acmems.issuers.local.files import LocalCaDirectory


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A CA is found again, its files are private, and the root's fingerprint names it."""
    made = make_ca(tmp_path / "ca", "internal.example")
    loaded = made.load()
    assert loaded.permits == permits("internal.example")
    assert made.load_root().certificate == loaded.root
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in made.files} == {0o600}
    fingerprint = made.fingerprint()
    assert fingerprint is not None
    assert len(fingerprint) == 64


def test_the_key_of_the_root_may_be_elsewhere(tmp_path: Path) -> None:
    """Only a new intermediate needs it."""
    made = make_ca(tmp_path, "a.example")
    made.root_key_file.unlink()
    assert made.load().permits == permits("a.example")
    with pytest.raises(LocalCaUnusable, match=r"root-key\.pem does not exist: a lost key"):
        made.load_root()


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_keys_are_never_replaced(tmp_path: Path, left: int) -> None:
    """Where any file of a CA is left, no other CA is written."""
    made = make_ca(tmp_path, "a.example")
    kept = made.files[left]
    for file in made.files:
        if file is not kept:
            file.unlink()
    before = kept.read_bytes()
    with pytest.raises(LocalCaUnusable, match="never replaced silently"):
        make_ca(tmp_path, "b.example")
    assert made.existing() == [kept]
    assert kept.read_bytes() == before


def test_an_intermediate_is_never_replaced(tmp_path: Path) -> None:
    """A new one is written only where the former was moved away."""
    made = make_ca(tmp_path, "a.example")
    root = made.load_root()
    with pytest.raises(LocalCaUnusable, match="never replaced silently"):
        made.save_intermediate(root.intermediate(NOW))
    made.intermediate_file.unlink()
    made.intermediate_key_file.unlink()
    made.save_intermediate(root.intermediate(NOW))
    assert made.load().root == root.certificate


@pytest.mark.parametrize("name", ["root.pem", "intermediate.pem", "intermediate-key.pem"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    """A CA without one of its files does not issue, and is not made anew."""
    made = make_ca(tmp_path, "a.example")
    (tmp_path / name).unlink()
    with pytest.raises(LocalCaUnusable, match=f"{name} does not exist: .* restore it from your backup"):
        made.load()


def test_no_ca_yet(tmp_path: Path) -> None:
    """It is said what makes one."""
    with pytest.raises(LocalCaUnusable, match=r"there is no CA in .* yet: 'acmems ca init'"):
        LocalCaDirectory(tmp_path).load()
    assert LocalCaDirectory(tmp_path).fingerprint() is None


def test_a_key_that_others_may_read(tmp_path: Path) -> None:
    """It is refused, as that of an account is."""
    made = make_ca(tmp_path, "a.example")
    made.intermediate_key_file.chmod(0o640)
    with pytest.raises(LocalCaUnusable, match="is open to others than its owner"):
        made.load()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("intermediate-key.pem", "is not the key of"),
        ("root.pem", "is no intermediate of .*restore both"),
        ("intermediate.pem", "is not the key of"),
    ],
)
def test_files_of_another_ca(tmp_path: Path, name: str, words: str) -> None:
    """Files that do not belong together are refused."""
    made = make_ca(tmp_path / "one", "a.example")
    other = make_ca(tmp_path / "other", "a.example")
    (made.path / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(LocalCaUnusable, match=words):
        made.load()


@pytest.mark.parametrize("name", ["root.pem", "intermediate.pem", "intermediate-key.pem"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 70000])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    """What is no certificate or no key is refused in words."""
    made = make_ca(tmp_path, "a.example")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LocalCaUnusable, match=name):
        made.load()


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """Only the last directory of a path is made."""
    root = RootAuthority.make("office", permits("any"), NOW)
    with pytest.raises(LocalCaUnusable, match="cannot be used: "):
        LocalCaDirectory(tmp_path / "no" / "ca").save_new(root, root.intermediate(NOW))
