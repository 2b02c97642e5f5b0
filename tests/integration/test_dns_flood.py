"""The name server of dns01-server while somebody asks far too much, by dnsperf, beside a real resolver."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections.abc import Iterator

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from tests.peers import Acmems, Bind, Peer, Settings, free_port, program, wait_until

RATE = 5000  # questions a second
LIMIT = 200  # of one network a second, by default
RESOLVER, FLOODER, PROBE = "127.1.1.1", "127.1.1.2", "127.1.1.3"
"""All of one network, 127.1.1.0/24."""
OTHERS = [f"127.2.{number}.1" for number in range(40)]
"""Each of a network of its own."""
DNS = """
[verification "dns"]
type = dns01-server
zone = acme.example.net
ns = ns.example.org
listener = 127.0.0.1:{port}
"""
APEX = dns.message.make_query("acme.example.net", "SOA")
TRIES = 10


class Resolver(Bind):
    """A resolver in the network of the flood, which asks acmems for the delegated zone."""

    def __init__(self, delegated: int) -> None:
        super().__init__("example.org")
        self.delegated = delegated

    def prepare(self) -> None:
        """Forward questions for the zone, from an address of that network."""
        super().prepare()
        file = self.folder / "named.conf"
        text = file.read_text(encoding="utf-8")
        text = text.replace("recursion no;", f"recursion yes; query-source address {RESOLVER};")
        text += (
            '\nzone "acme.example.net" { type forward; forward only; '
            f"forwarders {{ 127.0.0.1 port {self.delegated}; }}; }};\n"
        )
        file.write_text(text, encoding="utf-8")

    def resolves(self, name: str) -> bool:
        """Tell whether it learns that a name does not exist; where it gave up, it is asked again."""
        for _ in range(TRIES):
            with contextlib.suppress(dns.exception.Timeout):
                if self._query(name, "TXT").rcode() == dns.rcode.NXDOMAIN:
                    return True
        return False


class Flood(Peer):
    """dnsperf, which asks for names that do not exist, and does not wait for answers that do not come."""

    name = "dnsperf"

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def prepare(self) -> None:
        """Write the questions."""
        lines = (f"nobody-{number}.acme.example.net TXT\n" for number in range(1000))
        (self.folder / "questions").write_text("".join(lines), encoding="ascii")

    def command(self) -> list[str]:
        """Return the command line to run."""
        return [
            *(program(self.name), "-s", "127.0.0.1", "-p", str(self.port), "-a", FLOODER),
            *("-d", "questions", "-l", "600", "-Q", str(RATE), "-q", "50000", "-t", "1"),
        ]

    def ready(self) -> bool:
        """Tell whether its network is over what it may ask."""
        return is_limited(self.port)

    def finish(self) -> int:
        """End it; return how many questions it has asked."""
        self.stop(signal.SIGINT)
        found = re.search(r"Queries sent:\s+(\d+)", self.log)
        assert found, self.log
        return int(found[1])


def is_limited(port: int) -> bool:
    """Tell whether a question from the network of the flood is not answered in full over UDP."""
    try:
        return bool(ask(port, PROBE, seconds=0.5).flags & dns.flags.TC)
    except dns.exception.Timeout:
        return True


def ask(port: int, source: str, *, seconds: float = 5.0) -> dns.message.Message:
    return dns.query.udp(
        APEX,
        "127.0.0.1",
        timeout=seconds,
        port=port,
        source=source,
        ignore_unexpected=True,
        raise_on_truncation=False,
    )


def answers(port: int, source: str) -> int:
    """Ask as resolvers do, again where an answer is lost; return how many of ten were answered in full."""
    count = 0
    for _ in range(10):
        for _ in range(TRIES):
            with contextlib.suppress(dns.exception.Timeout):
                answer = ask(port, source, seconds=2.0)
                assert answer.rcode() == dns.rcode.NOERROR
                assert not answer.flags & dns.flags.TC, "another network is limited"
                count += 1
                break
    return count


@pytest.fixture
def port() -> int:
    """Where acmems answers."""
    return free_port()


@pytest.fixture
def acmems(port: int, settings: Settings) -> Iterator[Acmems]:
    """A server that answers for a zone."""
    settings.verification = DNS.format(port=port)
    with Acmems(settings.text().replace("level = debug", "level = info")) as server:
        yield server


@pytest.fixture
def resolver(port: int) -> Iterator[Resolver]:
    """A resolver in the network of the flood."""
    with Resolver(port) as server:
        yield server


def test_a_flood_from_the_network_of_a_resolver(acmems: Acmems, resolver: Resolver, port: int) -> None:
    """While 5,000 questions a second come in its name, a resolver has its answers; others notice nothing.

    Everything that it is asked is new to it, so that it must ask acmems, and come by TCP. Forty other
    networks have every question answered, in full, over UDP.
    """
    with Flood(port) as flood:
        found = [resolver.resolves(f"new-{number}.acme.example.net") for number in range(100)]
        assert sum(found) == 100
        assert [answers(port, source) for source in OTHERS] == [10] * len(OTHERS)
        wait_until(lambda: is_limited(port), "the flood goes on")
        asked = flood.finish()
    assert asked > LIMIT
    assert "Traceback" not in acmems.log


def test_connections_at_their_limit_do_not_slow_datagrams(acmems: Acmems, port: int) -> None:
    """With all places taken by clients that hold them, and questions on each, datagrams are answered."""
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(150):  # of three addresses, each with its share of 50
            source = f"127.3.{number % 3}.1"
            sock = socket.socket()
            stack.enter_context(sock)
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            clients.append(sock)
        wire = APEX.to_wire()
        many = (len(wire).to_bytes(2, "big") + wire) * 200
        sent = 0
        for sock in clients:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                sent += sock.send(many)
        assert sent
        assert [answers(port, source) for source in OTHERS] == [10] * len(OTHERS)
        assert dns.query.tcp(APEX, "127.0.0.1", timeout=30, port=port, source="127.4.1.1").answer
    assert "Traceback" not in acmems.log


def test_silent_connections_keep_no_resolver_away(acmems: Acmems, port: int) -> None:
    """A resolver gets a place over TCP, though others hold all of them and say nothing."""
    with contextlib.ExitStack() as stack:
        for number in range(200):
            sock = socket.socket()
            stack.enter_context(sock)
            sock.bind((f"127.3.{number % 4}.1", 0))
            sock.connect(("127.0.0.1", port))
        for _ in range(5):
            assert dns.query.tcp(APEX, "127.0.0.1", timeout=30, port=port, source=RESOLVER).answer
        assert [answers(port, source) for source in OTHERS] == [10] * len(OTHERS)
