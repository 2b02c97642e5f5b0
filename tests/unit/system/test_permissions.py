"""Who may use a file, and what is said of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from acmems.system import permissions
from acmems.system.permissions import NamedFile, denial, exposures, reason


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that only its owner may use."""
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    return path


class TestReason:
    def test_other_errors_are_what_the_system_says(self, secret: Path) -> None:
        """What is no matter of permissions is told in the system's words."""
        assert reason(FileNotFoundError(errno.ENOENT, "No such file"), secret) == "No such file"
        assert reason(OSError("odd")) == "odd"

    def test_a_missing_right_is_told_with_user_file_and_remedy(self, secret: Path) -> None:
        """A permission that is missing is told with who lacks it, what for, and what to do."""
        user = permissions.user_name(os.geteuid())
        error = PermissionError(errno.EACCES, "Permission denied", str(secret))
        words = f"the user {user} may not use {secret} (mode 0600, owner {user}): chown {user} {secret}"
        assert reason(error) == f"Permission denied: {words}"

    def test_a_closed_directory_on_the_way_is_named(
        self, secret: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the way to a file is closed, the directory that closes it is told."""
        monkeypatch.setattr(os, "access", lambda path, _: path != secret.parent)
        assert f"may not look into {secret.parent} (mode 0700, owner " in denial(secret)

    @pytest.mark.parametrize(("mode", "remedy"), [(0o400, "chmod u+rw"), (0o600, "chown")])
    def test_a_file_of_ones_own(self, secret: Path, mode: int, remedy: str) -> None:
        """Whose mode is at fault is not given to whom it belongs already."""
        secret.chmod(mode)
        assert f"): {remedy} " in denial(secret)

    def test_a_directory_of_ones_own(self, secret: Path) -> None:
        """A directory is of use only with all three rights."""
        secret.parent.chmod(0o500)
        assert denial(secret.parent).endswith(f"): chmod u+rwx {secret.parent}")

    def test_users_without_a_name(self) -> None:
        """A user that the machine does not know is a number."""
        assert permissions.user_name(0) == "root"
        assert permissions.user_name(4_000_000_000) == "4000000000"


class TestExposures:
    @pytest.mark.parametrize(
        ("mode", "is_secret", "found"),
        [
            (0o600, True, []),
            (0o640, True, []),
            (0o644, False, []),
            (0o644, True, ["can read the secrets in"]),
            (0o642, False, ["can change"]),
            (0o666, True, ["can read the secrets in", "can change"]),
        ],
    )
    def test_files(self, secret: Path, mode: int, is_secret: bool, found: list[str]) -> None:
        """What everybody may read or change is told, with its mode and what to do."""
        secret.chmod(mode)
        told = list(exposures(NamedFile("key", secret, is_secret=is_secret)))
        assert [text.partition(f" {secret}")[0].partition("machine ")[2] for text in told] == found
        assert all(f"(mode {mode:04o}): chmod o-" in text for text in told)

    @pytest.mark.parametrize(("mode", "count"), [(0o700, 0), (0o755, 1), (0o711, 1), (0o777, 2)])
    def test_directories(self, tmp_path: Path, mode: int, count: int) -> None:
        """A directory with secrets that everybody may look into, or write to, is told."""
        path = tmp_path / "directory"
        path.mkdir()
        path.chmod(mode)
        assert len(list(exposures(NamedFile("dir", path, is_secret=True)))) == count

    @pytest.mark.parametrize(("mode", "is_told"), [(0o777, True), (0o1777, False), (0o755, False)])
    def test_a_directory_above_in_which_everybody_may_rename(
        self, tmp_path: Path, mode: int, is_told: bool
    ) -> None:
        """What lies in a directory that everybody may write to can be replaced, unless that is sticky."""
        above = tmp_path / "above"
        (above / "below").mkdir(parents=True)
        (above / "below" / "hook").touch(mode=0o755)
        above.chmod(mode)
        told = list(exposures(NamedFile("command", above / "below" / "hook")))
        assert bool(told) is is_told
        assert not is_told or f"because {above} is open to all (mode 0777)" in told[0]

    def test_the_target_of_a_link_counts(self, secret: Path) -> None:
        """What a link leads to is looked at, and told by the name in the configuration."""
        secret.chmod(0o644)
        link = secret.with_name("link")
        link.symlink_to(secret)
        [told] = exposures(NamedFile("key", link, is_secret=True))
        assert str(link) in told

    @pytest.mark.parametrize(("groups", "is_told"), [([], True), ([777_777], False)])
    def test_groups(
        self, secret: Path, monkeypatch: pytest.MonkeyPatch, groups: list[int], is_told: bool
    ) -> None:
        """A file that a foreign group may change is told to a user who is not in it."""
        secret.chmod(0o620)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setattr(os, "getegid", lambda: 1000)
        monkeypatch.setattr(os, "getgroups", lambda: groups)
        monkeypatch.setattr(Path, "stat", _in_group(777_777))
        told = list(exposures(NamedFile("key", secret)))
        assert bool(told) is is_told
        assert not is_told or "group 777777): chmod g-w" in told[0]

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        """What is missing is nobody's to read."""
        assert list(exposures(NamedFile("key", tmp_path / "missing", is_secret=True))) == []


def _in_group(number: int) -> object:
    stat = Path.stat

    def stat_in_group(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        found = list(stat(path, follow_symlinks=follow_symlinks))
        found[5] = number
        return os.stat_result(found)

    return stat_in_group
