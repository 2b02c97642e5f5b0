"""Whether an address could be listened on, and who listens there already."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import free_port

from acmems.net import holders as looking
from acmems.net.address import Address
from acmems.net.holders import Holder, holders
from acmems.net.trial import try_address


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 at which this process listens, and nobody takes datagrams."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        yield server.getsockname()[1]


class TestTrial:
    def test_a_free_address(self) -> None:
        """An address that is free can be listened on afterwards, too: nothing stays behind."""
        port = free_port()
        assert try_address(Address("127.0.0.1", port), datagrams=True) is None
        socket.create_server(("127.0.0.1", port)).close()

    def test_nobody_can_connect_meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No socket listens at any time."""

        def listen(*_: object) -> None:
            raise AssertionError("it listens")

        monkeypatch.setattr(socket.socket, "listen", listen)
        assert try_address(Address("127.0.0.1", 0)) is None

    @pytest.mark.parametrize(
        ("host", "number"), [("192.0.2.13", errno.EADDRNOTAVAIL), ("2001:db8::13", errno.EADDRNOTAVAIL)]
    )
    def test_addresses_of_other_machines(self, host: str, number: int) -> None:
        """An address that this machine does not have is told as such."""
        error = try_address(Address(host, 0))
        assert error is not None
        assert error.errno in {number, errno.EAFNOSUPPORT}

    def test_a_name_that_has_no_address(self) -> None:
        """A name that nobody knows has an error of the resolver's."""
        assert isinstance(try_address(Address("acmems.invalid", 0)), socket.gaierror)

    def test_a_name_with_addresses_that_this_machine_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of the addresses of a name, one that can be listened on is enough."""
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 0)) for host in ("192.0.2.13", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        assert try_address(Address("two.example.org", 0)) is None

    def test_an_address_in_use(self, taken: int) -> None:
        """An address at which somebody listens is in use."""
        error = try_address(Address("127.0.0.1", taken))
        assert error is not None
        assert error.errno == errno.EADDRINUSE

    def test_an_address_in_use_for_datagrams(self) -> None:
        """Where datagrams are to be taken, too, a socket for datagrams is in the way, else it is not."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            address = Address("127.0.0.1", free_port())
            sock.bind((address.host, address.port))
            error = try_address(address, datagrams=True)
            assert error is not None
            assert error.errno == errno.EADDRINUSE
            assert try_address(address) is None


class TestHolders:
    @pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - what is asked for
    def test_who_listens(self, taken: int, host: str) -> None:
        """Who listens at an address is found, also when all addresses are wanted."""
        [holder] = holders(host, taken, socket.SOCK_STREAM)
        assert holder.pid == os.getpid()
        assert f"(process {os.getpid()})" in str(holder)

    def test_nobody_listens_elsewhere(self, taken: int) -> None:
        """Another address, or datagrams at the same, are not in use because of it."""
        assert holders("127.0.0.2", taken, socket.SOCK_STREAM) == []
        assert holders("127.0.0.1", taken, socket.SOCK_DGRAM) == []

    def test_connections_are_nobody_who_listens(self, taken: int) -> None:
        """A port at which a connection ends is not one at which somebody listens."""
        with socket.create_connection(("127.0.0.1", taken)) as client:
            assert holders("127.0.0.1", client.getsockname()[1], socket.SOCK_STREAM) == []

    def test_a_process_with_two_sockets(self) -> None:
        """A process that listens on IPv4 and on IPv6 is one."""
        port = free_port()
        with (
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("::1", port), family=socket.AF_INET6),
        ):
            assert len(holders("::", port, socket.SOCK_STREAM)) == 1

    def test_ipv6_and_all_addresses(self) -> None:
        """A socket that takes IPv4 and IPv6 is in the way of both."""
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
            port = server.getsockname()[1]
            for host in ("127.0.0.1", "::1", "::"):
                assert [holder.pid for holder in holders(host, port, socket.SOCK_STREAM)] == [os.getpid()]

    def test_processes_that_cannot_be_looked_at(
        self, taken: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Where the process cannot be found, the user is told whose the socket is."""
        (tmp_path / "self").symlink_to("/proc/self")
        monkeypatch.setattr(looking, "_PROC", tmp_path)
        [holder] = holders("127.0.0.1", taken, socket.SOCK_STREAM)
        assert (holder.pid, holder.is_acmems) == (None, False)
        assert str(holder).startswith("a process of the user ")

    def test_a_machine_without_proc(
        self, taken: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Without /proc nothing is known of anybody."""
        monkeypatch.setattr(looking, "_PROC", tmp_path / "none")
        assert holders("127.0.0.1", taken, socket.SOCK_STREAM) == []

    @pytest.mark.parametrize(
        ("command", "is_acmems"),
        [
            ("/usr/local/bin/acmems serve /etc/acmems/acmems.ini", True),
            ("/usr/bin/python3 /usr/local/bin/acmems serve a.ini", True),
            ("python -m acmems serve a.ini", True),
            ("acmems check a.ini", False),
            ("nginx: master process", False),
            ("", False),
        ],
    )
    def test_a_server_of_this_kind(self, command: str, is_acmems: bool) -> None:
        """A running server is recognised by its command line."""
        assert Holder("acmems", 1000, tuple(command.split())).is_acmems is is_acmems
