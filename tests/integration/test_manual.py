"""The manual page and the completions of contrib/, read by the programs that they are for."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs._ext.command_reference import arguments, parsers
from tests.peers import environment, program

from acmems.commands.policy import METHODS

ROOT = Path(__file__).parents[2]
CONTRIB = ROOT / "contrib"
PAGE = CONTRIB / "man" / "acmems.1"
FILES = ("completions/acmems.bash", "completions/_acmems", "completions/acmems.fish")
HINT = "run scripts/manual"
COMMANDS = sorted(parsers())


def options(command: str) -> set[str]:
    """Return the options of a command, help included."""
    found = {option for action in arguments(parsers()[command]) for option in action.option_strings}
    return found | {"-h", "--help"}


@pytest.fixture(scope="module")
def page() -> str:
    """The manual page as a person sees it, every run of blanks as one."""
    made = subprocess.run(
        [program("mandoc"), "-Tutf8", "-Owidth=200", str(PAGE)],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return re.sub(r".\x08", "", made.stdout)


def test_the_page_is_well_formed() -> None:
    """Mandoc finds nothing wrong with it but the blank lines after headings that docutils writes."""
    found = subprocess.run(
        [program("mandoc"), "-Tlint", "-Wwarning", str(PAGE)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert [line for line in found.stdout.splitlines() if "paragraph macro: sp after S" not in line] == []


def test_the_page_describes_every_command(page: str) -> None:
    """Each command has a section with exactly its options, each with its help."""
    sections = re.split(r"(?m)^   (?=acmems )", page.partition("EXIT CODES")[0])[1:]
    assert sorted(section.partition("\n")[0].removeprefix("acmems ") for section in sections) == COMMANDS, (
        HINT
    )
    for section in sections:
        command = section.partition("\n")[0].removeprefix("acmems ")
        listed = set(re.findall(r"(?m)^ {7}(--[a-z-]+)", section))
        assert listed == options(command) - {"-h", "--help"}, HINT
        words = " ".join(section.split())
        for action in arguments(parsers()[command]):
            assert not action.option_strings or " ".join((action.help or "").split()) in words, HINT


def test_the_page_has_a_name_for_whatis(page: str) -> None:
    """The first section is what `apropos` and `whatis` look for."""
    assert re.search(r"(?m)^NAME\n +acmems . \S+", page)


@pytest.mark.parametrize("file", FILES)
def test_completions_know_every_command_and_option(file: str) -> None:
    """Whatever the parser takes stands in the file of each shell."""
    text = (CONTRIB / file).read_text(encoding="utf-8")
    for command in COMMANDS:
        for word in (*command.split(), *options(command)):
            named = f"-l {word[2:]}" if word.startswith("--") and file.endswith("fish") else word
            named = f"-s {word[1:]}" if re.fullmatch("-[a-z]", word) and file.endswith("fish") else named
            assert named in text, HINT


class TestBash:
    """What bash completes."""

    def completed(self, *words: str, folder: Path = ROOT) -> set[str]:
        """Return what is offered for the last of some words."""
        script = """
            source "$1"; shift
            COMP_WORDS=(acmems "$@"); COMP_CWORD=$#
            _shtab_acmems
            printf '%s\\n' "${COMPREPLY[@]}"
        """
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash", str(CONTRIB / FILES[0]), *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        )
        return set(done.stdout.split())

    def test_commands_and_actions(self) -> None:
        """The first word is a command, the second one after `account` an action."""
        assert self.completed("") == {command.split()[0] for command in COMMANDS}
        assert self.completed("account", "") == {
            command.split()[1] for command in COMMANDS if command.startswith("account")
        }

    @pytest.mark.parametrize("command", COMMANDS)
    def test_options(self, command: str) -> None:
        """After a command, exactly its options are offered."""
        assert self.completed(*command.split(), "-") == options(command)

    def test_files(self, tmp_path: Path) -> None:
        """Configuration files and CSRs are files."""
        (tmp_path / "acmems.ini").touch()
        (tmp_path / "host.csr").touch()
        assert self.completed("check", "ac", folder=tmp_path) == {"acmems.ini"}
        assert self.completed("explain", "--csr", "ho", folder=tmp_path) == {"host.csr"}
        assert self.completed("explain", "--method", "", folder=tmp_path) == set(METHODS)

    @pytest.fixture
    def terminal(self) -> Iterator[int]:
        """The terminal of an interactive bash that has the completions."""
        child, terminal = pty.fork()
        if child == 0:
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])  # noqa: S606 - the shell is what is tested
        yield terminal
        os.close(terminal)
        os.waitpid(child, 0)

    def test_at_a_terminal(self, terminal: int) -> None:
        """Tabs complete a whole command line."""
        lines = f"bind 'set bell-style none'; source '{CONTRIB / FILES[0]}'\n"
        lines += "acmems() { printf '<%s>' \"$@\" ENDED; }\n"
        os.write(terminal, lines.encode() + b"acmems acc\tdea\t--y\t\n")
        seen = b""
        while b"<ENDED>" not in seen:
            seen += os.read(terminal, 65536)
        assert b"<account><deactivate><--yes><ENDED>" in seen


def test_a_wheel_installs_them(tmp_path: Path) -> None:
    """Whoever installs the package gets them where shells and man look, below the same prefix."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env=environment(),
    )
    [wheel] = tmp_path.glob("*.whl")
    names = {name.partition(".data/data/")[2] for name in zipfile.ZipFile(wheel).namelist()}
    assert names >= {
        "share/man/man1/acmems.1",
        "share/bash-completion/completions/acmems",
        "share/zsh/site-functions/_acmems",
        "share/fish/vendor_completions.d/acmems.fish",
    }
