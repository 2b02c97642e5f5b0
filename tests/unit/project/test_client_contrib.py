"""What comes with `contrib/acmems-client`: units, cron line, example, documentation of the settings."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONTRIB = ROOT / "contrib"
PROGRAM = "/usr/local/sbin/acmems-client"
CLIENT = (CONTRIB / "acmems-client").read_text(encoding="utf-8")
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")


def unit(name: str) -> configparser.ConfigParser:
    """Return a unit file in which no directive repeats."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(CONTRIB / name, encoding="utf-8")
    return parser


def documented(heading: str) -> list[str]:
    """Return the first cells of the table below a heading of the page about clients."""
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \|", page.partition(heading)[2].partition("\n#")[0])
    return [cell for row in rows for cell in re.findall("`([a-z-]+)`", row)]


def test_every_setting_is_documented() -> None:
    """The table of settings names what the program reads, and nothing else."""
    read = re.findall(r"(?m)^    ([a-z-]+)\)", CLIENT.partition("read_setting()")[2].partition("\n}\n")[0])
    assert sorted(documented("### Settings")) == sorted(read)


def test_defaults_are_those_of_the_program() -> None:
    """The table of settings has the defaults that the program begins with."""
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    begins = CLIENT.partition("read_config() {")[2].partition("id=")[0]
    for setting, default in re.findall(r"\b([a-z_]+)=([a-z0-9]+)\b", begins):
        if setting in {"number", "problems"}:
            continue
        [row] = re.findall(
            rf"(?m)^\|.*`{setting.replace('_', '-')}`.*\|$", page.partition("### What it does")[0]
        )
        assert f"`{default}`" in row.split("|")[3], setting


def test_example_has_known_settings() -> None:
    """The example uses settings that exist, in comments too."""
    text = (CONTRIB / "acmems-client.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"(?m)^(?:# )?([a-z-]+) = ", text)) <= set(documented("### Settings"))


def test_service_runs_the_program_once() -> None:
    """The service runs to its end, has a place for its state, and no privilege that it can gain."""
    service = unit("acmems-client.service")["Service"]
    assert (service["Type"], service["ExecStart"]) == ("oneshot", PROGRAM)
    assert (service["UMask"], service["StateDirectory"], service["StateDirectoryMode"]) == (
        "0077",
        "acmems-client",
        "0755",
    )
    assert service["NoNewPrivileges"] == "yes"
    assert re.search(rf"(?m)^STATE=/var/lib/{service['StateDirectory']}$", CLIENT)


def test_timer_spreads_the_machines() -> None:
    """Machines ask at times of their own, twice a day, and after they were off."""
    timer = unit("acmems-client.timer")
    assert timer["Timer"]["RandomizedDelaySec"] == "12h"
    assert timer["Timer"]["Persistent"] == timer["Timer"]["FixedRandomDelay"] == "yes"
    assert timer["Install"]["WantedBy"] == "timers.target"


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze is not there")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    program = tmp_path / "acmems-client"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in ("acmems-client.service", "acmems-client.timer"):
        text = (CONTRIB / name).read_text(encoding="utf-8").replace(PROGRAM, str(program))
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [str(SYSTEMD_ANALYZE), "verify", "--man=no", *tmp_path.glob("acmems-client.*")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_cron_line() -> None:
    """The cron line has a time, a user and the program, with a random delay."""
    text = (CONTRIB / "acmems-client.cron").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if not line.startswith("#")]
    *time, user, program, arguments = line.split(maxsplit=7)
    assert len(time) == 5
    assert all(re.fullmatch(r"[0-9,*]+", part) for part in time)
    assert (user, program) == ("root", PROGRAM)
    assert arguments.startswith("--splay 3600 ")
    assert text.endswith("\n")  # cron ignores a last line without


def test_program_has_no_eval() -> None:
    """No value becomes a command: the program has no `eval`, and calls no other shell."""
    code = "\n".join(line for line in CLIENT.splitlines() if not line.lstrip().startswith("#"))
    assert not re.search(r"\b(eval|sh -c)\b", code)
