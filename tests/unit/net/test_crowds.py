"""More clients than places: who is ended for whom, in one thread and on a clock that moves when told."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator

import pytest
from tests.crowd import ALONE, CROWD_GRACE, GRACE, PLACES, TICK, Crowd, ended
from tests.listening import BIG, later, post, reply, response

from acmems.net.listening import Occupancy


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
