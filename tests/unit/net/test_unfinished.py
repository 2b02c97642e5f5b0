"""What is kept of requests that are not whole, as a rule and on connections."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.listening import Bench, later, post, reply

from acmems.net.http.unfinished import UnfinishedRequests


@dataclass(frozen=True)
class Place:
    share: str
    number: int = 0


BIG, SMALL = Place("192.0.2.66"), Place("192.0.2.7")


class TestRule:
    @pytest.mark.threat("fair shares", "bodies that nobody has asked for")
    def test_who_has_sent_most_loses(self) -> None:
        """Where all together are too many, the fullest of the largest address goes, whoever came last."""
        kept: UnfinishedRequests[Place] = UnfinishedRequests(100)
        others = [Place(BIG.share, number) for number in range(1, 4)]
        assert [kept.note(other, 25) for other in others] == [[], [], []]
        assert kept.note(BIG, 24) == []
        assert kept.note(SMALL, 3) == [others[0]]
        assert (kept.total, kept.dropped) == (77, 1)

    def test_one_that_is_too_much_alone(self) -> None:
        """Whoever sends too much goes himself where nobody has sent more."""
        kept: UnfinishedRequests[Place] = UnfinishedRequests(100)
        assert kept.note(SMALL, 40) == []
        assert kept.note(BIG, 61) == [BIG]

    def test_what_is_done_is_not_kept(self) -> None:
        """What is forgotten, or has become less, counts no more."""
        kept: UnfinishedRequests[Place] = UnfinishedRequests(100)
        kept.note(BIG, 60)
        kept.note(BIG, 10)
        assert kept.total == 10
        kept.forget(BIG)
        kept.forget(BIG)
        assert kept.total == 0

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 80))))
    def test_never_too_much(self, notes: list[tuple[int, int, int]]) -> None:
        """Whatever comes, no more is kept than may be."""
        kept: UnfinishedRequests[Place] = UnfinishedRequests(100)
        for share, number, size in notes:
            kept.note(Place(str(share), number), size)
            assert 0 <= kept.total <= 100


class TestConnections:
    @pytest.fixture
    def bench(self) -> Bench:
        bench = Bench()
        bench.application.allowed = 1_000_000
        bench.connection._service.unfinished._limit = lambda: 100_000
        return bench

    @pytest.mark.threat("fair shares", "bodies that nobody has asked for")
    def test_bodies_are_bounded_together(self, bench: Bench) -> None:
        """A hundred bodies that are not whole keep no more than the total; a small request is served."""
        many = [bench.connect("192.0.2.66") for _ in range(100)]
        for client in many:
            client.send(post("/", b"x" * 10_000)[:-1])
            bench.go()
            assert bench.connection._service.unfinished.total <= 100_000
        assert bench.ask(post("/small", b"y" * 500)) == ("200", b"/small " + b"y" * 500)
        refused = [client for client in many if not client.silent]
        assert {client.answer()[0] for client in refused} == {"503"}
        assert len(refused) == bench.connection._service.unfinished.dropped == 90

    def test_a_body_that_grows_beside_others(self, bench: Bench) -> None:
        """A client that has sent little goes on, whatever others send meanwhile."""
        (small, big) = (bench.connect("192.0.2.7"), bench.connect("192.0.2.66"))
        request = post("/small", b"y" * 40_000)
        for start in range(0, len(request), 10_000):
            small.send(request[start : start + 10_000])
            big.send(post("/", b"x" * 80_000)[:-1] if not start else b"")
            bench.go()
        assert small.answer()[0] == "200"
        assert big.answer()[0] == "503"

    def test_what_was_sent_ahead_of_an_answer(self, bench: Bench) -> None:
        """Whoever waits for an answer gets it, though too much was sent behind the request."""
        bench.application.on_run = later
        client = bench.connect("192.0.2.66")
        client.send(post("/first") + post("/", b"x" * 60_000))
        bench.go()
        other = bench.connect("192.0.2.77")
        other.send(post("/", b"y" * 59_000)[:-1])
        bench.go()
        assert bench.connection._service.unfinished.dropped == 1
        reply(bench.application.running[0])
        bench.go()
        assert client.answer() == ("200", b"/first ")
        assert client.ended
        assert other.silent

    @pytest.mark.parametrize("how", ["whole", "hangs up", "refused", "late"])
    def test_nothing_is_left_behind(self, bench: Bench, how: str) -> None:
        """Whatever becomes of a request, nothing is kept of it."""
        request = post("/", b"x" * 5000)
        bench.send(request[:-1] if how != "refused" else post("/", b"x" * 5000, "Transfer-Encoding: chunked"))
        if how == "whole":
            bench.send(request[-1:])
        elif how == "hangs up":
            bench.client.reset()
            bench.go()
        elif how == "late":
            bench.pass_(20)
        assert bench.connection._service.unfinished.total == 0
        assert not bench.connection._service.unfinished._sizes
