"""Sockets that are inherited, and those of a server whose listeners change while it runs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from tests.peers import free_port

from acmems.net.address import Address
from acmems.net.listening import Binder, BoundSocket, BoundSockets, SocketPool

LOOPBACK = "127.0.0.1"
ANY = "0.0.0.0"  # noqa: S104 - a test's own


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def inherited(port: int) -> Iterator[socket.socket]:
    """A socket that listens, as systemd opens them."""
    with socket.create_server((LOOPBACK, port)) as sock:
        yield sock


def sockets(bound: BoundSockets) -> list[socket.socket]:
    return [each.socket for each in bound.bound]


class TestPool:
    def test_a_socket_is_found_by_its_address(self, inherited: socket.socket, port: int) -> None:
        """A listener takes what is bound to its address; nothing of it is unused then."""
        pool = SocketPool([inherited])
        bound = Binder(pool).bind([Address(LOOPBACK, port)])
        assert sockets(bound) == [inherited]
        assert pool.unused == ()

    @pytest.mark.parametrize("host", ["127.0.0.2", "::1"])
    def test_other_addresses_are_not_taken(self, inherited: socket.socket, port: int, host: str) -> None:
        """The same port of another address is another socket."""
        pool = SocketPool([inherited])
        bound = Binder(pool).bind([Address(host, port)])
        assert pool.unused == (inherited,)
        bound.close()

    def test_it_goes_back(self, inherited: socket.socket, port: int) -> None:
        """What a listener does not need any more stays open, for the next one; others are closed."""
        pool = SocketPool([inherited])
        for _ in range(2):
            bound = Binder(pool).bind([Address(LOOPBACK, port), Address("127.0.0.2", 0)])
            first, second = sockets(bound)
            bound.close()
            assert (first, pool.unused) == (inherited, (inherited,))
            assert second.fileno() == -1
            socket.create_connection((LOOPBACK, port), 10).close()

    def test_connections_and_other_families(self, inherited: socket.socket, port: int) -> None:
        """A connection and a socket of another family are nobody's, whatever their addresses are."""
        client = socket.create_connection((LOOPBACK, port), 10)
        connected, _ = inherited.accept()
        ours, theirs = socket.socketpair()
        with client, connected, ours, theirs:
            pool = SocketPool([connected, ours])
            with pytest.raises(OSError, match="cannot listen"):
                Binder(pool).bind([Address(LOOPBACK, port)])
            assert pool.unused == (connected, ours)

    def test_datagrams_have_sockets_of_their_own(self, inherited: socket.socket, port: int) -> None:
        """Where only one kind is inherited, the other is opened."""
        bound = Binder(SocketPool([inherited])).bind([Address(LOOPBACK, port)], datagrams=True)
        assert bound.streams == [inherited]
        assert [sock.getsockname() for sock in bound.datagrams] == [(LOOPBACK, port)]
        bound.close()

    @pytest.mark.parametrize("hosts", [(ANY, "::"), ("::", ANY), (ANY,)])
    def test_one_for_both_families(self, port: int, hosts: tuple[str, ...]) -> None:
        """What takes IPv4 and IPv6 is both, in either order."""
        both = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        with both:
            pool = SocketPool([both])
            addresses = [Address(host, port) for host in hosts]
            bound = Binder(pool).bind(addresses)
            assert sockets(bound) == [both]
            again = Binder(pool, bound.bound).bind(addresses, own=bound.bound)
            assert sockets(again) == [both]

    def test_what_takes_one_family_only(self, port: int) -> None:
        """A socket for IPv6 alone leaves IPv4 to another."""
        place = ("::", port)
        with socket.create_server(place, family=socket.AF_INET6) as alone:
            bound = Binder(SocketPool([alone])).bind([Address("::", port), Address(ANY, port)])
            assert len(bound.bound) == 2
            bound.remove([alone])
            bound.close()


class TestChanges:
    """What becomes of the sockets of a server that is to listen elsewhere."""

    @pytest.fixture
    def held(self, port: int) -> Iterator[BoundSockets]:
        """What a listener has."""
        bound = Binder().bind([Address(LOOPBACK, port)])
        yield bound
        bound.close()

    def test_an_address_keeps_its_socket(self, held: BoundSockets, port: int) -> None:
        """The same address has the same socket, whoever has it and however it is written."""
        for host, own in ((LOOPBACK, held.bound), (LOOPBACK, []), ("localhost", held.bound)):
            binder = Binder(held=held.bound)
            bound = binder.bind([Address(host, port)], own=own)
            assert sockets(held)[0] in sockets(bound)
            binder.abort()

    def test_any_free_port_stays(self) -> None:
        """Port 0 is chosen once."""
        address = Address(LOOPBACK, 0)
        held = Binder().bind([address])
        assert sockets(Binder(held=held.bound).bind([address], own=held.bound)) == sockets(held)
        held.close()

    def test_no_address_has_two_listeners(self, held: BoundSockets, port: int) -> None:
        """Two that want one address are refused as at a start, whether it is old or new."""
        free = free_port()
        for taken in (port, free):
            binder = Binder(held=held.bound)
            binder.bind([Address(LOOPBACK, taken)])
            for host in (LOOPBACK, "localhost"):
                with pytest.raises(OSError, match="cannot listen") as caught:
                    binder.bind([Address(host, taken)])
                assert caught.value.errno == errno.EADDRINUSE
            binder.abort()
        binder = Binder(held=held.bound)
        binder.bind([Address(LOOPBACK, port)])
        with pytest.raises(OSError, match="cannot listen") as caught:
            binder.bind([Address(LOOPBACK, port)], own=held.bound)
        assert caught.value.filename == f"{LOOPBACK}:{port}"

    def test_all_addresses_in_the_place_of_one(self, held: BoundSockets, port: int) -> None:
        """A wider address is bound beside the narrow one, which stays in use, and needs not come back."""
        wide = Address(ANY, port)
        bound = Binder(held=held.bound).bind([wide], own=held.bound)
        assert len(bound.bound) == 2
        assert sockets(held)[0] in sockets(bound)
        assert {each.wanted for each in bound.bound} == {wide}
        assert sockets(Binder(held=bound.bound).bind([wide], own=bound.bound)) == sockets(bound)
        narrow = Binder(held=bound.bound).bind([Address(LOOPBACK, port)], own=bound.bound)
        assert sockets(narrow) == sockets(held)
        bound.remove(sockets(held))
        bound.close()

    def test_one_address_in_the_place_of_all(self, port: int) -> None:
        """A narrower address is bound beside the wide one."""
        held = Binder().bind([Address(ANY, port)])
        bound = Binder(held=held.bound).bind([Address(LOOPBACK, port)], own=held.bound, datagrams=True)
        held.close()
        socket.create_connection((LOOPBACK, port), 10).close()
        bound.close()

    def test_strangers_cannot_join(self, held: BoundSockets, port: int) -> None:
        """Sockets may overlap only while they are bound, unless they could before."""
        shared = socket.socket()
        with shared:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind((LOOPBACK, 0))
            elsewhere = BoundSocket(shared, Address(LOOPBACK, 0))
            Binder(held=[elsewhere]).bind([Address(LOOPBACK, 0)]).close()
            assert shared.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        bound = Binder(held=held.bound).bind([Address(ANY, port)], own=held.bound)
        for sock in sockets(bound):
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        bound.remove(sockets(held))
        bound.close()

    def test_a_change_that_is_given_up(self, held: BoundSockets, inherited_elsewhere: socket.socket) -> None:
        """What was bound is closed, what was inherited goes back, what was there before stays."""
        pool = SocketPool([inherited_elsewhere])
        binder = Binder(pool, held.bound)
        bound = binder.bind([*(each.wanted for each in held.bound), Address(LOOPBACK, 0)], own=held.bound)
        binder.bind([Address(*inherited_elsewhere.getsockname())])
        binder.abort()
        assert [sock.fileno() == -1 for sock in sockets(bound)] == [False, True]
        assert pool.unused == (inherited_elsewhere,)

    @pytest.fixture
    def inherited_elsewhere(self) -> Iterator[socket.socket]:
        with socket.create_server((LOOPBACK, free_port())) as sock:
            yield sock
