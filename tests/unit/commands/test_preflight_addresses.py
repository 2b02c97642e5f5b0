"""What `acmems check` and a start that failed say of addresses."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence

import pytest
from tests.peers import free_port

from acmems.commands import main as cli
from acmems.commands import preflight
from acmems.commands.preflight import addresses
from acmems.config import Configuration
from acmems.net.address import Address
from acmems.net.holders import Holder
from acmems.settings.findings import Finding

TEXT = """[account]
dir = /nowhere
[mgmt]
listener = {mgmt}
[verification "http"]
type = {kind}
listener = {challenges}
[auth "all"]
all = yes
domain = **
"""
SERVER = Holder("acmems", 1000, ("/usr/local/bin/acmems", "serve", "acmems.ini"))
NGINX = Holder("root", 1001, ("/usr/sbin/nginx", "-g", "daemon off;"))
SYSTEMD = Holder("root", 1, ("/sbin/init",))
HIDDEN = Holder("www-data")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 at which this process listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def look(mgmt: str = "127.0.0.1:0", challenges: str = "127.0.0.1:0", kind: str = "http01") -> list[Finding]:
    """Return what is found of two listeners, whose lines are 4 and 7."""
    text = TEXT.format(mgmt=mgmt, challenges=challenges, kind=kind)
    return list(addresses.check(Configuration.from_text(text, "a.ini")))


def test_addresses_that_are_free() -> None:
    """Where the server can listen, there is nothing to say."""
    assert look() == []


def test_an_address_of_another_machine() -> None:
    """An address that this machine does not have is told at its line."""
    [finding] = look(mgmt="192.0.2.13:1313")
    assert str(finding).startswith("a.ini:4: 192.0.2.13:1313: this machine does not have this address")


def test_an_address_of_another_machine_at_the_port_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that listens on all addresses does not have those that the machine does not have."""
    monkeypatch.setattr(addresses, "holders", lambda *_: [SERVER])
    [finding] = look(mgmt="192.0.2.13:1313")
    assert "this machine does not have this address" in finding.message


def test_a_name_without_address() -> None:
    """A name that nobody knows is told at its line."""
    [finding] = look(challenges="acmems.invalid:1380")
    assert str(finding).startswith("a.ini:7: acmems.invalid:1380: no address is known for this name")


@pytest.mark.parametrize(
    ("holders", "found"),
    [
        ([SERVER], []),
        ([SYSTEMD, SERVER], []),
        ([NGINX], [("nginx (process 1001)", False)]),
        ([SYSTEMD], [("init (process 1)", True)]),
        ([HIDDEN], [("a process of the user www-data", True)]),
        ([], [("another program", False)]),
    ],
    ids=str,
)
def test_an_address_in_use(
    monkeypatch: pytest.MonkeyPatch, taken: int, holders: Sequence[Holder], found: list[tuple[str, bool]]
) -> None:
    """A server that runs there is not in the way; what may be one is a warning; another program is told."""
    monkeypatch.setattr(addresses, "holders", lambda *_: list(holders))
    findings = look(challenges=f"127.0.0.1:{taken}")
    for finding, (who, is_warning) in zip(findings, found, strict=True):
        assert f"127.0.0.1:{taken} is in use by {who}: " in finding.message
        assert (finding.location.line, finding.warning) == (7, is_warning)


def test_datagrams_are_tried_where_they_are_taken() -> None:
    """A name server needs its port for UDP, too."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        port = free_port()
        sock.bind(("127.0.0.1", port))
        address = f"127.0.0.1:{port}"
        server = "dns01-server\nzone = a.example.org\nns = ns.example.org"
        [finding] = look(challenges=address, kind=server)
        assert "is in use by" in finding.message
        assert look(challenges=address) == []


class TestLowPorts:
    @pytest.fixture(autouse=True)
    def _nobody_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have nobody listen, and a user who may not."""
        monkeypatch.setattr(addresses, "holders", lambda *_: [])
        monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_000)

    def refuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        denied = PermissionError(errno.EACCES, "Permission denied")
        monkeypatch.setattr(addresses, "try_address", lambda address, **_: denied if address.port else None)

    def test_without_the_capability(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A low port is told with the capability that it needs, who lacks it, and what to do."""
        self.refuse(monkeypatch)
        [finding] = look(challenges="127.0.0.1:80")
        assert (finding.location.line, finding.warning) == (7, False)
        for words in (
            "need the capability CAP_NET_BIND_SERVICE, which the user 4000000000 does not have",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "listen on a port from 1024 on and forward this one to it",
        ):
            assert words in finding.message

    def test_a_running_server_has_the_port_already(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever checks may lack what the server, or systemd for it, has."""
        self.refuse(monkeypatch)
        monkeypatch.setattr(addresses, "holders", lambda *_: [SERVER])
        assert look(challenges="127.0.0.1:80") == []

    def test_a_high_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A high port that is refused is another matter."""
        self.refuse(monkeypatch)
        [finding] = look(challenges="127.0.0.1:1380")
        assert "SELinux" in finding.message

    def test_root_is_told_what_others_need(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who checks as root is warned that the user of the unit needs a capability."""
        monkeypatch.setattr(addresses, "try_address", lambda *_, **__: None)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        [finding] = look(challenges="127.0.0.1:80")
        assert finding.warning
        assert "CAP_NET_BIND_SERVICE" in finding.message


def test_default_addresses_may_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 that this machine lacks is missed where nobody has written it, and told where somebody has."""
    lacking = OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
    monkeypatch.setattr(
        addresses, "try_address", lambda address, **_: lacking if ":" in address.host else None
    )
    text = TEXT.replace("listener = {mgmt}\n", "").replace("listener = {challenges}\n", "")
    assert list(addresses.check(Configuration.from_text(text.format(kind="http01"), "a.ini"))) == []
    [finding] = look(mgmt="[::1]:1313")
    assert "this machine has no IPv6" in finding.message


class TestStart:
    """An address that a start cannot listen on is told at its line."""

    @pytest.mark.parametrize(
        ("number", "code"), [(errno.EACCES, 2), (errno.EADDRINUSE, 1), (errno.EADDRNOTAVAIL, 1)]
    )
    def test_the_line_is_told(
        self,
        serving: list[Configuration],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        config: object,
        number: int,
        code: int,
    ) -> None:
        """What another start would not change ends with 2; what may pass ends with 1, to be tried again."""

        def fail(*_: object) -> None:
            raise OSError(number, f"cannot listen: {os.strerror(number)}", "127.0.0.1:1313")

        monkeypatch.setattr("acmems.app.run", fail)
        assert cli.main(["serve", str(config)]) == code
        err = capsys.readouterr().err
        assert err.startswith(f"{config}:1: 127.0.0.1:1313")
        assert err.count("\n") == 1

    def test_other_errors_are_not_about_a_listener(self) -> None:
        """An error that names no listener is not turned into one."""
        config = Configuration.from_text(
            TEXT.format(mgmt="127.0.0.1:0", challenges="127.0.0.1:0", kind="http01")
        )
        assert preflight.refused_listener(config, OSError(errno.ENOSPC, "No space left")) is None
        assert preflight.refused_listener(config, OSError(errno.EACCES, "no", str(Address("::", 1)))) is None
