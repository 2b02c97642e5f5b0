"""The rights that are missing on a real machine, for a user who is not root: exit code 2, file and line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Pebble, Settings, run_acmems

NOBODY = 65534
# Everything is imported before, because nobody may be unable to read Python's own files.
AS_NOBODY = f"""
import encodings.ascii, encodings.idna, encodings.latin_1, encodings.utf_8_sig, os, sys
from acmems.commands import main
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
sys.exit(main.main(sys.argv[1:]))
"""


def as_nobody(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user without any rights; where the tests are not run by root, as that user."""
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def config(pebble: Pebble) -> Iterator[Path]:
    """A configuration that works, in a folder that everybody can enter, for the user who is to run it."""
    with tempfile.TemporaryDirectory(prefix="acmems-") as name:  # pytest closes its own folders to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "ca.pem").write_bytes(pebble.ca_file.read_bytes())
        settings = Settings.of(pebble, folder)
        settings.ca_file = folder / "ca.pem"
        path = folder / "acmems.ini"
        path.write_text(settings.text())
        if os.geteuid() == 0:
            for made in ("account", "storage"):
                os.chown(folder / made, NOBODY, NOBODY)
        yield path
        for directory in sorted(folder.rglob("*")):
            if directory.is_dir():
                directory.chmod(0o700)


def line_of(config: Path, text: str) -> int:
    """Return the number of the first line that begins so."""
    lines = config.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(text))


def close(name: str) -> Callable[[Path], None]:
    """Return what takes away all rights on something in the folder of a configuration."""

    def change(folder: Path) -> None:
        if os.geteuid() == 0:
            os.chown(folder / name, 0, 0)
        (folder / name).chmod(0)

    return change


def register(folder: Path) -> None:
    """Make an account as another user, whose key nobody else can read."""
    done = run_acmems("account", "register", folder / "acmems.ini")
    assert done.returncode == 0
    close("account/account.pem")(folder)


@pytest.mark.parametrize("command", [["check"], ["serve"], ["account", "show"]], ids=" ".join)
@pytest.mark.parametrize(
    ("prepare", "key", "words"),
    [
        pytest.param(close("account"), "dir = ", "the account directory {folder}/account", id="account"),
        pytest.param(register, "dir = ", "the account key {folder}/account/account.pem cannot be", id="key"),
        pytest.param(close("ca.pem"), "ca-file = ", "{folder}/ca.pem cannot be read", id="ca-file"),
        pytest.param(close("acmems.ini"), "", "cannot be read: ", id="configuration"),
    ],
)
def test_what_nobody_may_read(
    config: Path, command: list[str], prepare: Callable[[Path], None], key: str, words: str
) -> None:
    """What the user may not read is told at the line that names it, with the user; the exit code is 2."""
    place = f"{config}:{line_of(config, key)}: " if key else f"{config}: "
    prepare(config.parent)
    done = as_nobody(*command, config)
    assert done.returncode == 2
    [told] = [line for line in done.stderr.splitlines() if "warning: " not in line]
    assert told.startswith(place + words.format(folder=config.parent))
    assert "Permission denied: the user " in told
    assert " Permission denied: it" not in told


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_storage_that_nobody_may_write(config: Path, command: str) -> None:
    """A storage of another user is told at its line."""
    close("storage")(config.parent)
    done = as_nobody(command, config)
    assert done.returncode == 2
    assert f"{config}:{line_of(config, 'directory = ')}: the directory {config.parent}/storage" in done.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("made", "key"),
    [("storage/identities", "directory = "), ("storage/ab", "directory = "), ("account/presented", "dir = ")],
)
def test_what_a_start_by_root_has_left(config: Path, command: str, made: str, key: str) -> None:
    """A directory that acmems made for another user is told before an order needs it."""
    (config.parent / made).mkdir()
    close(made)(config.parent)
    done = as_nobody(command, config)
    assert done.returncode == 2
    assert f"{config}:{line_of(config, key)}: " in done.stderr
    assert f"may not use {config.parent}/{made} (mode 0000, owner " in done.stderr


def test_directories_of_others_are_not_in_the_way(config: Path) -> None:
    """What acmems has not made, such as lost+found, may be closed to it."""
    for other in ("storage/lost+found", "account/other"):
        (config.parent / other).mkdir()
        close(other)(config.parent)
    assert as_nobody("check", config).returncode == 0


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_log_file_that_nobody_may_make(config: Path, command: str) -> None:
    """A log file in a directory of another user is told at its line, with a directory to make instead."""
    (config.parent / "log").mkdir()
    text = config.read_text().replace("level = debug", f"destination = {config.parent}/log/acmems.log")
    config.write_text(text)
    close("log")(config.parent)
    done = as_nobody(command, config)
    assert done.returncode == 2
    assert f"{config}:{line_of(config, 'destination = ')}: the log file " in done.stderr


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_low_port(config: Path, command: str) -> None:
    """A port below 1024 is told with the capability that is missing, how to get it, and how to do without."""
    config.write_text(config.read_text().replace("type = http01\nlistener = 127.0.0.1:", "type = http01\n#"))
    config.write_text(
        config.read_text().replace("type = http01\n", "type = http01\nlistener = 127.0.0.9:81\n")
    )
    done = as_nobody(command, config)
    assert done.returncode == 2
    [told] = [line for line in done.stderr.splitlines() if "127.0.0.9:81" in line]
    assert told.startswith(f"{config}:{line_of(config, 'listener = 127.0.0.9:81')}: ")
    assert "CAP_NET_BIND_SERVICE" in told
    assert "listen on a port from 1024 on and forward this one to it" in told


def test_a_server_that_runs_is_not_in_the_way(pebble: Pebble, tmp_path: Path) -> None:
    """`check` before a restart finds the addresses in use by the server itself, and has nothing to say."""
    with Acmems(Settings.of(pebble, tmp_path)) as acmems:
        path = acmems.folder / "acmems.ini"
        path.chmod(0o600)
        done = run_acmems("check", path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_wrong_url_of_a_ca(pebble: Pebble, config: Path) -> None:
    """A URL at which there is no directory is told, with the line that gives it, by every command."""
    config.write_text(config.read_text().replace(pebble.directory_url, f"{pebble.directory_url}ectory"))
    for command in (["serve"], ["account", "register"], ["account", "show"]):
        done = as_nobody(*command, config)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            f"{config}:{line_of(config, 'acme-server = ')}: there is no ACME directory at "
            f"{pebble.directory_url}ectory (HTTP status 404 Not Found): correct 'acme-server' in [account]"
        )
