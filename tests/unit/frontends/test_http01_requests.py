"""Requests at an http-01 listener: how the host is found, and what a stranger's connection is worth."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.listening import Bench, Client
from tests.peers import wait_until
from tests.sharing import GatedDatabase, OtherNode, sharing

from acmems.challenges import ChallengeResponses, Http01
from acmems.events import Bus
from acmems.frontends.http01 import Http01FrontEnd, host_of
from acmems.net.address import parse_network
from acmems.net.http import HttpService
from acmems.state.proofs import ProofLookups

PATH = "/.well-known/acme-challenge/token"
WEB_SERVER = "192.0.2.7"


class Door:
    """A listener with one answer for `www.example.org`.

    Attributes:
        fetched: how often the answer was fetched.
    """

    def __init__(self, others: ProofLookups | None = None) -> None:
        self.fetched = 0
        responses = ChallengeResponses()
        responses.put("www.example.org", PATH, "answer", self._note)
        proxies = [parse_network(WEB_SERVER)]
        validator = Http01("web", (), responses, lookups=others)
        front_end = Http01FrontEnd(validator, Bus(), trusted_proxies=proxies)
        self.bench = Bench()
        self.bench.listener._service = HttpService(front_end)

    def _note(self) -> None:
        self.fetched += 1

    def ask(self, target: str = PATH, host: str = "x", *fields: str, source: str = WEB_SERVER) -> str:
        """Return the status of one request on a connection of its own."""
        return self.connect(source).ask(self.request(target, host, *fields))[0]

    def connect(self, source: str = "192.0.2.66") -> _Asking:
        return _Asking(self.bench, self.bench.connect(source))

    @staticmethod
    def request(target: str = PATH, host: str = "www.example.org", *fields: str) -> bytes:
        return "\r\n".join([f"GET {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


class _Asking:
    def __init__(self, bench: Bench, client: Client) -> None:
        self._bench = bench
        self.client = client

    def ask(self, data: bytes) -> tuple[str, bytes]:
        self.client.send(data)
        self._bench.go()
        answer = self.client.socket.recv(65536)
        return answer[9:12].decode(), answer


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (PATH, "www.example.org"),
        (PATH, "WWW.Example.ORG"),
        (PATH, "www.example.org:80"),
        (PATH, "www.example.org."),
        (PATH, "www.example.org.:80"),
        ("http://www.example.org" + PATH, "www.example.org"),
        ("HTTP://WWW.example.org:80" + PATH, "www.example.org"),
        ("http://www.example.org." + PATH, "other.example.org"),
    ],
)
def test_a_challenge_is_found(door: Door, target: str, host: str) -> None:
    """Case, port and a dot at the end do not matter, and a URL says the host (RFC 9112 section 3.2.2)."""
    assert door.ask(target, host) == "200"
    assert door.fetched == 1


@pytest.mark.threat("http", "strangers at the CA's port")
@pytest.mark.parametrize(
    ("target", "host"),
    [
        (PATH, "other.example.org"),
        (PATH, "www.example.org.."),
        (PATH, ".www.example.org"),
        ("http://other.example.org" + PATH, "www.example.org"),
        ("http://user@www.example.org" + PATH, "www.example.org"),
        ("https://www.example.org" + PATH, "www.example.org"),
        ("http://www.example.org" + PATH + "?x", "www.example.org"),
        ("http://" + PATH, "www.example.org"),
    ],
)
def test_nothing_else_is_found(door: Door, target: str, host: str) -> None:
    """Other hosts and paths are 404, and nobody is told that the answer was fetched."""
    assert door.ask(target, host) == "404"
    assert door.fetched == 0


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["X-Forwarded-Host: www.example.org"], "200"),
        (["X-Forwarded-Host: www.example.org:80"], "200"),
        (["X-Forwarded-Host: www.example.org, inner.example.org"], "200"),
        (["X-Forwarded-Host: inner.example.org", "X-Forwarded-Host: www.example.org"], "200"),
        (["X-Forwarded-Host: other.example.org"], "404"),
        (["X-Forwarded-Host: "], "404"),
        ([], "404"),
        (["X-Forwarded-Host: www.example.org" + ", x" * 8], "404"),
    ],
)
def test_a_trusted_proxy_tells_the_host(door: Door, fields: list[str], status: str) -> None:
    """A web server that changes `Host` passes on the one that it was asked for; the last eight count."""
    assert door.ask(PATH, "backend", *fields) == status
    assert door.ask(PATH, "backend", *fields, source="192.0.2.66") == "404"


def test_host_of_an_address() -> None:
    """An IPv6 address has brackets, and no dot."""
    assert host_of("[2001:DB8::7]:80") == "2001:db8::7"
    assert host_of("[nonsense]") == "[nonsense]"


@pytest.mark.threat("fair shares", "refusals without end")
def test_a_stranger_needs_a_connection_for_each_try(door: Door) -> None:
    """After a 404 the connection ends, and what was sent ahead is not looked at; after a 200 it is kept."""
    stranger = door.connect()
    status, answer = stranger.ask(door.request(PATH + "x") * 100)
    assert (status, answer.count(b"HTTP/1.1 404")) == ("404", 1)
    assert b"\r\nConnection: close\r\n" in answer
    assert stranger.client.socket.recv(1) == b""
    friend = door.connect()
    assert [friend.ask(door.request())[0] for _ in range(3)] == ["200"] * 3


class TestOtherNodes:
    """Whoever asks for what another node presents is answered when it was looked up."""

    URL = "http://www.example.org/.well-known/acme-challenge/else"

    @pytest.fixture
    def others(self) -> OtherNode:
        return OtherNode()

    @pytest.fixture
    def door(self, others: OtherNode) -> Door:
        return Door(others)

    def test_an_answer_of_another_node(self, door: Door, others: OtherNode) -> None:
        """It is given as one of this node, and meanwhile the thread that serves all connections goes on."""
        client = door.connect()
        client.client.send(door.request(f"{PATH[:-5]}else"))
        door.bench.go()
        assert door.ask(PATH, "www.example.org") == "200"
        assert others.places == [self.URL]
        others.answer("older", "else.thumbprint")
        door.bench.go()
        data = client.client.socket.recv(65536)
        assert data.startswith(b"HTTP/1.1 200")
        assert data.endswith(b"\r\n\r\nelse.thumbprint")

    @pytest.mark.parametrize("is_known", [True, False])
    def test_nothing_anywhere(self, door: Door, others: OtherNode, is_known: bool) -> None:
        """It is 404, also where nobody knows whether there is something."""
        client = door.connect()
        client.client.send(door.request(f"{PATH[:-5]}else"))
        door.bench.go()
        others.answer(is_known=is_known)
        door.bench.go()
        assert client.client.socket.recv(65536).startswith(b"HTTP/1.1 404")

    def test_a_client_that_has_gone(self, door: Door, others: OtherNode) -> None:
        """What is found too late hurts nobody."""
        client = door.connect()
        client.client.send(door.request(f"{PATH[:-5]}else"))
        door.bench.go()
        client.client.socket.close()
        door.bench.go()
        others.answer("else.thumbprint")
        door.bench.go()
        assert door.ask(PATH, "www.example.org") == "200"

    @pytest.mark.parametrize(
        ("target", "host"),
        [
            (f"{PATH[:-5]}no%20token", "www.example.org"),
            (f"{PATH[:-5]}", "www.example.org"),
            (f"{PATH[:-5]}{'x' * 257}", "www.example.org"),
            ("/", "www.example.org"),
            (f"{PATH[:-5]}else", "no_name"),
            (f"{PATH[:-5]}else", "*.example.org"),
        ],
        ids=["no token", "empty", "too long", "other path", "no name", "wildcard"],
    )
    def test_what_no_ca_asks_for_is_not_looked_up(
        self, door: Door, others: OtherNode, target: str, host: str
    ) -> None:
        """It is 404 at once."""
        assert door.ask(target, host) == "404"
        assert others.places == []

    def test_hosts_of_a_trusted_proxy(self, door: Door, others: OtherNode) -> None:
        """All that it was asked for are looked up together, and the last one counts first."""
        client = door.connect(WEB_SERVER)
        client.client.send(
            door.request(self.URL[22:], "backend.example.org", "X-Forwarded-Host: www.example.org")
        )
        door.bench.go()
        assert others.places == [self.URL, self.URL.replace("www", "backend")]
        others.answer("else.thumbprint")
        door.bench.go()
        assert client.client.socket.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.threat("http", "strangers at the CA's port")
def test_a_flood_of_strangers(tmp_path: Path) -> None:
    """While strangers ask for what nobody presents, one query goes on at a time, and the known is told."""
    with sharing(tmp_path) as (first, second):
        first.database.check().result(20)
        database = GatedDatabase(second.database)
        lookups = ProofLookups()
        lookups.attach(database, second.name)  # type: ignore[arg-type] # as much of one as is used
        door = Door(lookups)
        strangers = [door.connect(f"192.0.2.{number}") for number in range(60)]
        for number, stranger in enumerate(strangers):
            stranger.client.send(door.request(f"{PATH}{number}"))
            door.bench.go()
            assert number or database.entered.acquire(timeout=20)
            assert door.ask(PATH, "www.example.org") == "200"
        assert database.reads == 1
        database.let(2)
        wait_until(lambda: not lookups._is_due, "all are looked up")
        door.bench.go()
        answers = {stranger.client.socket.recv(65536)[9:12] for stranger in strangers}
        assert (answers, database.reads) == ({b"404"}, 2)
        lookups.close()
