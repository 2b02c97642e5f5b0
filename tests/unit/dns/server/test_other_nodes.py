"""Records that other nodes present in a zone: looked up for each question, beside those of this node."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.message
import dns.name
import dns.query
import dns.rcode
import pytest
from tests.listening import PATIENCE, look_around
from tests.peers import wait_until
from tests.sharing import OtherNode

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.challenges.dns01_server import DnsServer
from acmems.challenges.txt import txt_value
from acmems.net.listening import Listener
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.x509.identifiers import Identifier

ZONE = "acme.example.net"
NAME = f"www.example.org.{ZONE}"
PLACE = f"dns:{NAME}."
TEXT = f"""
[verification "dns"]
zone = {ZONE}
ns = ns.{ZONE} 192.0.2.1
listener = 127.0.0.1:0
"""
Ask = Callable[..., dns.message.Message]


class Desk:
    """A validator that listens, and what other nodes present."""

    def __init__(self) -> None:
        findings: list[Finding] = []
        (section,) = read_sections(TEXT, "a.ini", findings)
        self.others = OtherNode()
        context = ValidatorContext(lookups=self.others)
        self.validator = DnsServer.from_options("dns", Options(section, findings), context)
        assert findings == []
        self.listener = Listener.of(self.validator.plan()).open()
        self.port = self.listener.addresses[0].port

    def present(self, token: str, name: str = "www.example.org") -> Proof:
        proof = Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)
        self.validator.present([proof])
        return proof

    def udp(self, name: str = NAME, kind: str = "TXT") -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        return dns.query.udp(query, "127.0.0.1", timeout=PATIENCE, port=self.port)

    def tcp(self, name: str = NAME, kind: str = "TXT") -> dns.message.Message:
        query = dns.message.make_query(name, kind)
        return dns.query.tcp(query, "127.0.0.1", timeout=PATIENCE, port=self.port)

    def ask(
        self, transport: str, *tokens: str, name: str = NAME, is_known: bool = True
    ) -> dns.message.Message:
        """Ask, while other nodes present these tokens."""
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(self.udp if transport == "udp" else self.tcp, name)
            self.others.answer(*(f"{token}.thumbprint" for token in tokens), is_known=is_known)
            return asking.result(PATIENCE)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    with contextlib.closing(desk.listener):
        yield desk


def texts(message: dns.message.Message) -> set[str]:
    return {record.to_text().strip('"') for rrset in message.answer for record in rrset}


def values(*tokens: str) -> set[str]:
    return {txt_value(f"{token}.thumbprint") for token in tokens}


both = pytest.mark.parametrize("transport", ["udp", "tcp"])


@both
def test_values_of_this_node_and_others(desk: Desk, transport: str) -> None:
    """A name has the values of all nodes."""
    desk.present("mine")
    assert desk.validator.locate([desk.present("mine")]) == {desk.present("mine"): PLACE}
    assert texts(desk.ask(transport, "other", "third")) == values("mine", "other", "third")
    assert texts(desk.ask(transport)) == values("mine")


@both
def test_values_of_another_node_alone(desk: Desk, transport: str) -> None:
    """A name that only another node presents is there, however it is spelled."""
    reply = desk.ask(transport, "other", name=NAME.upper())
    assert texts(reply) == values("other")
    assert reply.rcode() == dns.rcode.NOERROR


@both
def test_nothing_anywhere(desk: Desk, transport: str) -> None:
    """A name that nobody presents is not denied: another node may just be presenting one below it."""
    reply = desk.ask(transport)
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.answer == []
    assert reply.authority != []


@both
def test_a_state_that_is_away(desk: Desk, transport: str) -> None:
    """What this node presents is told; of all else a resolver is to ask another name server."""
    desk.present("mine")
    assert texts(desk.ask(transport, is_known=False)) == values("mine")
    reply = desk.ask(transport, name=f"other.example.org.{ZONE}", is_known=False)
    assert reply.rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (ZONE, "TXT"),
        (f"ns.{ZONE}", "A"),
        (NAME, "A"),
        (f"no_name.{ZONE}", "TXT"),
        (f"*.{ZONE}", "TXT"),
        ("www.example.org", "TXT"),
    ],
)
def test_what_needs_no_lookup(desk: Desk, name: str, kind: str) -> None:
    """What can be no record of a proof is answered at once."""
    assert desk.udp(name, kind).rcode() in {dns.rcode.NOERROR, dns.rcode.REFUSED}
    assert desk.others.places == []


def test_others_are_answered_meanwhile(desk: Desk) -> None:
    """A look-up that takes long holds up no other question, whatever the transport."""
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(each) for each in (desk.udp, desk.tcp)]
        wait_until(lambda: len(desk.others.asked) == len(waiting), "both are looked up")
        for ask in (desk.udp, desk.tcp):
            assert ask(f"ns.{ZONE}", "A").rcode() == dns.rcode.NOERROR
        for _ in waiting:
            desk.others.answer("other.thumbprint")
        assert [texts(each.result(PATIENCE)) for each in waiting] == [values("other")] * 2


def test_questions_on_one_connection(desk: Desk) -> None:
    """They are answered in turn; one look-up at a time goes on for them."""
    query = dns.message.make_query(NAME, "TXT").to_wire()
    with socket.create_connection(("127.0.0.1", desk.port), PATIENCE) as sock:
        sock.sendall((len(query).to_bytes(2, "big") + query) * 9)
        for number in range(9):
            wait_until(lambda: len(desk.others.asked) == 1, "it is looked up")
            look_around(desk.listener)
            assert len(desk.others.asked) == 1
            desk.others.answer(f"{number}.thumbprint")
            assert texts(dns.query.receive_tcp(sock)[0]) == values(str(number))


def test_a_client_that_has_gone(desk: Desk) -> None:
    """What is found too late hurts nobody."""
    query = dns.message.make_query(NAME, "TXT").to_wire()
    with socket.create_connection(("127.0.0.1", desk.port), PATIENCE) as sock:
        sock.sendall(len(query).to_bytes(2, "big") + query)
        wait_until(lambda: len(desk.others.asked) == 1, "it is looked up")
    wait_until(lambda: desk.listener.connections == (), "its connection is closed")
    desk.others.answer("other.thumbprint")
    assert desk.udp(f"ns.{ZONE}", "A").rcode() == dns.rcode.NOERROR
