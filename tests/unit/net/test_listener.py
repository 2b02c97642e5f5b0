"""A listener with its threads and real sockets, on a clock that moves when told."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from tests.listening import Application, Client, Time, fail, later, post, reply, response
from tests.peers import wait_until

from acmems.net.address import Address
from acmems.net.http import HttpLimits, HttpService
from acmems.net.http.connection import HttpConnection
from acmems.net.http.states import ConnectionState
from acmems.net.listening import Listener, ListenerLimits

LOOPBACK = Address("127.0.0.1", 0)
LIMITS = HttpLimits(read_seconds=10, request_seconds=100, write_seconds=10, idle_seconds=30, linger_seconds=2)
PLACES = ListenerLimits(connections=200, crowd_grace_seconds=1, tick_seconds=0.1)


def listener_on(*addresses: Address) -> Listener:
    return Listener("listener", addresses, HttpService(Application()))


class House:
    """A listener, its application, and clients that come from wherever they like on loopback."""

    def __init__(self) -> None:
        self.time = Time()
        self.application = Application()
        service = HttpService(self.application, LIMITS)
        self.listener = Listener("listener", [LOOPBACK], service, limits=PLACES, clock=self.time.clock).open()
        self.clients: list[Client] = []

    def connect(self, source: str = "127.0.0.1") -> Client:
        place = self.listener.addresses[0]
        client = Client(socket.create_connection((place.host, place.port), 30, (source, 0)))
        self.clients.append(client)
        return client

    def wait_for(self, connections: int) -> None:
        wait_until(lambda: len(self.open) == connections, f"{connections} connections are open")

    def wait_for_bytes(self, connections: int) -> None:
        """Wait until so many connections have read the first bytes of a request, and no more than those."""
        wait_until(lambda: self.states.count(ConnectionState.READING) == connections, "bytes are read")

    @property
    def open(self) -> list[HttpConnection]:
        return [one for one in self.listener.connections if isinstance(one, HttpConnection)]

    @property
    def states(self) -> list[ConnectionState]:
        return [connection.state for connection in self.open]

    def close(self) -> None:
        for exchange in self.application.running:
            reply(exchange)
        self.listener.close()
        for client in self.clients:
            client.socket.close()


@pytest.fixture
def house() -> Iterator[House]:
    """A listener that serves."""
    house = House()
    yield house
    assert house.listener.is_healthy()
    house.close()


class TestAddresses:
    def test_real_ports_are_told(self) -> None:
        """Port 0 becomes a real one on each address."""
        listener = listener_on(LOOPBACK, LOOPBACK)
        listener.bind()
        ports = [address.port for address in listener.addresses]
        listener.close()
        assert 0 not in ports
        assert len(set(ports)) == 2

    def test_all_or_none(self) -> None:
        """Where one address is taken the others are let go, and the error names it."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = Address("127.0.0.1", other.getsockname()[1])
            listener = listener_on(LOOPBACK, taken)
            with pytest.raises(OSError, match="cannot listen") as caught:
                listener.bind()
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == str(taken)
        assert listener.addresses == ()
        listener.close()

    def test_a_name_with_several_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each address of a name is listened on; one that this machine lacks is missed in silence."""
        found = [(socket.AF_INET, 1, 6, "", (host, 0)) for host in ("127.0.0.1", "127.0.0.2", "192.0.2.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        listener = listener_on(Address("several.example", 0))
        listener.bind()
        assert [address.host for address in listener.addresses] == ["127.0.0.1", "127.0.0.2"]
        listener.close()

    def test_a_name_that_is_none(self) -> None:
        """A host that cannot be found is an error that names it."""
        listener = listener_on(Address("nowhere.invalid", 1))
        with pytest.raises(OSError, match="cannot listen") as caught:
            listener.bind()
        assert caught.value.filename == "nowhere.invalid:1"
        listener.close()


class TestServing:
    def test_many_clients_at_once(self, house: House) -> None:
        """Each of many clients gets its own answers, and is known by its address."""
        clients = [house.connect(f"127.0.0.{number}") for number in range(1, 51)]
        for turn, (number, client) in itertools.product(range(3), enumerate(clients)):
            client.send(post(f"/{number}/{turn}"))
        for turn, (number, client) in itertools.product(range(3), enumerate(clients)):
            assert client.answer() == ("200", b"/%d/%d " % (number, turn))
        assert {exchange.client_address[0] for exchange in house.application.running} == {
            f"127.0.0.{number}" for number in range(1, 51)
        }

    def test_answers_from_other_threads(self, house: House) -> None:
        """Answers given by other threads, in any order, reach those who asked."""
        house.application.on_run = lambda exchange: threading.Thread(target=reply, args=(exchange,)).start()
        clients = [house.connect() for _ in range(20)]
        for turn in range(5):
            for number, client in enumerate(clients):
                client.send(post(f"/{number}/{turn}"))
            for number, client in enumerate(clients):
                assert client.answer() == ("200", b"/%d/%d " % (number, turn))

    @pytest.mark.threat("http", "crowds")
    def test_waiting_costs_no_thread(self, house: House) -> None:
        """While many requests wait for their answers, others are served by the same few threads."""
        threads = threading.active_count()
        house.application.on_run = later
        waiting = [house.connect() for _ in range(100)]
        for client in waiting:
            client.send(post("/waiting"))
        house.application.wait_for(100)
        house.application.on_run = reply
        assert house.connect().ask(post("/now")) == ("200", b"/now ")
        assert threading.active_count() <= threads  # some of earlier tests may have ended meanwhile
        for exchange in house.application.running[:100]:
            reply(exchange)
        assert {client.answer() for client in waiting} == {("200", b"/waiting ")}

    def test_a_client_that_hangs_up(self, house: House) -> None:
        """A client that breaks its connection while the application works leaves nothing behind."""
        house.application.on_run = later
        client = house.connect()
        client.send(post())
        exchange = house.application.wait_for(1)
        client.reset()
        house.wait_for(0)
        assert exchange.gone
        reply(exchange)

    def test_a_bug_of_the_house_costs_one_connection(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An error that nobody foresaw closes its connection, is logged, and leaves all threads alive."""
        monkeypatch.setattr("acmems.net.http.connection.Exchange", fail(RuntimeError("unforeseen")))
        assert house.connect().ask(post()) == ("", b"")
        assert "unforeseen" in caplog.text
        house.wait_for(0)
        monkeypatch.undo()
        assert house.connect().ask(post())[0] == "200"


class TestDeadlines:
    @pytest.mark.threat("http", "slow clients")
    @pytest.mark.parametrize(
        ("sent", "status"),
        [(b"", ""), (b"POST /", "408"), (post()[:-2], "408"), (post("/", b"body")[:-1], "408")],
        ids=["silent", "line", "headers", "body"],
    )
    def test_slow_clients(self, house: House, sent: bytes, status: str) -> None:
        """Who does not send a whole request in time is shown out; others are served meanwhile."""
        slow = [house.connect() for _ in range(30)]
        for client in slow:
            client.send(sent)
        good = house.connect()
        assert good.ask(post())[0] == "200"
        house.wait_for(31)
        house.wait_for_bytes(30 if sent else 0)
        house.time.now += 10
        assert {client.answer()[0] for client in slow} == {status}
        assert all(client.ended for client in slow)
        house.time.now += 2
        house.wait_for(1)
        assert good.ask(post())[0] == "200"

    def test_an_application_that_never_answers(self, house: House) -> None:
        """A request without an answer in time is refused as late, and its connection freed."""
        house.application.on_run = later
        client = house.connect()
        client.send(post())
        exchange = house.application.wait_for(1)
        house.time.now += 100
        assert client.answer()[0] == "DeadlinePassed"
        assert client.ended
        reply(exchange)
        house.time.now += 2
        house.wait_for(0)

    @pytest.mark.threat("http", "slow clients")
    def test_a_client_that_does_not_read(self, house: House) -> None:
        """A client that does not take its answer costs a socket for some seconds, and no thread."""
        house.application.on_run = lambda exchange: exchange.answer(response("200", b"x" * 20_000_000))
        client = house.connect()
        client.send(post())
        house.application.wait_for(1)
        house.application.on_run = reply
        assert house.connect().ask(post())[0] == "200"
        wait_until(lambda: ConnectionState.WRITING in house.states, "it is sent")
        house.time.now += 10
        house.wait_for(1)

    def test_a_bug_in_one_connection_keeps_no_other_waiting(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Deadlines are enforced although one connection raises when its own passes."""
        expire, stumbles = HttpConnection.expire, iter([True])

        def stumble(connection: HttpConnection) -> None:
            if next(stumbles, False):
                raise RuntimeError("stumbled")
            expire(connection)

        monkeypatch.setattr(HttpConnection, "expire", stumble)
        clients = [house.connect() for _ in range(3)]
        for client in clients:
            client.send(b"P")
        house.wait_for_bytes(3)
        house.time.now += 10
        assert sorted(client.answer()[0] for client in clients) == ["", "408", "408"]
        assert "stumbled" in caplog.text


class TestLimits:
    @pytest.mark.threat("http", "crowds")
    def test_an_attack_is_bounded(self, house: House) -> None:
        """Of hundreds of silent connections of one address, four fifths of the places are taken."""
        idle = house.connect()
        assert idle.ask(post())[0] == "200"
        attack = [house.connect("127.0.0.66") for _ in range(300)]
        house.wait_for(160)
        good = house.connect()
        assert good.ask(post())[0] == "200"
        assert idle.ask(post())[0] == "200"
        house.time.now += 1.5  # so that those that wait get the places of those that do not ask
        attack[-1].send(post())
        assert attack[-1].answer()[0] == "200"

    def test_newcomers_get_their_moment(self, house: House) -> None:
        """A crowd that has only just come is not taken for an attack."""
        crowd = [house.connect() for _ in range(100)]
        house.wait_for(100)
        house.time.now += 0.9
        assert all(client.ask(post())[0] == "200" for client in crowd)

    def test_waiting_for_answers_is_no_attack(self, house: House) -> None:
        """Connections whose requests are being worked on are never ended for others."""
        house.application.on_run = later
        crowd = [house.connect() for _ in range(200)]
        for client in crowd:
            client.send(post())
        house.application.wait_for(160)
        house.time.now += 5
        for exchange in house.application.running[:160]:
            reply(exchange)
        house.time.now += 2
        for number in range(160, 200):
            reply(house.application.wait_for(number + 1))
        assert {client.answer()[0] for client in crowd} == {"200"}


class Failing(socket.socket):
    """A listening socket of which `accept` fails for some time."""

    error: OSError | None = None
    calls = 0

    @classmethod
    def has_been_called(cls, times: int) -> bool:
        return cls.calls >= times

    def accept(self) -> tuple[socket.socket, object]:
        type(self).calls += 1
        if self.error is not None:
            raise self.error
        return super().accept()


class TestAcceptErrors:
    @pytest.fixture
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[House, type[Failing]]]:
        """A listener on a socket that can be told to fail."""
        kind = type("Failing", (Failing,), {})
        monkeypatch.setattr(socket, "socket", kind)
        house = House()
        monkeypatch.undo()
        yield house, kind
        house.close()

    @pytest.mark.threat("http", "crowds")
    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
    def test_no_descriptors(
        self, failing: tuple[House, type[Failing]], caplog: pytest.LogCaptureFixture, number: int
    ) -> None:
        """Without descriptors clients wait; that is said once, and silent connections make room."""
        house, kind = failing
        silent = house.connect()
        house.wait_for(1)
        kind.error = OSError(number, os.strerror(number))
        client = house.connect()
        client.send(post())
        for tries in range(2, 6):
            wait_until(functools.partial(kind.has_been_called, tries), "it is tried again")
            house.time.now += PLACES.tick_seconds
        assert client.silent
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert os.strerror(number) in caplog.text
        house.time.now += 1.5
        assert silent.ended
        kind.error = None
        house.time.now += PLACES.tick_seconds
        assert client.answer()[0] == "200"

    @pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
    def test_clients_that_are_gone(self, failing: tuple[House, type[Failing]], number: int) -> None:
        """An error that is one client's own leaves the next ones alone."""
        house, kind = failing
        kind.error = OSError(number, os.strerror(number))
        client = house.connect()
        wait_until(lambda: kind.calls > 1, "it fails")
        kind.error = None
        assert client.ask(post())[0] == "200"


class TestStopping:
    def test_running_requests_are_answered(self, house: House) -> None:
        """After the stop nobody is accepted, the idle are gone, and who waits still gets an answer."""
        idle, waiting = house.connect(), house.connect()
        assert idle.ask(post())[0] == "200"
        house.application.on_run = later
        waiting.send(post("/last"))
        exchange = house.application.wait_for(2)
        place = house.listener.addresses[0]
        house.time.now += PLACES.grace_seconds
        house.listener.stop_accepting()
        assert idle.ended
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((place.host, place.port), 30)
        assert not house.listener.drain(house.time.clock.deadline(0))
        reply(exchange)
        assert waiting.answer() == ("200", b"/last ")
        assert house.listener.drain(house.time.clock.deadline(60))
        assert waiting.ended

    def test_a_request_that_is_half_here_may_come(self, house: House) -> None:
        """A request whose first bytes came before the stop is waited for and answered."""
        client = house.connect()
        client.send(post()[:10])
        house.wait_for_bytes(1)
        house.listener.stop_accepting()
        client.send(post()[10:])
        assert client.answer()[0] == "200"
        assert client.ended

    def test_closing_ends_everything(self) -> None:
        """After `close` no thread is left, and no connection."""
        house = House()
        before = {thread.name for thread in threading.enumerate()}
        assert "acmems-listener" in before
        house.application.on_run = later
        clients = [house.connect() for _ in range(3)]
        clients[0].send(post())
        clients[1].send(b"P")
        exchange = house.application.wait_for(1)
        house.wait_for(3)
        house.listener.close()
        assert not any(thread.name.startswith("acmems-listener") for thread in threading.enumerate())
        assert all(client.ended for client in clients)
        assert house.open == []
        assert exchange.gone
        reply(exchange)
        for client in clients:
            client.socket.close()
