"""The systemd unit runs acmems as acmems wants to be run, and leaves it nothing that it does not need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers import environment, program
from tests.peers.process import FETCHED

from acmems.app import server
from acmems.challenges.http01 import DEFAULT_LISTENERS
from acmems.frontends.options import MGMT_LISTENERS
from acmems.net.address import parse_address
from acmems.system.programs import AT_ONCE

CONTRIB = Path(__file__).parents[3] / "contrib"
UNIT = CONTRIB / "acmems.service"
LOW_PORT, HOOKS = (UNIT.with_name("acmems.service.d") / name for name in ("low-port.conf", "hooks.conf"))


def read(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return directives by section, each with its values: systemd lets them repeat."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] | None = None
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("[") and line.endswith("]"):
            section = found.setdefault(line[1:-1], {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert section is not None, line
            assert equals, line
            section.setdefault(key, []).append(value)
    return found


@pytest.fixture(scope="module")
def service() -> dict[str, list[str]]:
    """The directives of `[Service]`."""
    return read(UNIT)["Service"]


def test_sections() -> None:
    """The unit has the three sections of a service, waits for the network, and starts at boot."""
    unit = read(UNIT)
    assert list(unit) == ["Unit", "Service", "Install"]
    assert unit["Unit"]["After"] == unit["Unit"]["Wants"] == ["network-online.target"]
    assert unit["Install"] == {"WantedBy": ["multi-user.target"]}


@pytest.mark.parametrize(
    ("directive", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("UMask", "0077"),
        ("User", "acmems"),
        ("Group", "acmems"),
        ("StateDirectory", "acmems"),
        ("StateDirectoryMode", "0700"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("SystemCallArchitectures", "native"),
    ],
)
def test_directives(service: dict[str, list[str]], directive: str, value: str) -> None:
    """Each directive that keeps the service apart from the rest of the machine is there, once."""
    assert service[directive] == [value]


def test_commands(service: dict[str, list[str]]) -> None:
    """The configuration is checked before it is used, by the same program."""
    [check], [serve] = service["ExecStartPre"], service["ExecStart"]
    program, command, configuration = serve.split()
    assert command == "serve"
    assert check.split() == [program, "check", configuration]
    assert Path(program).is_absolute()
    assert Path(configuration).is_absolute()


def test_a_reload(service: dict[str, list[str]]) -> None:
    """A reload fails where the configuration has errors; otherwise the server is told of it."""
    check, tell = service["ExecReload"]
    assert check == service["ExecStartPre"][0]
    assert tell == "/bin/kill -HUP $MAINPID"


def test_sockets() -> None:
    """The unit with the sockets opens what is listened on by default, and nothing of it is left over."""
    unit = read(CONTRIB / "acmems.socket")
    assert list(unit) == ["Unit", "Socket", "Install"]
    assert unit["Socket"]["BindIPv6Only"] == ["ipv6-only"]
    assert tuple(map(parse_address, unit["Socket"]["ListenStream"])) == (*MGMT_LISTENERS, *DEFAULT_LISTENERS)
    assert unit["Install"] == {"WantedBy": ["sockets.target"]}


@pytest.mark.parametrize("name", ["acmems.service", "acmems.socket"])
def test_systemd_knows_every_word(tmp_path: Path, name: str) -> None:
    """Systemd itself finds no fault with the units."""
    for unit in ("acmems.service", "acmems.socket"):
        text = (CONTRIB / unit).read_text(encoding="ascii")
        # It looks for programs, of which this machine need not have ours.
        (tmp_path / unit).write_text(text.replace("/usr/local/bin/acmems", sys.executable), encoding="ascii")
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--recursive-errors=no", "--man=no", tmp_path / name],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_system_calls(service: dict[str, list[str]]) -> None:
    """Only the system calls of ordinary services are allowed; others fail, and kill nothing."""
    allowed, *taken = service["SystemCallFilter"]
    assert allowed == "@system-service"
    assert all(filters.startswith("~") for filters in taken)
    assert service["SystemCallErrorNumber"] == ["EPERM"]


def test_time(service: dict[str, list[str]]) -> None:
    """Running requests may end before systemd kills, and it looks whether the service is alive."""
    assert int(service["TimeoutStopSec"][0]) > server.DRAIN_SECONDS + server.WITHDRAW_SECONDS
    assert int(service["WatchdogSec"][0]) > 0


def test_restarts(service: dict[str, list[str]]) -> None:
    """A crash is followed by a new start; a configuration error, exit code 2, is not."""
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]


@pytest.mark.parametrize("directive", ["LimitNOFILE", "TasksMax", "MemoryMax"])
def test_limits(service: dict[str, list[str]], directive: str) -> None:
    """Whatever goes wrong, the service cannot take all of the machine."""
    [limit] = service[directive]
    assert int(limit.rstrip("MG")) > 0


def test_programs_are_not_the_end_of_the_service(service: dict[str, list[str]]) -> None:
    """There is memory for as many programs as run at once, and one that takes too much is killed alone."""
    [limit] = service["MemoryMax"]
    assert limit == "1G"
    assert AT_ONCE * 50 < 1024 / 2
    assert service["OOMPolicy"] == ["continue"]


def test_a_low_port_is_granted_where_it_counts() -> None:
    """The drop-in grants one capability, outside of a user namespace, in which it would have no effect."""
    assert read(LOW_PORT) == {
        "Service": {
            "AmbientCapabilities": ["CAP_NET_BIND_SERVICE"],
            "CapabilityBoundingSet": ["CAP_NET_BIND_SERVICE"],
            "PrivateUsers": ["no"],
        }
    }


def test_hooks_get_no_privileges() -> None:
    """The drop-in for programs takes nothing back but what stops ordinary programs."""
    assert read(HOOKS) == {
        "Service": {
            "MemoryDenyWriteExecute": ["no"],
            "RestrictAddressFamilies": ["AF_NETLINK"],
            "ProcSubset": ["all"],
        }
    }


@pytest.fixture
def units(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of units like /etc/systemd/system: the unit, its drop-ins, and a program where it has one."""
    program = tmp_path / "acmems"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder = tmp_path / "system"
    (folder / "acmems.service.d").mkdir(parents=True)
    for path in (UNIT, *request.param):
        text = path.read_text(encoding="ascii").replace("/usr/local/bin/acmems", str(program))
        (folder / path.relative_to(UNIT.parent)).write_text(text)
    return folder


def systemd_analyze(*arguments: str | Path) -> str:
    """Return what `systemd-analyze` says; it must succeed."""
    libraries = [str(path) for path in FETCHED.glob("usr/lib/*/systemd")]
    env = environment()
    env["LD_LIBRARY_PATH"] = os.pathsep.join([env["LD_LIBRARY_PATH"], *libraries])
    done = subprocess.run(
        [program("systemd-analyze"), "--no-pager", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("units", [(), (LOW_PORT,), (HOOKS,), (LOW_PORT, HOOKS)], indirect=True)
def test_systemd_understands_every_line(units: Path) -> None:
    """`systemd-analyze verify` has nothing to say about the unit, alone or with its drop-ins."""
    said = systemd_analyze("verify", "--man=no", units / "acmems.service")
    assert [line for line in said.splitlines() if "acmems" in line] == []


@pytest.mark.parametrize(
    ("units", "most"), [((), 1.2), ((LOW_PORT,), 1.6), ((LOW_PORT, HOOKS), 1.9)], indirect=["units"]
)
def test_exposure(units: Path, most: float) -> None:
    """What `systemd-analyze security` counts is not more than the documentation says."""
    said = systemd_analyze("security", "--offline=true", units / "acmems.service")
    found = re.search(r"Overall exposure level for acmems.service: ([0-9.]+)", said)
    assert found
    assert float(found[1]) <= most
