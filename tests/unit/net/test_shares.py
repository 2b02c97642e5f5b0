"""What one address gets of a listener, whatever it does: places, turns, deliveries, refusals."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from tests.crowd import ALONE, CROWD_GRACE, GRACE, PLACES, TICK, Crowd, ended
from tests.listening import fail, later, post, reply, response

from acmems.exceptions import HttpRefusal
from acmems.net.http import Exchange
from acmems.net.listening import ListenerLimits
from acmems.net.listening.shares import PROXIES, share_of


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

    def test_who_says_nothing_is_refused(self, crowd: Crowd) -> None:
        """Connections that end without a word count as refusals: they cost as much."""
        most = ListenerLimits().refusals_a_tick
        for _ in range(most):
            crowd.connect("127.0.0.66").socket.close()
            crowd.go()
        late = crowd.connect("127.0.0.66")
        late.send(post())
        crowd.go()
        assert not crowd.application.running
        crowd.pass_(2 * TICK)
        assert late.answer()[0] == "200"

    def test_the_last_that_waits_is_put_back(self) -> None:
        """Where as many wait as may, a place that is taken back is still given to one client only."""
        crowd = Crowd(waiting=8)
        crowd.application.on_run = later
        for _ in range(2 * PLACES):
            crowd.connect("127.0.0.66")
        crowd.go()
        for number in range(3 * PLACES):
            crowd.connect(f"127.0.1.{number % 60 + 1}").send(post())
        crowd.pass_(TICK)
        assert crowd.listener._acceptor.places.free >= 0
        assert len(crowd.listener.connections) <= PLACES
        assert crowd.listener.waiting <= 8
        crowd.close()


class TestStop:
    def test_who_waits_is_served_before_the_end(self, crowd: Crowd) -> None:
        """A stop lets those that wait for a place have their answers, and ends silent ones."""
        crowd.application.on_run = later
        asking = [crowd.connect("127.0.0.66") for _ in range(2 * PLACES)]
        for client in asking:
            client.send(post())
        silent = crowd.connect("127.0.0.66")
        crowd.go()
        crowd.listener.stop_accepting()
        assert crowd.listener.waiting == 2 * PLACES - ALONE + 1
        while crowd.listener.waiting:
            for exchange in list(crowd.application.running):
                reply(exchange)
            crowd.go()
        for exchange in list(crowd.application.running):
            reply(exchange)
        crowd.go()
        assert {client.answer()[0] for client in asking} == {"200"}
        crowd.pass_(1)  # the grace of who says nothing
        assert silent.ended

    def test_what_was_handed_over_is_done_before_the_end(self) -> None:
        """An answer that was handed over is sent though the listener closes at the same moment."""
        crowd = Crowd()
        crowd.application.on_run = later
        clients = [crowd.connect() for _ in range(20)]
        for client in clients:
            client.send(post())
        crowd.go()
        for exchange in crowd.application.running:
            exchange.hand_over(functools.partial(reply, exchange))
        crowd.listener.start()
        crowd.listener.close()
        assert {client.answer()[0] for client in clients} == {"200"}
        crowd.close()


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
        places = behind.listener._acceptor.places
        behind.application.on_run = later
        proxy.send(self.ask("192.0.2.66"))
        behind.go()
        assert (places.held("192.0.2.66"), places.held(PROXIES)) == (1, 0)
        reply(behind.application.running[0])
        behind.go()
        assert (places.held("192.0.2.66"), places.held(PROXIES)) == (0, 1)
        proxy.socket.close()
        behind.go()
        assert places.free == PLACES

    def test_proxies_do_not_hide_who_holds_most(self, behind: Crowd) -> None:
        """Where proxies hold most places, a small address still gets one of the largest among the others."""
        behind.application.on_run = later
        for _ in range(PLACES // 2 + 4):
            behind.connect("127.0.0.9")
        for _ in range(PLACES):
            behind.connect("127.0.0.66").send(post()[:-1])
        behind.go()
        for _ in range(6):
            behind.connect("127.0.0.77").send(post("/small"))
        behind.go()
        assert [exchange.target for exchange in behind.application.running] == ["/small"] * 6

    def test_refusals_of_one_client_keep_no_other_waiting(self, behind: Crowd) -> None:
        """Whoever is refused a lot through a proxy waits alone."""
        behind.application.on_begin = fail(HttpRefusal(404, "no"))
        most = ListenerLimits().refusals_a_tick
        for _ in range(most + 10):
            behind.connect("127.0.0.9").send(self.ask("192.0.2.66"))
            behind.go()
        behind.application.on_begin = lambda _: None
        other = behind.connect("127.0.0.9")
        other.send(self.ask("192.0.2.77", "/other"))
        behind.pass_(GRACE + TICK)
        assert other.answer() == ("200", b"/other ")

    def test_nonsense_through_a_proxy_keeps_nobody_waiting(self, behind: Crowd) -> None:
        """What is so malformed that nobody knows whose it is stops no client of the proxy."""
        for _ in range(ListenerLimits().refusals_a_tick + 10):
            behind.connect("127.0.0.9").send(b"\0")
            behind.go()
            behind.clients.pop().socket.close()
            behind.go()
        other = behind.connect("127.0.0.9")
        other.send(self.ask("192.0.2.77", "/other"))
        behind.go()
        assert other.answer() == ("200", b"/other ")

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


def refuse(exchange: Exchange) -> None:
    """Answer as strangers are answered, but keep the connection."""
    exchange.is_refusal = True
    exchange.answer(response("403"))
