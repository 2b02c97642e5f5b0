"""The sockets of the name server: both transports, limits, and strangers of every kind."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import pytest
from tests.fake_ca import Time
from tests.listening import look_around
from tests.peers.process import wait_until

from acmems.dns.server import NameServer, Zone, name_server_plan
from acmems.dns.server.rates import Rates, Verdict
from acmems.net.address import Address
from acmems.net.listening import Listener
from acmems.system.clock import SYSTEM, Clock

ORIGIN = dns.name.from_text("acme.example.org")
QUERY = dns.message.make_query("www.acme.example.org", "TXT")


@contextlib.contextmanager
def running(limit: int = 1000, clock: Clock = SYSTEM, value: str = "value") -> Iterator[Listener]:
    zone = Zone(ORIGIN, [NameServer(dns.name.from_text("ns.example.org"))])
    zone.add(dns.name.from_text("www", ORIGIN), value, lambda: None)
    plan = name_server_plan("dns test", zone, [Address("127.0.0.1", 0)], limit, clock=clock)
    service = Listener.of(plan, clock).open()
    try:
        yield service
    finally:
        service.close()


def framed(message: dns.message.Message) -> bytes:
    wire = message.to_wire()
    return len(wire).to_bytes(2, "big") + wire


def test_udp_and_tcp_are_answered_on_one_port() -> None:
    """It answers over UDP and TCP on one port, and after its end over neither."""
    with running() as service:
        (taken,) = service.addresses
        for ask in (dns.query.udp, dns.query.tcp):
            reply = ask(QUERY, "127.0.0.1", timeout=30, port=taken.port)
            assert reply.answer[0][0].to_text() == '"value"'
        assert service.is_healthy()
    assert not service.is_healthy()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", taken.port), 5)


def test_several_questions_on_one_connection() -> None:
    """Questions on one TCP connection are answered in turn, however they are cut into pieces."""
    with running() as service, socket.create_connection(("127.0.0.1", service.addresses[0].port), 30) as sock:
        data = framed(QUERY) * 3
        for octet in data:
            sock.send(bytes([octet]))
        for _ in range(3):
            reply, _ = dns.query.receive_tcp(sock)
            assert reply.id == QUERY.id


def test_silent_connections_are_closed() -> None:
    """A connection that says nothing whole for five seconds is closed, and others are served meanwhile."""
    time = Time()
    now = [time.clock().monotonic()]
    clock = Clock(monotonic=lambda: now[0])
    with running(clock=clock) as service:
        where = ("127.0.0.1", service.addresses[0].port)
        with socket.create_connection(where, 30) as silent:
            silent.send(b"\x00")
            dns.query.udp(QUERY, *where[:1], timeout=30, port=where[1])
            wait_until(lambda: bool(service.connections), "it is accepted")
            now[0] += 5.1
            dns.query.udp(QUERY, *where[:1], timeout=30, port=where[1])
            assert silent.recv(1) == b""


def test_who_goes_on_asking_is_kept() -> None:
    """The time of a connection begins anew with each message that is whole."""
    now = [1000.0]
    with (
        running(clock=Clock(monotonic=lambda: now[0])) as service,
        socket.create_connection(("127.0.0.1", service.addresses[0].port), 30) as sock,
    ):
        for _ in range(4):
            sock.sendall(framed(QUERY))
            assert dns.query.receive_tcp(sock)[0].id == QUERY.id
            now[0] += 3.0
            look_around(service)
        now[0] += 2.1
        assert sock.recv(1) == b""


def test_what_was_asked_before_the_end_is_answered() -> None:
    """A client that sends no more gets its answers, and then the end."""
    with running() as service, socket.create_connection(("127.0.0.1", service.addresses[0].port), 30) as sock:
        sock.sendall(framed(QUERY) * 3)
        sock.shutdown(socket.SHUT_WR)
        for _ in range(3):
            assert dns.query.receive_tcp(sock)[0].id == QUERY.id
        assert sock.recv(1) == b""


def test_the_oldest_connection_makes_room() -> None:
    """Of more than a hundred connections the longest silent goes, and the newest is answered."""
    with running() as service, contextlib.ExitStack() as stack:
        where = ("127.0.0.1", service.addresses[0].port)
        many = [stack.enter_context(socket.create_connection(where, 30)) for _ in range(101)]
        assert many[0].recv(1) == b""
        many[-1].sendall(framed(QUERY))
        assert dns.query.receive_tcp(many[-1])[0].id == QUERY.id


def test_a_client_that_takes_no_answers() -> None:
    """Whoever asks on and on without reading costs a bounded buffer and no other client's answer."""
    with running() as service:
        where = ("127.0.0.1", service.addresses[0].port)
        with socket.create_connection(where) as greedy:
            greedy.setblocking(False)
            sent = 0
            with contextlib.suppress(BlockingIOError):
                while sent < 50_000_000:
                    sent += greedy.send(framed(QUERY) * 1000)
            dns.query.udp(QUERY, "127.0.0.1", timeout=30, port=where[1])
            wait_until(lambda: bool(service.connections), "it is accepted")
            (stream,) = service.connections
            assert stream.channel.pending < 2 * 65536


def test_a_network_over_the_rate_is_sent_to_tcp() -> None:
    """A network that asks too often is sent to TCP, where it is answered."""
    with running(limit=2, clock=Clock(monotonic=lambda: 1.0)) as service:
        port = service.addresses[0].port
        flags = []
        for _ in range(4):
            reply = dns.query.udp(
                QUERY, "127.0.0.1", timeout=30, port=port, raise_on_truncation=False, ignore_errors=False
            )
            flags.append(bool(reply.flags & dns.flags.TC))
        assert flags == [False, False, True, True]
        assert dns.query.tcp(QUERY, "127.0.0.1", timeout=30, port=port).answer


def test_answers_are_made_as_they_are_taken() -> None:
    """However many questions have come, not many more answers are made than the client takes."""
    zone = Zone(ORIGIN, [])
    zone.add(dns.name.from_text("www", ORIGIN), "v" * 200, lambda: None)
    listener = Listener.of(name_server_plan("dns test", zone, [], 1000))
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    asked = 65000 // len(framed(QUERY))
    with contextlib.closing(listener), theirs:
        theirs.sendall(framed(QUERY) * asked)
        connection = listener.admit(ours, ("192.0.2.1", 4711))
        while listener.turn():
            pass
        theirs.setblocking(False)
        received = bytearray(theirs.recv(1_000_000))
        assert 0 < len(received) + connection.channel.pending < 20_000
        while listener.turn() or connection.channel.pending:
            with contextlib.suppress(BlockingIOError):
                received += theirs.recv(1_000_000)
        size = 2 + int.from_bytes(received[:2], "big")
        with contextlib.suppress(BlockingIOError):
            received += theirs.recv(1_000_000)
        assert len(received) == asked * size


def test_datagrams_do_not_wait_for_connections() -> None:
    """Of many questions on each connection a few are answered before datagrams have their turn again."""
    zone = Zone(ORIGIN, [])
    zone.add(dns.name.from_text("www", ORIGIN), "value", lambda: None)
    listener = Listener.of(name_server_plan("dns test", zone, [], 1000))
    asked = 500
    with contextlib.closing(listener), contextlib.ExitStack() as stack:
        clients = []
        for port in range(3):
            ours, theirs = socket.socketpair()
            clients.append(stack.enter_context(theirs))
            theirs.sendall(framed(QUERY) * asked)
            theirs.shutdown(socket.SHUT_WR)
            listener.admit(ours, ("192.0.2.1", port))
        answered = [_answers(client) for client in clients]
        while listener.connections:
            listener.turn()
            answers = [_answers(client) for client in clients]
            assert max(answers) <= 4
            answered = [sum(both) for both in zip(answered, answers, strict=True)]
        assert answered == [asked] * 3


def test_a_datagram_waits_for_one_connection_at_most() -> None:
    """A question that comes by UDP while many connections are served is answered after the next of them."""
    zone = Zone(ORIGIN, [])
    by_udp = dns.message.make_query("udp.acme.example.org", "TXT")
    answered: list[str] = []
    with socket.socket(type=socket.SOCK_DGRAM) as client, contextlib.ExitStack() as stack:

        def note_stream() -> None:
            answered.append("tcp")
            if len(answered) == 1:
                client.send(by_udp.to_wire())

        zone.add(dns.name.from_text("www", ORIGIN), "value", note_stream)
        zone.add(dns.name.from_text("udp", ORIGIN), "value", lambda: answered.append("udp"))
        listener = stack.enter_context(
            contextlib.closing(
                Listener.of(name_server_plan("dns test", zone, [Address("127.0.0.1", 0)], 1000))
            )
        )
        listener.bind()
        client.connect(("127.0.0.1", listener.addresses[0].port))
        client.send(dns.message.make_query("acme.example.org", "SOA").to_wire())
        assert listener.turn()
        many = []
        for port in range(20):
            ours, theirs = socket.socketpair()
            many.append(stack.enter_context(theirs))
            listener.admit(ours, ("192.0.2.1", port))
        for each in many:
            each.sendall(framed(QUERY) * 100)
        while len(answered) <= 4 * 4:
            assert listener.turn()
        assert answered.index("udp") <= 2 * 4


def _answers(client: socket.socket) -> int:
    """Return how many answers have come."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        data = client.recv(1_000_000, socket.MSG_DONTWAIT)
    count = 0
    while data:
        data = data[2 + int.from_bytes(data[:2], "big") :]
        count += 1
    return count


class TestRates:
    """How much one network may ask."""

    def test_each_network_has_its_own_rate(self) -> None:
        """Each network has a rate of its own, in each second anew."""
        now = [0.5]
        rates = Rates(1, lambda: now[0])
        assert rates.take("192.0.2.1") is Verdict.ANSWER
        assert rates.take("192.0.2.200") is Verdict.TRUNCATE
        assert rates.take("192.0.3.1") is Verdict.ANSWER
        assert rates.take("2001:db8:0:1::1") is Verdict.ANSWER
        assert rates.take("2001:db8:0:2::1") is Verdict.TRUNCATE
        assert rates.take("fe80::1%eth0") is Verdict.ANSWER
        now[0] = 1.1
        assert rates.take("192.0.2.1") is Verdict.ANSWER

    def test_a_network_far_over_the_rate_is_not_silenced(self) -> None:
        """Whatever is asked far too often is sent to TCP; nothing is dropped that a resolver waits for."""
        rates = Rates(2, lambda: 0.0)
        verdicts = [rates.take("192.0.2.1") for _ in range(5000)]
        assert verdicts == [Verdict.ANSWER] * 2 + [Verdict.TRUNCATE] * 4998

    def test_memory_is_bounded(self) -> None:
        """A flood from everywhere is remembered for ten thousand networks, and the rest is sent to TCP."""
        rates = Rates(5, lambda: 0.0)
        for number in range(10_000):
            rates.take(f"10.{number // 256}.{number % 256}.1")
        assert rates.take("192.0.2.1") is Verdict.TRUNCATE
        assert len(rates._counts) == 10_000


def test_an_address_that_is_taken() -> None:
    """An address that cannot be listened on is named."""
    with running() as service:
        zone = Zone(ORIGIN, [])
        with pytest.raises(OSError, match="in use") as caught:
            Listener.of(name_server_plan("dns second", zone, service.addresses, 1)).open()
        assert caught.value.filename == str(service.addresses[0])


def test_datagrams_that_are_no_queries_get_no_answer() -> None:
    """Datagrams that are nothing are not answered, and the next one is."""
    with running() as service, socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", service.addresses[0].port))
        for junk in (b"", b"x", b"\xff" * 300):
            sock.send(junk)
        sock.settimeout(30)
        sock.send(QUERY.to_wire())
        assert dns.message.from_wire(sock.recv(4096)).id == QUERY.id
        wait_until(service.is_healthy, "it runs")


def test_a_great_many_questions_at_once() -> None:
    """Every question of a long row is answered, however much the answers to the first of them are."""
    with (
        running(value="v" * 200) as service,
        socket.create_connection(("127.0.0.1", service.addresses[0].port), 30) as sock,
    ):
        count = 1500
        sock.sendall(framed(QUERY) * count)
        for _ in range(count):
            assert dns.query.receive_tcp(sock)[0].id == QUERY.id
