"""What is said of names is kept as long as it may be, and asked for once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from tests.peers import Bind

from acmems.dns.authority.named_servers import NamedServers
from acmems.dns.authority.statement import AuthoritativeAnswer
from acmems.dns.authority.statements import Statements
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import NEVER, Clock, Deadline

NAME = dns.name.from_text("www.example.org")
CAA, A = dns.rdatatype.CAA, dns.rdatatype.A


class Authority:
    """Answers with one record, and counts.

    Args:
        ttl: of the record.
    """

    is_suspended = False

    def __init__(self, ttl: int = 300) -> None:
        self.ttl = ttl
        self.error: ValidatorUnavailable | None = None
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def ask(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, deadline: Deadline
    ) -> AuthoritativeAnswer:
        self.asked.append(name.to_text(omit_final_dot=True))
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        message = dns.message.Message()
        message.flags |= dns.flags.AA
        message.answer.append(dns.rrset.from_text(name, self.ttl, "IN", "CAA", '0 issue ";"'))
        return AuthoritativeAnswer(message, name.parent())


class World:
    def __init__(self, ttl: int = 300) -> None:
        self.now = 1000.0
        self.authority = Authority(ttl)
        self.statements = Statements(self.authority, Clock(monotonic=lambda: self.now))

    def look_up(self) -> int:
        return len(self.statements.look_up(NAME, CAA, NEVER).records)

    def count_after(self, seconds: float) -> int:
        self.now += seconds
        self.look_up()
        return len(self.authority.asked)


@pytest.mark.parametrize(("ttl", "kept"), [(300, 300), (0, 60), (86400, 3600)])
def test_how_long(ttl: int, kept: float) -> None:
    """A statement is kept for its time to live, at least a minute and at most an hour."""
    world = World(ttl)
    assert world.count_after(0) == 1
    assert world.count_after(kept - 1) == 1
    assert world.count_after(2) == 2


def test_what_is_known_without_asking() -> None:
    """Nothing is known before it was asked for, and after its time."""
    world = World()
    assert world.statements.known(NAME, CAA) is None
    world.look_up()
    found = world.statements.known(NAME, CAA)
    assert found is not None
    assert found.seconds == 300.0
    assert world.statements.known(NAME, A) is None
    world.now += 301
    assert world.statements.known(NAME, CAA) is None


def test_failures() -> None:
    """That nobody tells is kept for half a minute; each who hears of it gets an error of his own."""
    world = World()
    world.authority.error = ValidatorUnavailable("nobody tells")
    errors = []
    for _ in range(3):
        with pytest.raises(ValidatorUnavailable) as caught:
            world.look_up()
        errors.append(caught.value)
    assert len(world.authority.asked) == 1
    assert len(set(map(id, errors))) == 3
    world.authority.error = None
    assert world.count_after(31) == 2


def test_what_is_forgotten() -> None:
    """What somebody is about to correct is asked for anew."""
    world = World()
    world.look_up()
    world.statements.forget(NAME, A)
    assert world.count_after(0) == 1
    world.statements.forget(NAME, CAA)
    assert world.count_after(0) == 2


def test_many_at_once() -> None:
    """Of many who want to know the same at the same time, one asks."""
    world = World()
    world.authority.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(world.look_up) for _ in range(8)]
        world.authority.gate.set()
        assert [each.result(30) for each in found] == [1] * 8
    assert len(world.authority.asked) == 1


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """A name server for one zone."""
    with Bind("example.org", records='www CAA 0 issue "ca.example"\nalias CNAME www\n') as running:
        yield running


class TestNamedServers:
    """Servers that are configured."""

    def test_what_they_have_authority_for(self, bind: Bind) -> None:
        """What they have authority for is told; of other names nothing is known."""
        servers = NamedServers([Address("127.0.0.1", bind.port)])
        statements = Statements(servers)
        for text in ("www.example.org", "alias.example.org"):
            assert len(statements.look_up(dns.name.from_text(text), CAA, NEVER).records) == 1
        found = statements.look_up(dns.name.from_text("a.b.example.org"), CAA, NEVER)
        assert (found.records, found.zone) == ((), dns.name.from_text("example.org"))
        with pytest.raises(ValidatorUnavailable, match="REFUSED"):
            statements.look_up(dns.name.from_text("www.example.net"), CAA, NEVER)
        assert not statements.is_suspended

    def test_one_that_is_dead(self, bind: Bind) -> None:
        """A dead one costs its time once; where all are, nobody is asked."""
        now = [1000.0]
        asked: list[int] = []

        def ask(server: Address, *_: object) -> dns.message.Message:
            asked.append(server.port)
            raise OSError("refused")

        first, second = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
        servers = NamedServers([first, second], clock=Clock(monotonic=lambda: now[0]), ask_server=ask)
        for _ in range(2):
            with pytest.raises(ValidatorUnavailable, match="no `pre-check-nameserver` tells"):
                servers.ask(NAME, CAA, NEVER)
        assert asked == [1, 2]
        assert servers.is_suspended
        now[0] += 61
        assert not servers.is_suspended

    def test_one_that_has_no_authority(self) -> None:
        """What a resolver says, or a server that fails, is nothing definite."""

        def ask(server: Address, name: dns.name.Name, *_: object) -> dns.message.Message:
            answer = dns.message.make_response(dns.message.make_query(name, CAA))
            if server.port == 2:
                answer.flags |= dns.flags.AA
                answer.set_rcode(dns.rcode.SERVFAIL)
            return answer

        servers = NamedServers([Address("127.0.0.1", 1), Address("127.0.0.1", 2)], ask_server=ask)
        with pytest.raises(ValidatorUnavailable, match=r"127\.0\.0\.1:1: NOERROR; 127\.0\.0\.1:2: SERVFAIL"):
            servers.ask(NAME, CAA, NEVER)

    def test_one_that_has_no_address(self) -> None:
        """A host that is not known is told."""
        servers = NamedServers([Address("nobody.invalid", 53)])
        with pytest.raises(ValidatorUnavailable, match=r"nobody\.invalid:53 is not found"):
            servers.ask(NAME, CAA, NEVER)

    def test_time_that_is_over(self, bind: Bind) -> None:
        """After the deadline nobody is asked."""
        servers = NamedServers([Address("127.0.0.1", bind.port)])
        with pytest.raises(ValidatorUnavailable, match="in time"):
            servers.ask(NAME, CAA, Deadline(0.0, lambda: 1.0))
