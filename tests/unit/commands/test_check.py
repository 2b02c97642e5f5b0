"""`acmems check`: every problem at once, in colour where that is wanted."""

from __future__ import annotations

import contextlib
import os
import pty
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from acmems.commands import main as cli

BLOCK = '[auth "web"]\nip = 192.0.2.0/24\ndomain = www.example.org\n'


class TestCheck:
    """`acmems check` reports everything at once."""

    def test_a_good_configuration(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """One line on stdout, and exit code 0."""
        assert cli.main(["check", str(config)]) == 0
        told = capsys.readouterr()
        assert (told.out, told.err) == (f"ok: {config}: 1 auth block\n", "")

    def test_several_files_are_one(
        self, capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
    ) -> None:
        """Sections may stand in any of the files."""
        more = tmp_path / "more.ini"
        more.write_text('[auth "mail"]\nall = yes\ndomain = mail.example.org\n')
        assert cli.main(["check", str(config), str(more)]) == 0
        assert capsys.readouterr().out == f"ok: {config}, {more}: 2 auth blocks\n"

    def test_several_files_with_the_same_section(
        self, capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
    ) -> None:
        """A section that stands in two files is given twice; both places are told."""
        more = tmp_path / "more.ini"
        more.write_text(BLOCK)
        assert cli.main(["check", str(config), str(more)]) == 2
        told = capsys.readouterr()
        assert told.err == f'{more}:1: [auth "web"] is given twice, first at {config}:10\n'

    def test_every_mistake(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Each mistake is a line with file and line number on stderr; the exit code is 2."""
        config.write_text(config.read_text() + '[mgmt]\nmax-size = huge\n[storag "x"]\n[auth "none"]\n')
        assert cli.main(["check", str(config)]) == 2
        told = capsys.readouterr()
        lines = [line.removeprefix(f"{config}:").partition(": ")[0] for line in told.err.splitlines()]
        assert lines == ["14", "15", "16", "16"]
        assert told.out == ""

    @pytest.mark.parametrize(
        ("make", "text"),
        [
            (Path.exists, ": there is no such file"),
            (Path.mkdir, ": this is a directory: name the configuration files in it"),
            (
                lambda path: path.write_bytes(b"[account]\n\xff"),
                ":2: this is not UTF-8: save the file as such",
            ),
        ],
        ids=["missing", "directory", "binary"],
    )
    def test_a_file_that_cannot_be_read(
        self,
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
        make: Callable[[Path], object],
        text: str,
    ) -> None:
        """A file that cannot be read is a mistake like others."""
        path = tmp_path / "odd.ini"
        make(path)
        assert cli.main(["check", str(path)]) == 2
        assert re.search(rf"^{re.escape(str(path))}{text}$", capsys.readouterr().err, re.MULTILINE)

    def test_what_is_missing_on_the_machine(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """A directory that is configured and does not exist is a mistake at the line that names it."""
        (config.parent / "account").rmdir()
        assert cli.main(["check", str(config)]) == 2
        told = capsys.readouterr()
        assert told.err.startswith(f"{config}:2: ")
        assert told.out == ""

    def test_a_warning(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """What stops nothing is told on stderr, and the exit code stays 0."""
        config.write_text(config.read_text().partition("[auth")[0])
        assert cli.main(["check", str(config)]) == 0
        told = capsys.readouterr()
        assert "there is no [auth] section" in told.err
        assert told.out.endswith(": 0 auth blocks\n")


def test_a_resolver_without_records(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A resolver to look records up with is an error where no records are looked up."""
    assert cli.main(["check", "--resolver", "192.0.2.53", str(config)]) == 2
    assert "--resolver goes with --records" in capsys.readouterr().err


def at_a_terminal(*arguments: str) -> str:
    """Run a command whose stdout and stderr are a terminal, and return what that shows."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w") as stream:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            cli.main(arguments)
        stream.flush()
        shown = os.read(ours, 4096).decode()
    os.close(ours)
    return shown


class TestColour:
    """Colour is for terminals."""

    @pytest.fixture(autouse=True)
    def colourful(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forget what the machine's own environment says of colours."""
        monkeypatch.delenv("NO_COLOR", raising=False)

    def test_good_news_are_green(self, config: Path) -> None:
        """At a terminal `ok` is green."""
        assert at_a_terminal("check", str(config)).startswith("\x1b[32mok\x1b[0m: ")

    def test_mistakes_are_red(self, tmp_path: Path) -> None:
        """At a terminal each mistake is red."""
        shown = at_a_terminal("check", str(tmp_path / "missing.ini"))
        assert shown.startswith(f"\x1b[31m{tmp_path / 'missing.ini'}: ")
        assert shown.count("\x1b[31m") == shown.count("\x1b[0m") == shown.count("\n")

    @pytest.mark.parametrize("name", ["acmems.ini", "missing.ini"])
    def test_who_wants_no_colour(self, monkeypatch: pytest.MonkeyPatch, config: Path, name: str) -> None:
        """With NO_COLOR set there is none, good news or bad."""
        monkeypatch.setenv("NO_COLOR", "1")
        shown = at_a_terminal("check", str(config.with_name(name)))
        assert name in shown
        assert "\x1b" not in shown

    @pytest.mark.parametrize("name", ["acmems.ini", "missing.ini"])
    def test_pipes_have_none(self, capsys: pytest.CaptureFixture[str], config: Path, name: str) -> None:
        """What goes into a file or another program has no colour."""
        cli.main(["check", str(config.with_name(name))])
        told = "".join(capsys.readouterr())
        assert name in told
        assert "\x1b" not in told
