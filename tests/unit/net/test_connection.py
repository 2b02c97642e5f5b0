"""One connection, driven by hand: one thread, a socket pair, and a clock that moves when told."""

from __future__ import annotations

import pytest
from tests.listening import BIG, Bench, fail, later, post, reply, response

from acmems.exceptions import PayloadInvalid, PolicyRefusal
from acmems.net.http import Exchange
from acmems.net.http.states import ConnectionState
from acmems.net.listening import ClientSocket, Hangup


class TestRequests:
    def test_a_request_is_answered_and_the_connection_kept(self, bench: Bench) -> None:
        """Request after request is answered on one connection, with what was sent."""
        assert bench.ask(post("/a", b"one")) == ("200", b"/a one")
        assert bench.ask(post("/b", b"two")) == ("200", b"/b two")
        assert bench.is_open
        exchange = bench.application.running[1]
        assert exchange.client_address == ("192.0.2.7", 4711)
        assert len({exchange.reference for exchange in bench.application.running}) == 2

    def test_packets_do_not_matter(self, bench: Bench) -> None:
        """A request that comes byte by byte is answered once, when its last byte is there."""
        for byte in post("/a", b"one"):
            assert bench.client.silent
            bench.send(bytes([byte]))
        assert bench.client.answer() == ("200", b"/a one")
        assert len(bench.application.begun) == 1

    def test_requests_sent_ahead_are_answered_in_order(self, bench: Bench) -> None:
        """Pipelined requests are answered one after the other (RFC 9112 section 9.3.2)."""
        bench.send(b"".join(post(f"/{number}") for number in range(100)))
        assert [bench.client.answer()[1] for _ in range(100)] == [b"/%d " % number for number in range(100)]

    @pytest.mark.threat("fair shares", "thousands of connections")
    def test_one_request_a_turn(self, bench: Bench) -> None:
        """Of requests that were sent ahead, one is answered before others have their turn."""
        other = bench.connect("192.0.2.8")
        bench.go()
        bench.client.send(b"".join(post(f"/{number}") for number in range(10)))
        other.send(post("/other"))
        bench.go()
        order = [exchange.target for exchange in bench.application.running]
        assert order.index("/other") <= 1
        assert len(order) == 11

    def test_what_is_sent_ahead_waits_for_the_answer(self, bench: Bench, pending: Exchange) -> None:
        """A request is not looked at before the one in front of it is answered."""
        bench.send(post("/second") + post("/third")[:10])
        assert len(bench.application.begun) == 1
        bench.application.on_run = reply
        reply(pending)
        bench.go()
        bench.send(post("/third")[10:])
        assert [bench.client.answer()[1] for _ in range(3)] == [b"/first ", b"/second ", b"/third "]

    def test_what_came_in_one_packet_is_served_after_a_late_answer(self, bench: Bench) -> None:
        """A request that came together with the one in front of it is not forgotten."""
        bench.application.on_run = later
        bench.send(post("/first") + post("/second"))
        bench.application.on_run = reply
        reply(bench.application.running[0])
        bench.go()
        assert [bench.client.answer()[1] for _ in range(2)] == [b"/first ", b"/second "]

    @pytest.mark.parametrize("state", ConnectionState)
    def test_an_event_of_an_earlier_connection_means_nothing(
        self, bench: Bench, state: ConnectionState
    ) -> None:
        """Whatever a connection waits for, it goes on waiting where nothing has happened."""
        big = len(response("200", BIG))
        bench.application.on_run = {
            ConnectionState.ANSWERING: later,
            ConnectionState.WRITING: lambda exchange: exchange.answer(response("200", BIG)),
        }.get(state, reply)
        sent = {
            ConnectionState.IDLE: post("/kept"),
            ConnectionState.READING: post()[:-1],
            ConnectionState.LINGERING: b"nonsense\r\n",
        }
        bench.send(sent.get(state, post()))
        if state is ConnectionState.WRITING:
            big -= len(bench.client.socket.recv(100))
        for _ in range(3):
            bench.connection.proceed()
        assert bench.connection.state is state
        assert bench.is_open
        if state is ConnectionState.WRITING:
            while big > 0:
                big -= len(bench.client.socket.recv(big))
                bench.go()
        elif state is ConnectionState.ANSWERING:
            reply(bench.application.running[0])
        elif state is ConnectionState.READING:
            bench.send(post()[-1:])
        if state is not ConnectionState.WRITING:
            assert bench.client.answer()[0] == ("400" if state is ConnectionState.LINGERING else "200")

    def test_a_client_that_wants_it_closed_finds_it_closed(self, bench: Bench) -> None:
        """After `Connection: close` the answer is the last thing that comes."""
        assert bench.ask(post("/a", b"", "Connection: close")) == ("200", b"/a ")
        assert not bench.is_open
        assert bench.client.ended
        assert bench.connection.channel.number not in bench.listener._loop._steps  # nothing is kept of it

    def test_a_big_answer_comes_whole(self, bench: Bench) -> None:
        """What the client does not take at once is sent when it does, and then the next request is served."""
        bench.application.on_run = lambda exchange: exchange.answer(response("200", BIG))
        bench.client.socket.setblocking(False)
        bench.send(post() + post())
        received = 0
        while bench.connection.state is ConnectionState.WRITING or received < 2 * len(response("200", BIG)):
            received += len(bench.client.socket.recv(1 << 20))
            bench.go()
        assert received == 2 * len(response("200", BIG))
        assert bench.connection.state is ConnectionState.IDLE


class TestLateAnswers:
    def test_an_answer_can_come_at_any_time(self, bench: Bench, pending: Exchange) -> None:
        """An answer given after `run` reaches the client, and the connection goes on."""
        assert bench.client.silent
        reply(pending)
        assert bench.client.answer() == ("200", b"/first ")
        bench.application.on_run = reply
        assert bench.ask(post("/next")) == ("200", b"/next ")

    def test_the_first_answer_counts(self, bench: Bench, pending: Exchange) -> None:
        """A second answer to a request does nothing."""
        reply(pending)
        pending.answer(response("500"), close=True)
        assert bench.client.answer() == ("200", b"/first ")
        assert bench.client.silent

    def test_an_answer_can_close_the_connection(self, bench: Bench, pending: Exchange) -> None:
        """An answer with `close` ends the connection when the client has seen it."""
        pending.answer(response("200"), close=True)
        bench.go()
        assert bench.client.answer() == ("200", b"")
        assert bench.client.ended
        assert bench.connection.state is ConnectionState.LINGERING
        bench.client.socket.close()
        bench.go()
        assert not bench.is_open

    @pytest.mark.parametrize("close", [False, True])
    def test_an_answer_may_come_while_a_hangup_is_looked_for(
        self, bench: Bench, pending: Exchange, monkeypatch: pytest.MonkeyPatch, close: bool
    ) -> None:
        """An answer that crosses the look for a hangup is sent, and the connection goes on or ends."""
        look = ClientSocket.hangup

        def hangup(channel: ClientSocket) -> Hangup:
            pending.answer(response("200"), close=close)
            return look(channel)

        monkeypatch.setattr(ClientSocket, "hangup", hangup)
        bench.application.on_run = reply
        bench.client.send(post("/next"))
        bench.client.finish()
        bench.go()
        assert bench.client.answer() == ("200", b"")
        assert bench.client.answer() == (("", b"") if close else ("200", b"/next "))
        assert not bench.is_open

    def test_an_answer_after_a_hangup_goes_nowhere(self, bench: Bench, pending: Exchange) -> None:
        """Where the client is gone its socket is freed, the exchange knows it, and an answer is nothing."""
        bench.client.socket.close()
        bench.go()
        assert not bench.is_open
        assert pending.gone
        reply(pending)

    def test_a_client_that_only_reads_gets_its_answer(self, bench: Bench, pending: Exchange) -> None:
        """A client that sends no more is answered; as it may as well be gone, the exchange counts it so."""
        bench.client.finish()
        bench.go()
        assert pending.gone
        reply(pending)
        bench.go()
        assert bench.client.answer() == ("200", b"/first ")
        assert bench.client.ended
        assert not bench.is_open

    def test_what_was_sent_before_the_end_is_served(self, bench: Bench, pending: Exchange) -> None:
        """Requests that a client sent ahead before it ended its side are all answered, however many."""
        bench.application.on_run = reply
        bench.client.send(post("/next", b"", "X: " + "y" * 5000) * 30)  # more than is received at once
        bench.client.finish()
        bench.go()
        reply(pending)
        bench.go()
        assert bench.client.answer() == ("200", b"/first ")
        assert [bench.client.answer() for _ in range(30)] == [("200", b"/next ")] * 30
        assert bench.client.ended

    def test_a_request_and_the_end_may_come_together(self, bench: Bench) -> None:
        """A client that sends its request and then no more is answered."""
        bench.application.on_run = later
        bench.client.send(post("/last"))
        bench.client.finish()
        bench.go()
        exchange = bench.application.running[0]
        reply(exchange)
        assert bench.client.answer() == ("200", b"/last ")

    def test_a_waiting_client_costs_no_turns(self, bench: Bench, pending: Exchange) -> None:
        """A client that has ended its side is not looked at again and again."""
        bench.client.finish()
        bench.go()  # which would not return
        assert bench.is_open

    def test_a_client_that_is_gone_when_its_answer_comes(self, bench: Bench, pending: Exchange) -> None:
        """An answer to a client that hung up unseen closes the connection."""
        bench.client.socket.close()
        reply(pending)
        bench.go()
        assert not bench.is_open


class TestContinue:
    HEAD = post("/a", b"body", "Expect: 100-continue").removesuffix(b"body")

    @pytest.mark.threat("http", "clients that wait for 100 Continue")
    def test_a_waiting_client_is_told_to_go_on(self, bench: Bench) -> None:
        """100 comes at once, the final answer after the body."""
        assert bench.ask(self.HEAD) == ("100", b"")
        assert bench.client.silent
        assert bench.ask(b"body") == ("200", b"/a body")

    def test_a_client_that_did_not_wait_needs_no_100(self, bench: Bench) -> None:
        """Where the body is there already the first answer is the final one."""
        bench.send(self.HEAD + b"bo")
        assert bench.client.silent
        assert bench.ask(b"dy") == ("200", b"/a body")

    @pytest.mark.threat("http", "clients that wait for 100 Continue")
    def test_a_waiting_client_hears_the_final_error_at_once(self, bench: Bench) -> None:
        """What is refused by its head is refused before the body is sent."""
        bench.application.on_begin = fail(PolicyRefusal("no"))
        assert bench.ask(self.HEAD) == ("PolicyRefusal", b"")
        assert bench.client.ended
        assert not bench.application.running

    def test_without_a_body_there_is_nothing_to_go_on_with(self, bench: Bench) -> None:
        """A request that announces no byte gets no 100."""
        assert bench.ask(post("/a", b"", "Expect: 100-continue")) == ("200", b"/a ")

    def test_http_1_0_knows_no_100(self, bench: Bench) -> None:
        """A client of HTTP/1.0 is not confused by a 100 (RFC 9110 section 15.2)."""
        bench.send(self.HEAD.replace(b"1.1", b"1.0"))
        assert bench.client.silent


class TestChunks:
    HEAD = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"

    @pytest.mark.threat("http", "chunked bodies")
    def test_a_body_in_chunks(self, bench: Bench) -> None:
        """A body in chunks is a body, and the connection is kept."""
        assert bench.ask(self.HEAD + b"\r\n3\r\none\r\n0\r\n\r\n") == ("200", b"/a one")
        bench.send(self.HEAD + b"\r\n3\r\nt")
        assert bench.client.silent
        assert bench.ask(b"wo\r\n0\r\n\r\n" + post("/b")) == ("200", b"/a two")
        assert bench.client.answer() == ("200", b"/b ")

    @pytest.mark.threat("http", "clients that wait for 100 Continue")
    def test_a_waiting_client_is_told_to_go_on(self, bench: Bench) -> None:
        """A client that announces chunks may wait for 100."""
        assert bench.ask(self.HEAD + b"Expect: 100-continue\r\n\r\n") == ("100", b"")
        assert bench.ask(b"3\r\none\r\n0\r\n\r\n") == ("200", b"/a one")

    @pytest.mark.threat("http", "chunked bodies")
    def test_chunks_over_the_limit(self, bench: Bench) -> None:
        """A body that becomes longer than the application wants is refused, and the connection ends."""
        bench.send(self.HEAD + b"\r\n60\r\n" + b"x" * 96 + b"\r\n")
        assert bench.client.silent
        assert bench.ask(b"5\r\n") == ("PayloadToLarge", b"")
        assert bench.client.ended
        assert not bench.application.running

    @pytest.mark.threat("http", "chunked bodies")
    def test_chunks_that_are_none(self, bench: Bench) -> None:
        """A body that is not in chunks is 400, and nothing after it is read as a request."""
        assert bench.ask(self.HEAD + b"\r\nxyz\r\n" + post("/b")) == ("400", b"")
        assert bench.client.ended
        assert not bench.application.running

    def test_a_client_that_ends_in_the_middle(self, bench: Bench) -> None:
        """A body whose last chunk does not come is nobody's."""
        bench.send(self.HEAD + b"\r\n3\r\none\r\n")
        bench.client.finish()
        bench.go()
        assert not bench.is_open
        assert not bench.application.running


class TestRefusals:
    @pytest.mark.threat("http", "a body over max-size")
    def test_a_body_over_the_limit_is_not_read(self, bench: Bench) -> None:
        """A body longer than the application wants is refused by its announcement."""
        head = post("/a", b"x" * 101).removesuffix(b"x" * 101)
        assert bench.ask(head) == ("PayloadToLarge", b"")
        assert bench.client.ended
        assert not bench.application.running

    def test_a_body_at_the_limit_is_read(self, bench: Bench) -> None:
        """A body as long as the application wants is taken."""
        assert bench.ask(post("/", b"x" * 100))[0] == "200"

    def test_what_is_no_request_is_refused(self, bench: Bench) -> None:
        """Bytes that are not HTTP get a 400 of the application's making, and the connection ends."""
        assert bench.ask(b"nonsense\r\n") == ("400", b"")
        assert bench.client.ended

    def test_what_follows_a_refusal_is_no_request(self, bench: Bench) -> None:
        """Nothing that comes after a refused request is served: it may be part of its body."""
        bench.application.allowed = 10
        assert bench.ask(post("/a", b"x" * 11) + post("/b"))[0] == "PayloadToLarge"
        bench.send(post("/c"))
        assert bench.client.ended
        assert not bench.application.running

    def test_a_refused_client_can_read_its_answer(self, bench: Bench) -> None:
        """While a refused client goes on sending it is not cut off, so that its answer is not lost."""
        bench.send(post("/a", b"x" * 50_000)[:-20_000])
        bench.send(b"x" * 10_000)
        assert bench.connection.state is ConnectionState.LINGERING
        assert bench.client.answer() == ("PayloadToLarge", b"")
        bench.client.socket.close()
        bench.go()
        assert not bench.is_open


class TestBugs:
    @pytest.mark.parametrize("error", [ValueError("a bug"), PayloadInvalid("a refusal")])
    def test_an_application_that_raises_while_it_runs(self, bench: Bench, error: Exception) -> None:
        """What `run` raises is answered through `refuse`, and the connection ends."""
        bench.application.on_run = fail(error)
        assert bench.ask(post())[0] in {"500", "PayloadInvalid"}
        assert bench.application.refused == [type(error).__name__]
        assert bench.client.ended

    def test_an_application_that_raises_at_once(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        """A bug in `begin` is answered, and logged with the reference of the request."""
        bench.application.on_begin = fail(ValueError("a bug"))
        assert bench.ask(post())[0] == "500"
        assert bench.application.begun[0].reference in caplog.text
        assert bench.client.ended

    def test_an_application_that_cannot_even_refuse(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where the answer to an error is a bug itself the connection ends without one."""

        def refuse() -> None:
            raise ValueError("a bug in refuse")

        bench.application.on_refuse = refuse
        bench.send(b"nonsense\r\n")
        assert bench.client.ended
        assert "a bug in refuse" in caplog.text

    def test_an_application_that_answers_and_raises(self, bench: Bench) -> None:
        """What is raised after the answer changes nothing for the client."""

        def run(exchange: Exchange) -> None:
            reply(exchange)
            raise ValueError("a bug")

        bench.application.on_run = run
        assert bench.ask(post("/a")) == ("200", b"/a ")
        assert bench.client.silent
