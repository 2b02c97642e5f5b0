"""More clients than places: who is ended for whom, in one thread and on a clock that moves when told."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import socket
from collections.abc import Iterator, Sequence

import pytest
from tests.listening import BIG, Application, Client, Time, later, post, reply, response

from acmems.net.address import Address, parse_network
from acmems.net.http import Exchange, HttpLimits, HttpService
from acmems.net.listening import Listener, ListenerLimits, Occupancy
from acmems.net.listening.shares import PROXIES, share_of

PLACES = 40
ALONE = 32
"""Places that one address may have: four fifths."""
GRACE = 1.0
CROWD_GRACE = 8.0
TICK = 0.25


class Crowd:
    """A listener for HTTP with forty places, and clients that come from wherever they like on loopback."""

    def __init__(self, *, waiting: int = 1000, addresses: int = 1, proxies: Sequence[str] = ()) -> None:
        trusted = [parse_network(proxy) for proxy in proxies]
        self.time = Time()
        self.application = Application()
        self.listener = Listener(
            "crowd",
            [Address("127.0.0.1", 0)] * addresses,
            HttpService(self.application, HttpLimits(read_seconds=1000, idle_seconds=1000), trusted),
            limits=ListenerLimits(PLACES, waiting, GRACE, CROWD_GRACE, TICK),
            trusted_proxies=trusted,
            clock=self.time.clock,
        )
        self.listener.bind()
        self.clients: list[Client] = []

    def connect(self, source: str = "127.0.0.1", address: int = 0) -> Client:
        place = self.listener.addresses[address]
        client = Client(socket.create_connection((place.host, place.port), 30, (source, 0)))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent is there at once
        self.clients.append(client)
        return client

    def come(self, count: int = 1, *, data: bytes = b"", apart: float = 0.0) -> list[Client]:
        """Let so many clients come, each from an address of its own, one after the other."""
        clients = []
        for _ in range(count):
            number = len(self.clients)
            client = self.connect(f"127.1.{number // 250}.{number % 250 + 1}")
            client.send(data)
            clients.append(client)
            if apart:
                self.go()
                self.time.now += apart
        self.go()
        return clients

    def go(self) -> None:
        """Let the listener do all that it can do now."""
        while self.listener.turn():
            pass

    def pass_(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        end = self.time.now + seconds
        while self.time.now < end:
            self.time.now = min(end, self.time.now + TICK)
            self.go()

    def close(self) -> None:
        self.listener.close()
        for client in self.clients:
            client.socket.close()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.close()


def ended(clients: Sequence[Client]) -> list[int]:
    """Return which clients have seen the end of their connection."""
    return [number for number, client in enumerate(clients) if not client.silent and client.ended]


class TestRoomForOne:
    @pytest.mark.threat("http", "crowds")
    def test_one_newcomer_costs_one_connection(self, crowd: Crowd) -> None:
        """Of forty idle connections at a limit of forty, a newcomer ends one: the longest idle."""
        idle = crowd.come(PLACES, apart=0.01)
        crowd.pass_(GRACE)
        (newcomer,) = crowd.come(data=post("/new"))
        crowd.pass_(TICK)
        assert newcomer.answer() == ("200", b"/new ")
        assert ended(idle) == [0]

    def test_each_newcomer_costs_one_connection_at_most(self, crowd: Crowd) -> None:
        """Newcomers that are served at once share the place that one idle connection had."""
        idle = crowd.come(PLACES, apart=0.01)
        crowd.pass_(GRACE)
        newcomers = crowd.come(100, data=post("/new", b"", "Connection: close"))
        crowd.pass_(TICK)
        assert {client.answer() for client in newcomers} == {("200", b"/new ")}
        assert ended(idle) == [0]

    def test_newcomers_that_stay_cost_one_connection_each(self, crowd: Crowd) -> None:
        """Newcomers whose requests take long each have the place of the one that was idle longest."""
        idle = crowd.come(PLACES, apart=0.01)
        crowd.pass_(GRACE)
        crowd.application.on_run = later
        crowd.come(7, data=post())
        crowd.pass_(TICK)
        assert len(crowd.application.running) == 7
        assert ended(idle) == list(range(7))

    def test_nobody_is_ended_where_nobody_waits(self, crowd: Crowd) -> None:
        """A full listener ends nobody as long as nobody else comes."""
        idle = crowd.come(PLACES)
        crowd.pass_(10 * GRACE)
        assert ended(idle) == []

    def test_who_has_just_come_stays(self, crowd: Crowd) -> None:
        """Who came just before a newcomer keeps its place for a long time, and the newcomer waits."""
        fresh = crowd.come(PLACES)
        crowd.pass_(GRACE - TICK)
        (newcomer,) = crowd.come(data=post())
        crowd.pass_(CROWD_GRACE - GRACE)
        assert newcomer.silent
        assert ended(fresh) == []
        crowd.pass_(TICK)
        assert newcomer.answer()[0] == "200"
        assert len(ended(fresh)) == 1

    def test_a_free_place_is_taken_at_once(self, crowd: Crowd) -> None:
        """When one of those that have a place leaves, who waits has it, and nobody is ended."""
        fresh = crowd.come(PLACES)
        (newcomer,) = crowd.come(data=post())
        assert newcomer.silent
        fresh[17].socket.close()
        crowd.go()
        assert newcomer.answer()[0] == "200"
        assert ended([*fresh[:17], *fresh[18:]]) == []

    def test_room_is_made_between_two_ticks(self, crowd: Crowd) -> None:
        """A newcomer does not wait for the next tick where it is known who can be spared."""
        crowd.come(PLACES)
        crowd.pass_(GRACE)
        for _ in range(5):
            (newcomer,) = crowd.come(data=post())
            assert newcomer.answer()[0] == "200"


class TestWhoGoesFirst:
    def test_those_that_were_served(self, crowd: Crowd) -> None:
        """Kept connections go before silent ones, the longest unused in front, without any grace."""
        silent = crowd.come(PLACES - 3)
        kept = [*crowd.come(2, data=post(), apart=0.01), *crowd.come(data=post())]
        assert {client.answer()[0] for client in kept} == {"200"}
        crowd.time.now += 0.01
        kept[0].send(post())  # which makes it the one that was served last
        crowd.go()
        kept[0].answer()
        crowd.pass_(2 * TICK)
        crowd.application.on_run = later
        crowd.come(2, data=post())
        crowd.pass_(TICK)
        assert ended(kept) == [1, 2]
        assert ended(silent) == []

    def test_then_those_that_have_not_asked(self, crowd: Crowd) -> None:
        """A client that has begun to ask goes like a silent one, and hears why."""
        slow = crowd.come(data=post()[:-1])
        crowd.time.now += 0.01
        silent = crowd.come(PLACES - 1)
        crowd.pass_(GRACE)
        crowd.application.on_run = later
        crowd.come(data=post())
        crowd.pass_(TICK)
        assert slow[0].answer()[0] == "408"
        assert slow[0].ended
        assert ended(silent) == []

    def test_not_who_has_just_begun_to_ask(self, crowd: Crowd) -> None:
        """A kept connection on which a request has just begun to come is as good as a new one."""
        (kept,) = crowd.come(data=post())
        assert kept.answer()[0] == "200"
        silent = crowd.come(PLACES - 1)
        crowd.pass_(10 * GRACE)
        kept.send(post()[:-1])
        crowd.go()
        crowd.application.on_run = later
        crowd.come(PLACES - 1, data=post())
        crowd.pass_(TICK)
        assert ended(silent) == list(range(PLACES - 1))
        kept.send(post()[-1:])
        crowd.go()
        reply(crowd.application.running[-1])
        assert kept.answer()[0] == "200"

    def test_never_those_that_have_asked(self, crowd: Crowd) -> None:
        """Whoever waits for an answer keeps its place, whoever else comes, until it has the answer."""
        crowd.application.on_run = later
        asking = crowd.come(PLACES, data=post())
        late = crowd.come(10, data=post())
        crowd.pass_(10 * GRACE)
        assert len(crowd.application.running) == PLACES
        for exchange in crowd.application.running[:PLACES]:
            reply(exchange)
        crowd.application.on_run = reply
        crowd.pass_(TICK)
        assert {client.answer()[0] for client in asking + late} == {"200"}

    def test_not_who_asks_just_now(self, crowd: Crowd) -> None:
        """A kept connection whose next request has come unread is not ended, but answered."""
        kept = crowd.come(PLACES, data=post())
        assert {client.answer()[0] for client in kept} == {"200"}
        crowd.pass_(TICK)
        crowd.listener._tick()  # the listener knows who can be spared, and has not read what comes now
        for client in kept[:5]:
            client.send(post("/again"))
        assert crowd.listener._acceptor._end_spare()
        assert ended(kept) == [5]
        crowd.go()
        assert {client.answer() for client in kept[:5]} == {("200", b"/again ")}

    def test_not_who_was_served_meanwhile(self, crowd: Crowd) -> None:
        """Who was served after the listener looked for who can be spared is not the longest idle any more."""
        kept = crowd.come(PLACES, data=post())
        assert {client.answer()[0] for client in kept} == {"200"}
        crowd.pass_(TICK)
        crowd.time.now += 0.01
        kept[0].send(post())
        crowd.go()
        assert kept[0].answer()[0] == "200"
        (newcomer,) = crowd.come(data=post())
        assert newcomer.answer()[0] == "200"
        assert ended(kept) == [1]


class TestHerds:
    @pytest.mark.threat("http", "crowds")
    @pytest.mark.parametrize("keep", [True, False], ids=["that stay", "that leave"])
    @pytest.mark.parametrize("one_address", [True, False], ids=["one address", "many addresses"])
    def test_all_are_served(self, crowd: Crowd, keep: bool, one_address: bool) -> None:
        """Of twenty-five times as many clients as places, that hold a connection each, none is lost."""
        request = post("/all") if keep else post("/all", b"", "Connection: close")
        herd = [crowd.connect() for _ in range(1000)] if one_address else crowd.come(1000)
        crowd.go()
        assert len(crowd.listener.connections) == (ALONE if one_address else PLACES)
        for part in range(3):  # slowly: each has its connection long before it asks
            crowd.pass_(CROWD_GRACE / 4)
            for client in herd[part::3]:
                client.send(request)
        crowd.pass_(CROWD_GRACE)
        assert {client.answer() for client in herd} == {("200", b"/all ")}

    def test_connections_are_not_kept_while_others_wait(self, crowd: Crowd) -> None:
        """Where clients wait for places, whoever is answered is told that its connection ends."""
        crowd.application.on_run = later
        first = crowd.come(data=post("/first"))
        crowd.come(PLACES - 1)
        crowd.come(5)
        assert crowd.listener.is_crowded
        silent = crowd.clients[7]
        silent.send(post("/second"))
        crowd.go()
        assert [exchange.keep_alive for exchange in crowd.application.running] == [True, False]
        for exchange in crowd.application.running:
            reply(exchange)
        crowd.go()
        assert first[0].answer()[0] == "200"
        assert silent.answer()[0] == "200"
        assert silent.ended

    def test_each_of_the_listeners_addresses_is_looked_at(self) -> None:
        """Who waits at one of the listener's addresses does not wait for those at another one."""
        crowd = Crowd(addresses=2)
        crowd.application.on_run = later
        many = [crowd.connect("127.0.0.66") for _ in range(3 * PLACES)]
        one = crowd.connect(address=1)
        one.send(post("/one"))
        crowd.go()
        assert [exchange.target for exchange in crowd.application.running] == ["/one"]
        assert not any(client.silent is False for client in many)
        crowd.close()


class TestShares:
    @pytest.mark.threat("fair shares", "thousands of connections")
    @pytest.mark.parametrize("sent", [b"", post()[:-1], post()], ids=["silent", "half a request", "busy"])
    def test_others_find_a_place(self, crowd: Crowd, sent: bytes) -> None:
        """Whatever one address does with its connections, others are served at once."""
        crowd.application.on_run = later
        for _ in range(10 * PLACES):
            crowd.connect("127.0.0.66").send(sent)
        crowd.go()
        assert len(crowd.listener.connections) == ALONE
        crowd.application.on_run = reply
        for _ in range(3):
            others = crowd.come(PLACES - ALONE, data=post("/other", b"", "Connection: close"))
            assert {client.answer() for client in others} == {("200", b"/other ")}

    def test_one_address_has_what_is_free(self, crowd: Crowd) -> None:
        """An address alone has four fifths of the places, and all of its clients are served."""
        many = [crowd.connect("127.0.0.66") for _ in range(5 * PLACES)]
        for client in many:
            client.send(post("/many", b"", "Connection: close"))
        crowd.go()
        assert {client.answer() for client in many} == {("200", b"/many ")}

    def test_a_network_is_one_address(self) -> None:
        """Addresses of one IPv6 network of 64 bits count as one."""
        assert share_of("2001:db8:0:1::7") == share_of("2001:db8:0:1:ffff::1") == "2001:db8:0:1::/64"
        assert share_of("2001:db8:0:2::7") != share_of("2001:db8:0:1::7")
        assert share_of("fe80::1%eth0") == "fe80::/64"
        assert share_of("192.0.2.7") == "192.0.2.7"

    def test_many_addresses_leave_a_place_for_one_more(self, crowd: Crowd) -> None:
        """However many addresses take what they can get, the next one is served at once."""
        for number in range(20 * PLACES):
            crowd.connect(f"127.0.0.{number % 20 + 100}")
        crowd.go()
        (other,) = crowd.come(data=post("/other"))
        assert other.answer() == ("200", b"/other ")

    def test_who_has_most_has_no_grace(self, crowd: Crowd) -> None:
        """For one more of a small address, one of the largest is put back, and loses only time."""
        crowd.application.on_run = later
        many = [crowd.connect("127.0.0.66") for _ in range(ALONE)]
        crowd.go()
        small = [crowd.connect("127.0.0.77") for _ in range(PLACES - ALONE + 4)]
        for client in small:
            client.send(post("/small"))
        crowd.go()
        assert len(crowd.application.running) == len(small)
        crowd.application.on_run = reply
        for exchange in list(crowd.application.running):
            reply(exchange)
        for client in many:
            client.send(post("/many"))
        crowd.pass_(2 * TICK)
        assert {client.answer()[0] for client in small + many} == {"200"}
        assert crowd.listener.shed == 0

    def test_who_has_most_and_has_begun_to_ask_is_shed(self, crowd: Crowd) -> None:
        """Where nothing can be put back, the address that holds most loses connections; they are counted."""
        crowd.application.on_run = later
        for _ in range(ALONE):
            crowd.connect("127.0.0.66").send(post()[:-1])
        crowd.go()
        for _ in range(PLACES - ALONE + 4):
            crowd.connect("127.0.0.77").send(post("/small"))
        crowd.go()
        assert len(crowd.application.running) == PLACES - ALONE + 4
        assert crowd.listener.shed == 6  # as some places are always left for newcomers

    def test_whoever_has_less_is_not_ended_for_more(self, crowd: Crowd) -> None:
        """An address that has all that it may have gets nobody ended who has less, however idle."""
        crowd.application.on_run = later
        others = crowd.come(PLACES - ALONE - 1)
        for _ in range(2 * PLACES):
            crowd.connect("127.0.0.66").send(post())
        crowd.pass_(3 * CROWD_GRACE)
        assert ended(others) == []

    @pytest.mark.threat("fair shares", "thousands of connections")
    def test_too_many_that_wait(self, caplog: pytest.LogCaptureFixture) -> None:
        """Where too many wait, the address of which most wait loses the last that came; a line sums it up."""
        crowd = Crowd(waiting=50)
        crowd.application.on_run = later
        many = [crowd.connect("127.0.0.66") for _ in range(ALONE + 200)]
        for client in many:
            client.send(post())
        crowd.go()
        others = crowd.come(PLACES - ALONE + 10, data=post())
        assert len(ended(many)) == 150 + 10
        assert crowd.listener.shed == 160
        crowd.pass_(10.0)
        for exchange in list(crowd.application.running):
            exchange.answer(response("200"), close=True)
        crowd.application.on_run = reply
        crowd.go()
        assert {client.answer()[0] for client in others} == {"200"}
        lines = [record.getMessage() for record in caplog.records]
        words = "connections were closed because others waited for their places"
        assert lines == [f"crowd: 160 {words}, 160 of them of 127.0.0.66"]
        crowd.close()

    def test_turns_go_by_address(self, crowd: Crowd) -> None:
        """Of many requests that are here at once, each address has its turn after one of each other one."""
        many = [crowd.connect("127.0.0.66") for _ in range(20)]
        others = [crowd.connect(f"127.0.0.{number}") for number in (77, 78)]
        crowd.go()
        for client in many:
            client.send(post("/many"))
        for client in others:
            client.send(post("/other"))
        crowd.go()
        order = [exchange.target for exchange in crowd.application.running]
        assert order.index("/other") <= 1
        assert order[:6].count("/other") == 2

    def test_deliveries_take_turns_by_address(self, crowd: Crowd) -> None:
        """What many clients of one address wait for is sent to them in turns with what others wait for."""
        crowd.application.on_run = later
        many = [crowd.connect("127.0.0.66") for _ in range(20)]
        for client in many:
            client.send(post("/many"))
        crowd.come(data=post("/other"))
        crowd.go()
        sent = []

        def deliver(exchange: Exchange) -> None:
            sent.append(exchange.target)
            reply(exchange)

        for exchange in sorted(crowd.application.running, key=lambda each: each.target):
            exchange.hand_over(functools.partial(deliver, exchange))
        assert sent == []
        crowd.go()
        assert sent.index("/other") <= 1
        assert {client.answer()[0] for client in many} == {"200"}

    def test_what_is_handed_over_is_done_though_its_client_is_gone(self, crowd: Crowd) -> None:
        """A step that was handed over is taken even if the client has hung up meanwhile."""
        crowd.application.on_run = later
        (client,) = crowd.come(data=post())
        taken: list[str] = []
        client.reset()
        crowd.go()
        assert crowd.listener.connections == ()
        crowd.application.running[0].hand_over(lambda: taken.append("a step"))
        crowd.go()
        assert taken == ["a step"]

    def test_who_is_refused_a_lot_waits(self, crowd: Crowd) -> None:
        """After so many refusals an address has its next turn after the tick; others have theirs at once."""
        crowd.application.on_run = refuse
        most = ListenerLimits().refusals_a_tick
        many = [crowd.connect("127.0.0.66") for _ in range(ALONE)]
        for client in many:
            client.send(post() * 6)
        crowd.go()
        assert len(crowd.application.running) == most
        (other,) = crowd.come(data=post("/other"))
        assert other.answer()[0] == "403"
        assert len(crowd.application.running) == most + 1
        crowd.pass_(2 * TICK)
        assert len(crowd.application.running) == 6 * ALONE + 1


class TestProxies:
    """Trusted proxies, whose connections are those of their clients."""

    @pytest.fixture
    def behind(self) -> Iterator[Crowd]:
        crowd = Crowd(proxies=("127.0.0.9",))
        yield crowd
        crowd.close()

    @staticmethod
    def ask(client: str, target: str = "/") -> bytes:
        return post(target, b"", f"X-Forwarded-For: {client}")

    def test_a_proxy_is_no_stranger(self, behind: Crowd) -> None:
        """A trusted proxy may have every place."""
        behind.application.on_run = later
        for number in range(PLACES):
            behind.connect("127.0.0.9").send(self.ask(f"192.0.2.{number + 1}"))
        behind.go()
        assert len(behind.application.running) == PLACES

    def test_its_requests_count_for_its_clients(self, behind: Crowd) -> None:
        """One client of a proxy gets what one address gets; what it asks beyond that is refused as busy."""
        behind.application.on_run = later
        proxy = [behind.connect("127.0.0.9") for _ in range(PLACES)]
        for connection in proxy:
            connection.send(self.ask("192.0.2.66"))
            behind.go()
        assert len(behind.application.running) == ALONE
        assert {connection.answer()[0] for connection in proxy[ALONE:]} == {"503"}
        again = behind.connect("127.0.0.9")
        again.send(self.ask("192.0.2.77"))
        behind.pass_(GRACE + TICK)
        assert len(behind.application.running) == ALONE + 1

    def test_what_is_answered_counts_no_more(self, behind: Crowd) -> None:
        """A connection of a proxy that waits for the next request is nobody's but the proxy's."""
        (proxy,) = [behind.connect("127.0.0.9")]
        held = behind.listener._acceptor.places.held
        behind.application.on_run = later
        proxy.send(self.ask("192.0.2.66"))
        behind.go()
        assert (held.count("192.0.2.66"), held.count(PROXIES)) == (1, 0)
        reply(behind.application.running[0])
        behind.go()
        assert (held.count("192.0.2.66"), held.count(PROXIES)) == (0, 1)
        proxy.socket.close()
        behind.go()
        assert held.total == 0

    def test_turns_go_by_client(self, behind: Crowd) -> None:
        """Of what is delivered through one proxy, each client has its turn."""
        behind.application.on_run = later
        for number in range(20):
            target, client = ("/other", "192.0.2.77") if number == 19 else ("/many", "192.0.2.66")
            behind.connect("127.0.0.9").send(self.ask(client, target))
            behind.go()
        sent: list[str] = []
        for exchange in behind.application.running:
            exchange.hand_over(functools.partial(sent.append, exchange.target))
        behind.go()
        assert sent.index("/other") <= 1


class TestUnread:
    def test_who_does_not_read_makes_room(self, crowd: Crowd) -> None:
        """A connection whose client does not take what is sent goes before those that have just come."""
        crowd.application.on_run = lambda exchange: exchange.answer(response("200", BIG * 8))
        unread = crowd.come(data=post())
        assert unread[0].socket.recv(10)
        fresh = crowd.come(PLACES - 1)
        crowd.pass_(GRACE)
        crowd.application.on_run = later
        crowd.come(data=post())
        crowd.pass_(TICK)
        assert len(crowd.application.running) == 2
        assert [one for one in crowd.listener.connections if one.occupancy is Occupancy.UNREAD] == []
        assert ended(fresh) == []


class TestExhaustion:
    def test_without_descriptors_one_is_ended_for_each_that_waits(
        self, crowd: Crowd, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where the process has no descriptor left, a newcomer gets that of the one idle longest."""
        idle = crowd.come(10, apart=0.01)
        crowd.pass_(GRACE)
        newcomer = crowd.connect()
        newcomer.send(post())
        with no_descriptors():
            crowd.pass_(2 * TICK)
        assert newcomer.answer()[0] == "200"
        assert ended(idle) == [0]
        assert f"crowd: no further connection can be accepted: {os.strerror(errno.EMFILE)}" in caplog.text

    def test_without_descriptors_the_largest_that_waits_goes_first(self, crowd: Crowd) -> None:
        """Where descriptors are lacking and clients wait, the address of which most wait loses one."""
        crowd.application.on_run = later
        many = [crowd.connect("127.0.0.66") for _ in range(ALONE + 10)]
        for client in many:
            client.send(post())
        crowd.go()
        newcomer = crowd.connect("127.0.0.77")
        newcomer.send(post())
        with no_descriptors():
            crowd.pass_(2 * TICK)
        crowd.pass_(2 * TICK)
        assert len(ended(many)) >= 1
        assert len(crowd.application.running) == ALONE + 1

    def test_nobody_is_ended_in_vain(self, crowd: Crowd) -> None:
        """Where nobody waits any more when a descriptor is wanted, everybody else stays."""
        idle = crowd.come(10)
        crowd.pass_(GRACE)
        crowd.listener._acceptor._exhaust(OSError(errno.EMFILE, "none"))
        crowd.pass_(2 * TICK)
        assert not crowd.listener.is_crowded
        assert ended(idle) == []


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let the process have no further descriptor."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest:  # noqa: PTH123 - the number of its descriptor is what is wanted
        free = lowest.fileno()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def refuse(exchange: Exchange) -> None:
    """Answer as strangers are answered, but keep the connection."""
    exchange.is_refusal = True
    exchange.answer(response("403"))
