"""How a connection ends: its deadlines, hangups, and what makes room for others."""

from __future__ import annotations

import pytest
from tests.listening import BIG, GRACE, Bench, later, post, reply, response

from acmems.net.http import Exchange
from acmems.net.http.states import ConnectionState


class TestDeadlines:
    @pytest.mark.threat("http", "slow clients")
    def test_a_silent_client(self, bench: Bench) -> None:
        """A connection on which nothing comes is closed in time, without a word."""
        bench.pass_(9.9)
        assert bench.is_open
        bench.pass_(0.1)
        assert not bench.is_open
        assert bench.client.ended

    @pytest.mark.threat("http", "slow clients")
    @pytest.mark.parametrize(
        "start", [b"P", post()[:-2], post("/", b"body")[:-1]], ids=["line", "headers", "body"]
    )
    def test_a_slow_request(self, bench: Bench, start: bytes) -> None:
        """A request of which byte comes after byte is 408 when its time is over, however busy it looks."""
        end = bench.time.now + 10
        for byte in start:
            bench.send(bytes([byte]))
            bench.pass_(0.1)
        bench.pass_(end - 0.1 - bench.time.now)
        assert bench.client.silent
        bench.pass_(0.2)
        assert bench.client.answer() == ("408", b"")
        assert bench.client.ended

    def test_a_request_may_begin_late(self, bench: Bench) -> None:
        """The time of a request begins with its first byte."""
        bench.pass_(9)
        bench.send(b"P")
        bench.pass_(9)
        assert bench.ask(post()[1:])[0] == "200"

    def test_an_idle_connection(self, bench: Bench) -> None:
        """A connection is kept for some time after an answer, then closed without a word."""
        assert bench.ask(post())[0] == "200"
        bench.pass_(29.9)
        assert bench.client.silent
        bench.pass_(0.1)
        assert bench.client.ended

    def test_a_request_that_was_sent_ahead(self, bench: Bench) -> None:
        """The time of a request that began before the last answer begins with that answer."""
        assert bench.ask(post() + b"P")[0] == "200"
        bench.pass_(9.9)
        assert bench.client.silent
        bench.pass_(0.1)
        assert bench.client.answer()[0] == "408"

    def test_bytes_that_nobody_has_read_yet(self, bench: Bench) -> None:
        """Where the server is late to look, the client is not to blame."""
        bench.client.send(post())
        bench.time.now += 10
        bench.look_at_deadlines()
        bench.make_room()
        bench.go()
        assert bench.client.answer()[0] == "200"

    def test_an_answer_that_does_not_come(self, bench: Bench, pending: Exchange) -> None:
        """When the time for an answer is over the client is told so, and a later answer is lost."""
        bench.pass_(99.9)
        assert bench.client.silent
        assert pending.deadline.remaining == pytest.approx(0.1)
        bench.pass_(0.1)
        assert bench.client.answer() == ("DeadlinePassed", b"")
        reply(pending)
        assert bench.client.ended

    def test_the_time_for_an_answer_begins_with_the_first_byte(self, bench: Bench) -> None:
        """A slow request leaves the application less time."""
        bench.application.on_run = later
        bench.send(post()[:1])
        bench.time.now += 9
        bench.send(post()[1:])
        assert bench.application.running[0].deadline.remaining == 91

    @pytest.mark.threat("http", "slow clients")
    def test_a_client_that_does_not_read(self, bench: Bench) -> None:
        """A client that does not take its answer in time is cut off, however often it takes a little."""
        bench.application.on_run = lambda exchange: exchange.answer(response("200", BIG))
        bench.send(post())
        assert bench.connection.state is ConnectionState.WRITING
        bench.pass_(19.9)
        bench.client.socket.recv(1 << 20)
        bench.go()
        assert bench.is_open
        bench.pass_(0.1)
        assert not bench.is_open

    def test_a_refused_client_that_goes_on(self, bench: Bench) -> None:
        """A refused client that does not stop sending is cut off."""
        bench.send(b"nonsense\r\n")
        bench.pass_(1.9)
        bench.send(b"more nonsense")
        assert bench.is_open
        bench.client.send(b"and more, which nobody has read when the time is over")
        bench.time.now += 0.1
        bench.look_at_deadlines()
        assert not bench.is_open


class TestHangups:
    def test_before_a_request(self, bench: Bench) -> None:
        """A client that hangs up without a request frees its connection."""
        bench.client.socket.close()
        bench.go()
        assert not bench.is_open

    @pytest.mark.threat("http", "slow clients")
    @pytest.mark.parametrize("sent", [post()[:20], post("/", b"body")[:-1]])
    def test_within_a_request(self, bench: Bench, sent: bytes) -> None:
        """A request that ends in the middle is nobody's."""
        bench.send(sent)
        bench.client.finish()
        bench.go()
        assert not bench.is_open
        assert not bench.application.running

    def test_within_an_answer(self, bench: Bench) -> None:
        """A client that hangs up while its answer is sent frees its connection."""
        bench.application.on_run = lambda exchange: exchange.answer(response("200", BIG))
        bench.send(post())
        bench.client.socket.close()
        bench.go()
        assert not bench.is_open


class TestRoom:
    @pytest.mark.parametrize("sent", [b"", post()[:-1]])
    def test_unproductive_connections_make_room(self, bench: Bench, sent: bytes) -> None:
        """A connection without a complete request can be ended for others."""
        bench.send(sent)
        bench.make_room()
        assert bench.client.answer()[0] == ("408" if sent else "")

    def test_productive_connections_stay(self, bench: Bench, pending: Exchange) -> None:
        """A connection that waits for an answer is not ended for others."""
        bench.make_room()
        bench.retire()
        reply(pending)
        assert bench.client.answer()[0] == "200"

    def test_idle_connections_retire(self, bench: Bench) -> None:
        """A connection on which nothing goes on retires after its grace; one with a request does not."""
        bench.send(post()[:10])
        bench.retire()
        assert bench.is_open
        assert bench.ask(post()[10:])[0] == "200"
        bench.client.send(post())
        bench.retire()
        bench.go()
        assert bench.client.answer()[0] == "200"
        bench.retire()
        assert bench.is_open
        bench.time.now += GRACE
        bench.retire()
        assert not bench.is_open

    def test_a_draining_connection_closes_after_its_answer(self, bench: Bench, pending: Exchange) -> None:
        """While the server stops, a request is answered and the connection then ends, not reset."""
        bench.listener.is_draining = True
        bench.client.send(post("/next"))
        reply(pending)
        bench.go()
        assert bench.client.answer() == ("200", b"/first ")
        assert bench.client.ended
        assert bench.connection.state is ConnectionState.LINGERING
        assert len(bench.application.begun) == 1

    def test_an_answer_that_is_made_before_the_end(self, bench: Bench, pending: Exchange) -> None:
        """What an answer says holds: a connection that it keeps takes one more request, which is the last."""
        assert pending.keep_alive  # as whoever makes an answer asks
        bench.listener.is_draining = True
        reply(pending)
        bench.go()
        assert bench.client.answer() == ("200", b"/first ")
        assert bench.connection.state is ConnectionState.IDLE
        bench.client.send(post("/next"))
        bench.go()
        reply(bench.application.running[-1])
        bench.go()
        assert bench.client.answer() == ("200", b"/next ")
        assert bench.client.ended

    def test_a_connection_that_ends_while_its_answer_is_awaited(
        self, bench: Bench, pending: Exchange
    ) -> None:
        """An answer that is made after the end of all connections has begun says that this one ends."""
        bench.listener.is_draining = True
        assert not pending.keep_alive

    def test_the_last_request_knows_that_it_is_the_last(self, bench: Bench) -> None:
        """While the server stops, the application is told that the connection will not be kept."""
        bench.listener.is_draining = True
        assert bench.ask(post("/a")) == ("200", b"/a ")
        assert not bench.application.running[0].keep_alive
