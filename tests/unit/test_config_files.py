"""Configuration files: read as one, and told of where they cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError

ACCOUNT = "[account]\ndir = /var/lib/acmems\n"
AUTH = '[auth "all"]\nall = yes\ndomain = **\n'


class TestFiles:
    def test_a_file_is_loaded_by_its_path(self, tmp_path: Path) -> None:
        """`load` reads a file by its name, as text or Path."""
        file = tmp_path / "acmems.ini"
        file.write_text(ACCOUNT + AUTH, encoding="utf-8")
        assert Configuration.load(file).account.dir == Path("/var/lib/acmems")
        assert Configuration.load(str(file)).account.dir == Path("/var/lib/acmems")

    def test_several_files_are_read_as_one(self, tmp_path: Path) -> None:
        """Sections may be spread over files."""
        one, two = tmp_path / "1.ini", tmp_path / "2.ini"
        one.write_text(ACCOUNT, encoding="utf-8")
        two.write_text(AUTH, encoding="utf-8")
        config = Configuration.load(one, two)
        assert not config.warnings
        assert [block.name for block in config.auth.blocks] == ["all"]

    def test_a_section_in_two_files_is_given_twice(self, tmp_path: Path) -> None:
        """A section that another file has already is a finding that names the first place."""
        one, two = tmp_path / "1.ini", tmp_path / "2.ini"
        one.write_text(ACCOUNT + AUTH, encoding="utf-8")
        two.write_text("\n" + ACCOUNT, encoding="utf-8")
        with pytest.raises(ConfigurationError) as caught:
            Configuration.load(one, two)
        assert str(caught.value) == f"{two}:2: [account] is given twice, first at {one}:1"

    def test_a_section_does_not_go_on_in_the_next_file(self, tmp_path: Path) -> None:
        """Each file begins outside of any section."""
        one, two = tmp_path / "1.ini", tmp_path / "2.ini"
        one.write_text(AUTH + ACCOUNT, encoding="utf-8")
        two.write_text("email = a@example.org\n", encoding="utf-8")
        with pytest.raises(ConfigurationError, match="2.ini:1: 'email' stands before any"):  # noqa: RUF043 - plain
            Configuration.load(one, two)

    def test_a_file_that_cannot_be_read_is_a_finding(self, tmp_path: Path) -> None:
        """Missing files and folders are reported by name, along with what is wrong in other files."""
        good, missing = tmp_path / "good.ini", tmp_path / "missing.ini"
        good.write_text(ACCOUNT + "emial = a@example.org\n" + AUTH, encoding="utf-8")
        with pytest.raises(ConfigurationError) as caught:
            Configuration.load(good, missing, tmp_path)
        assert {str(finding) for finding in caught.value.findings} == {
            f"{good}:3: [account] knows no 'emial', did you mean 'email'?",
            f"{missing}: there is no such file",
            f"{tmp_path}: this is a directory: name the configuration files in it",
        }

    def test_a_single_file_that_cannot_be_read_is_the_only_finding(self, tmp_path: Path) -> None:
        """What nobody could read is not said to be missing in it."""
        missing = tmp_path / "missing.ini"
        with pytest.raises(ConfigurationError) as caught:
            Configuration.load(missing)
        assert [str(finding) for finding in caught.value.findings] == [f"{missing}: there is no such file"]

    def test_a_file_that_is_not_utf_8_is_a_finding(self, tmp_path: Path) -> None:
        """Other encodings are reported at the line where they show."""
        file = tmp_path / "latin.ini"
        file.write_bytes((ACCOUNT + "# gr\xfc\xdfe\n").encode("latin-1"))
        with pytest.raises(ConfigurationError, match=r"latin\.ini:3: this is not UTF-8"):
            Configuration.load(file)

    def test_a_byte_order_mark_is_no_text(self, tmp_path: Path) -> None:
        """The mark that some editors put in front is ignored, as are their line ends."""
        file = tmp_path / "windows.ini"
        file.write_bytes(b"\xef\xbb\xbf" + (ACCOUNT + AUTH).replace("\n", "\r\n").encode())
        assert Configuration.load(file).account.dir == Path("/var/lib/acmems")

    def test_loading_touches_nothing(self, tmp_path: Path) -> None:
        """Loading creates no directory that is named."""
        text = (
            f'[account]\ndir = {tmp_path}/account\n[storage "a"]\ntype = file\ndirectory = {tmp_path}/cache\n'
        )
        Configuration.from_text(text + f"[logging]\ndestination = {tmp_path}/log\n" + AUTH)
        assert list(tmp_path.iterdir()) == []

    def test_an_empty_file_is_no_configuration(self, tmp_path: Path) -> None:
        """What a file without any section needs is told once, without a line that it does not have."""
        empty = tmp_path / "empty.ini"
        empty.write_text("# nothing yet\n")
        with pytest.raises(ConfigurationError) as caught:
            Configuration.load(empty)
        [finding] = caught.value.findings
        assert str(finding).startswith(
            f"{empty}: there is no section in it: it needs [account] with 'dir = …'"
        )

    def test_an_empty_file_beside_others(self, tmp_path: Path) -> None:
        """One of several files may be empty."""
        good, empty = tmp_path / "good.ini", tmp_path / "empty.ini"
        good.write_text(ACCOUNT + AUTH)
        empty.touch()
        assert Configuration.load(empty, good).account.dir == Path("/var/lib/acmems")
