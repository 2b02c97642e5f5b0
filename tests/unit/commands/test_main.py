"""The command line: commands, exit codes, and what a person reads when something fails."""

from __future__ import annotations

import errno
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acmems import __version__
from acmems.commands import main as cli
from acmems.config import Configuration
from acmems.exceptions import AcmeException, CAUnavailable, NeedToAgreeToTOS


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


class TestFailures:
    """Whatever goes wrong is one line for a person."""

    @pytest.mark.parametrize(
        ("error", "line"),
        [
            (AcmeException("what happened"), "acmems: what happened"),
            (CAUnavailable("the CA is down"), "acmems: the CA is down"),
            (NeedToAgreeToTOS("https://ca.example/terms"), "acmems: the CA's terms of service must be"),
            (
                OSError(errno.EADDRINUSE, "Address in use", "192.0.2.1:1313"),
                "acmems: 192.0.2.1:1313: Addr",
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

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr("acmems.app.run", fail)
        assert cli.main(["serve", str(config)]) == 1
        told = capsys.readouterr()
        assert told.err.startswith(line)
        assert told.err.count("\n") == 1
        assert told.out == ""


BUG = """
import sys
from acmems import app
from acmems.commands import check, main, preflight

def divide(*_):
    return 1 // 0

app.run = divide
if "check" in sys.argv:
    preflight.check = divide
sys.exit(main.main(sys.argv[1:]))
"""


def run_with_a_bug(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that ends with a bug, in a process of its own: pytest has its own way with logs."""
    return subprocess.run(
        [sys.executable, "-c", BUG, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


class TestBugs:
    """The traceback of a bug is in the log, and a person reads one line that says so."""

    SAID = "acmems: a bug, please report it: ZeroDivisionError: integer division or modulo by zero; "

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_a_log_file(self, config: Path, tmp_path: Path, form: str) -> None:
        """Where the log is a file, the traceback is there, on one line, and stderr names the file."""
        log = tmp_path / "acmems.log"
        config.write_text(f"{config.read_text()}[logging]\ndestination = {log}\nformat = {form}\n")
        done = run_with_a_bug("serve", config)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"{self.SAID}the log ({log}) has the traceback\n"
        (line,) = log.read_text().splitlines()
        if form == "json":
            entry = json.loads(line)
            assert (entry["level"], entry["message"]) == ("error", "a bug ended the program")
            text = entry["traceback"]
        else:
            found = re.search(r' ERROR a bug ended the program traceback=(".*")$', line)
            assert found is not None
            text = json.loads(found[1])
        assert "in divide" in text
        assert text.endswith("ZeroDivisionError: integer division or modulo by zero\n")

    def test_a_log_on_stderr(self, config: Path) -> None:
        """Where the log is stderr, each of the two is one line."""
        done = run_with_a_bug("serve", config)
        logged, told = done.stderr.splitlines()
        assert ' ERROR a bug ended the program traceback="Traceback (most recent call last):\\n' in logged
        assert told == f"{self.SAID}the log (stderr) has the traceback"

    def test_no_log(self, config: Path) -> None:
        """A command that does not log tells how to have it logged."""
        done = run_with_a_bug("check", config)
        assert (done.returncode, done.stderr) == (1, f"{self.SAID}--debug logs the traceback\n")

    def test_debugging(self, config: Path) -> None:
        """With `--debug` any command logs to stderr."""
        done = run_with_a_bug("check", "--debug", config)
        logged, told = done.stderr.splitlines()
        assert "in divide" in logged
        assert told == f"{self.SAID}the log (stderr) has the traceback"

    def test_debugging_a_server(self, config: Path, tmp_path: Path) -> None:
        """With `--debug` nothing goes where the configuration says."""
        log = tmp_path / "acmems.log"
        config.write_text(f"{config.read_text()}[logging]\ndestination = {log}\n")
        done = run_with_a_bug("serve", "--debug", config)
        assert "in divide" in done.stderr
        assert not log.exists()

    def test_words_of_a_bug_are_one_line(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
        config: Path,
    ) -> None:
        """What a bug says, which may come from outside, cannot break the line."""

        def fail(_: object) -> None:
            raise RuntimeError("one\ntwo\x1b[31m")

        monkeypatch.setattr("acmems.commands.preflight.check", fail)
        assert cli.main(["check", str(config)]) == 1
        assert "RuntimeError: one two [31m; " in capsys.readouterr().err
        (record,) = caplog.records
        assert (record.levelno, record.exc_info is not None) == (logging.ERROR, True)


def test_nothing_is_logged_unasked(config: Path) -> None:
    """Before a log is configured warnings and errors reach no person, with tracebacks or without."""
    program = (
        "import logging, sys\n"
        "from acmems.commands import main, preflight\n"
        "def check(config):\n"
        "    logging.getLogger('library').warning('odd')\n"
        "    try: 1 // 0\n"
        "    except ZeroDivisionError: logging.getLogger('acmems').exception('bad')\n"
        "    return []\n"
        "preflight.check = check\n"
        "sys.exit(main.main(['check', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, config], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
