"""The command line: commands, exit codes, and what a person reads."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from acmems import __version__
from acmems.commands import main as cli
from acmems.config import Configuration
from acmems.exceptions import AcmeException, CAUnavailable, NeedToAgreeToTOS

BLOCK = '[auth "web"]\nip = 192.0.2.0/24\ndomain = www.example.org\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without a fault, and the directory that it names."""
    (tmp_path / "account").mkdir()
    path = tmp_path / "acmems.ini"
    path.write_text(f"[account]\ndir = {tmp_path / 'account'}\n{BLOCK}")
    return path


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """What would be served, if anything were."""
    served: list[Configuration] = []
    monkeypatch.setattr("acmems.app.run", served.append)
    monkeypatch.setattr("acmems.logs.configure", lambda _: None)
    return served


class TestUsage:
    """What is not a command is explained, with exit code 2."""

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nothing"],
            ["serve"],
            ["check"],
            ["account"],
            ["account", "show"],
            ["account", "destroy", "acmems.ini"],
            ["check", "--fast", "acmems.ini"],
        ],
        ids=" ".join,
    )
    def test_mistakes(self, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        """The last line on stderr says what is wrong, and nothing is printed to stdout."""
        with pytest.raises(SystemExit) as raised:
            cli.main(arguments)
        told = capsys.readouterr()
        assert raised.value.code == 2
        assert re.match(r"acmems[a-z ]*: error: ", told.err.splitlines()[-1])
        assert told.out == ""

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        """`--version` prints name and version."""
        with pytest.raises(SystemExit) as raised:
            cli.main(["--version"])
        assert raised.value.code == 0
        assert capsys.readouterr().out == f"acmems {__version__}\n"

    @pytest.mark.parametrize("arguments", [[], ["serve"], ["check"], ["account"]], ids=" ".join)
    def test_help(self, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
        """`--help` prints how each command is used."""
        with pytest.raises(SystemExit) as raised:
            cli.main([*arguments, "--help"])
        assert raised.value.code == 0
        assert capsys.readouterr().out.startswith(" ".join(["usage: acmems", *arguments]))


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
        assert told.err == f'{more}:1: [auth "web"] is given twice, first at {config}:3\n'

    def test_every_mistake(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Each mistake is a line with file and line number on stderr; the exit code is 2."""
        config.write_text(config.read_text() + '[mgmt]\nmax-size = huge\n[storag "x"]\n[auth "none"]\n')
        assert cli.main(["check", str(config)]) == 2
        told = capsys.readouterr()
        lines = [line.removeprefix(f"{config}:").partition(": ")[0] for line in told.err.splitlines()]
        assert lines == ["7", "8", "9", "9"]
        assert told.out == ""

    @pytest.mark.parametrize(
        ("make", "text"),
        [
            (Path.exists, "cannot be read: No such file or directory"),
            (Path.mkdir, "cannot be read: Is a directory"),
            (lambda path: path.write_bytes(b"[account]\n\xff"), "this is not UTF-8"),
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
        assert re.search(rf"^{re.escape(str(path))}:\d: {text}$", capsys.readouterr().err, re.MULTILINE)

    def test_a_warning(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """What stops nothing is told on stderr, and the exit code stays 0."""
        config.write_text(config.read_text().partition("[auth")[0])
        assert cli.main(["check", str(config)]) == 0
        told = capsys.readouterr()
        assert "there is no [auth] section" in told.err
        assert told.out.endswith(": 0 auth blocks\n")


class TestServe:
    """`acmems serve` serves, or ends with one line."""

    def test_it_serves_what_is_configured(
        self, serving: list[Configuration], config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The configuration is read and served; a server that ends as told ends with 0."""
        assert cli.main(["serve", str(config)]) == 0
        (served,) = serving
        assert [block.name for block in served.auth.blocks] == ["web"]
        assert capsys.readouterr() == ("", "")

    def test_a_mistake_serves_nothing(self, serving: list[Configuration], config: Path) -> None:
        """A configuration with a mistake is not served."""
        config.write_text(config.read_text() + "colour = red\n")
        assert cli.main(["serve", str(config)]) == 2
        assert serving == []

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (AcmeException("what happened"), "acmems: what happened"),
            (CAUnavailable("the CA is down"), "acmems: the CA is down"),
            (NeedToAgreeToTOS("https://ca.example/terms"), "acmems: the CA's terms of service must be"),
            (
                OSError(errno.EADDRINUSE, "Address in use", "127.0.0.1:1313"),
                "acmems: 127.0.0.1:1313: Addr",
            ),
            (OSError(errno.ENOSPC, "No space left"), "acmems: No space left"),
            (OSError("odd"), "acmems: odd"),
            (KeyboardInterrupt(), "acmems: interrupted"),
            (ZeroDivisionError("of zero"), "acmems: a bug, please report it: ZeroDivisionError: of zero"),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
    )
    def test_failures(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        serving: list[Configuration],
        config: Path,
        error: BaseException,
        line: str,
    ) -> None:
        """Whatever goes wrong while working is one line on stderr, without a traceback, and exit code 1."""

        def fail(_: object) -> None:
            raise error

        monkeypatch.setattr("acmems.app.run", fail)
        assert cli.main(["serve", str(config)]) == 1
        told = capsys.readouterr()
        assert told.err.startswith(line)
        assert told.err.count("\n") == 1
        assert told.out == ""


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
        assert shown.startswith(f"\x1b[31m{tmp_path / 'missing.ini'}:1: ")
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
