"""Listening sockets: all addresses or none, and machines without IPv6."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import Any

import dns.name
import pytest
from tests.listening import Application, WithoutFamily
from tests.peers import free_port

from acmems.challenges import dns01_server, http01, tls_alpn01
from acmems.dns.server import Zone, name_server_plan
from acmems.frontends.options import MGMT_LISTENERS
from acmems.net.address import Address
from acmems.net.http import HttpService
from acmems.net.listening import Listener
from acmems.net.listening.binder import bind

V4, V6 = Address("127.0.0.1", 0), Address("::1", 0)
DEFAULTS = (V4, V6)


class WithoutAddress(socket.socket):
    """A socket of a machine where IPv6 is switched off."""

    def bind(self, place: Any) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        super().bind(place)


@pytest.fixture(params=[WithoutFamily, WithoutAddress])
def without_ipv6(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel has no IPv6, or has it and no address of it."""
    monkeypatch.setattr(socket, "socket", request.param)


def listening_on(*addresses: Address, defaults: tuple[Address, ...] = DEFAULTS) -> list[str]:
    bound = bind(addresses, defaults=defaults)
    try:
        return [address.host for address in bound.addresses]
    finally:
        bound.close()


class TestWithoutIPv6:
    @pytest.fixture(autouse=True)
    def _machine(self, without_ipv6: None) -> None:
        """Run on such a machine."""

    def test_the_defaults_do_without(self, caplog: pytest.LogCaptureFixture) -> None:
        """Of the default addresses the others are listened on, and the log says what is missing."""
        caplog.set_level("INFO")
        assert listening_on(V4, V6) == ["127.0.0.1"]
        assert "this machine does not have [::1]:0: not listening there" in caplog.text

    @pytest.mark.parametrize("addresses", [(V6,), (V4, Address("::1", 1)), (V6, V4)])
    def test_a_written_address_must_work(self, addresses: tuple[Address, ...]) -> None:
        """An address that somebody asked for is missed, by name."""
        with pytest.raises(OSError, match="cannot listen") as caught:
            listening_on(*addresses)
        assert caught.value.filename.startswith("[::1]:")

    def test_something_must_be_there(self) -> None:
        """Where nothing of the defaults can be listened on, that is an error."""
        with pytest.raises(OSError, match="cannot listen") as caught:
            listening_on(V6, defaults=(V6,))
        assert caught.value.filename == "[::1]:0"

    def test_a_host_with_both(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a host name's addresses the others are listened on, written or not."""
        found = [(socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert listening_on(Address("localhost", 0)) == ["127.0.0.1"]

    @pytest.mark.parametrize("kind", ["mgmt", "http01", "tls-alpn01", "dns01-server"])
    def test_each_kind_of_listener(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listeners of every kind start with what there is of their defaults."""
        with contextlib.closing(_listener(kind, monkeypatch)) as listener:
            assert [address.host for address in listener.addresses] == ["127.0.0.1"]


def _listener(kind: str, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """Open a listener of a kind on its defaults, which are moved to free ports of loopback."""
    for module in (http01, tls_alpn01, dns01_server):
        assert [address.host for address in module.DEFAULT_LISTENERS] == ["0.0.0.0", "::"]  # noqa: S104 - CAs
        monkeypatch.setattr(module, "DEFAULT_LISTENERS", DEFAULTS)
    assert [address.host for address in MGMT_LISTENERS] == ["127.0.0.1", "::1"]
    if kind == "tls-alpn01":
        return Listener.of(tls_alpn01.TlsAlpn01("tls", DEFAULTS).plan()).open()
    if kind == "dns01-server":
        zone = Zone(dns.name.from_text("acme.example.org"), [])
        return Listener.of(dns01_server.DnsServer("dns", zone, DEFAULTS).plan()).open()
    return Listener(kind, DEFAULTS, HttpService(Application()), defaults=DEFAULTS).open()


class TestBinding:
    def test_no_other_error_is_missed(self) -> None:
        """A default address that somebody else listens on is an error all the same."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = Address("127.0.0.1", other.getsockname()[1])
            with pytest.raises(OSError, match="cannot listen") as caught:
                listening_on(V4, taken, defaults=(V4, taken))
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, str(taken))

    def test_ipv6_sockets_are_for_ipv6_only(self) -> None:
        """All addresses of IPv6 leave those of IPv4 to a socket of their own."""
        bound = bind([Address("::", 0)])
        (sock,) = bound.streams
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        bound.close()

    def test_datagrams_come_to_the_same_port(self) -> None:
        """Where datagrams are taken too, their sockets have the addresses and ports of the others."""
        bound = bind([V4, V6], datagrams=True)
        assert [sock.getsockname() for sock in bound.datagrams] == [
            sock.getsockname() for sock in bound.streams
        ]
        bound.close()

    def test_a_port_that_is_taken_for_datagrams(self) -> None:
        """A port that only datagrams cannot have is not listened on at all, and named."""
        zone = Zone(dns.name.from_text("acme.example.org"), [])
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            taken = Address("127.0.0.1", free_port())
            other.bind((taken.host, taken.port))
            listener = Listener.of(name_server_plan("dns", zone, [taken], 1))
            with pytest.raises(OSError, match="cannot listen") as caught:
                listener.open()
            assert caught.value.filename == str(taken)
            socket.create_server((taken.host, taken.port)).close()

    def test_small_answers_are_sent_at_once(self) -> None:
        """Accepted connections have TCP_NODELAY, which they inherit."""
        bound = bind([V4])
        (sock,) = bound.streams
        with socket.create_connection(sock.getsockname()):
            sock.setblocking(True)
            accepted, _ = sock.accept()
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            accepted.close()
        bound.close()
