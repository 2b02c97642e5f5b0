"""What the name server answers, and what it does not."""

from __future__ import annotations

import ipaddress

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest

from acmems.dns.server import MOST_UDP, NameServer, Zone, answer
from acmems.dns.server.answer import truncated

ORIGIN = dns.name.from_text("acme.example.org")
WWW = dns.name.from_text("www.example.org", ORIGIN)


@pytest.fixture
def asked_for() -> list[str]:
    return []


@pytest.fixture
def zone(asked_for: list[str]) -> Zone:
    servers = [
        NameServer(dns.name.from_text("acmems.example.org")),
        NameServer(dns.name.from_text("ns.acme.example.org"), (ipaddress.ip_address("192.0.2.1"),)),
    ]
    made = Zone(ORIGIN, servers, 7)
    made.add(WWW, "first", lambda: asked_for.append("first"))
    made.add(WWW, "second", lambda: asked_for.append("second"))
    return made


def ask(zone: Zone, name: str, kind: str = "TXT", **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)  # type: ignore[arg-type]  # as the test says
    reply = answer(query.to_wire(), zone)
    assert reply is not None
    return dns.message.from_wire(reply)


def texts(message: dns.message.Message) -> set[str]:
    return {record.to_text() for rrset in message.answer for record in rrset}


class TestRecords:
    """What is in the zone."""

    def test_all_values_of_a_name_are_in_one_answer(self, zone: Zone, asked_for: list[str]) -> None:
        """All values of a name are in one answer, with authority, and whoever shows them hears of it."""
        reply = ask(zone, "www.example.org.acme.example.org")
        assert texts(reply) == {'"first"', '"second"'}
        assert reply.flags & dns.flags.AA
        assert not reply.flags & dns.flags.RA
        assert asked_for == ["first", "second"]

    def test_only_txt_tells(self, zone: Zone, asked_for: list[str]) -> None:
        """A query for another type is no visit of a CA."""
        ask(zone, "www.example.org.acme.example.org", "A")
        assert asked_for == []

    @pytest.mark.parametrize(
        ("name", "kind", "found"),
        [
            ("acme.example.org", "NS", {"acmems.example.org.", "ns.acme.example.org."}),
            ("ns.acme.example.org", "A", {"192.0.2.1"}),
        ],
    )
    def test_the_zone_answers_for_its_name_servers(
        self, zone: Zone, name: str, kind: str, found: set[str]
    ) -> None:
        """The zone knows its name servers and the addresses of those within it."""
        assert texts(ask(zone, name, kind)) == found

    def test_the_serial_grows_with_each_change(self, zone: Zone) -> None:
        """The SOA names the first name server, and its serial grows with each change."""
        (before,) = ask(zone, "acme.example.org", "SOA").answer[0]
        zone.remove(WWW, "nothing of the kind", print)
        (same,) = ask(zone, "acme.example.org", "SOA").answer[0]
        zone.add(WWW, "third", print)
        (after,) = ask(zone, "acme.example.org", "SOA").answer[0]
        assert before.mname == dns.name.from_text("acmems.example.org")
        assert same.serial == before.serial
        assert after.serial == before.serial + 1

    def test_names_are_found_in_any_case(self, zone: Zone) -> None:
        """Names are found whatever their case, and the answer has that of the question."""
        reply = ask(zone, "wWw.eXample.ORG.acme.EXAMPLE.org")
        assert reply.question[0].name.to_text() == "wWw.eXample.ORG.acme.EXAMPLE.org."
        assert reply.answer[0].name.to_text() == "wWw.eXample.ORG.acme.EXAMPLE.org."
        assert len(texts(reply)) == 2

    def test_any_gets_one_type_of_record(self, zone: Zone) -> None:
        """ANY brings one kind of record (RFC 8482)."""
        assert len(ask(zone, "www.example.org.acme.example.org", "ANY").answer) == 1
        assert len(ask(zone, "acme.example.org", "ANY").answer) == 1

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("www.example.org.acme.example.org", "A"),
            ("www.example.org.acme.example.org", "TYPE65280"),
            ("example.org.acme.example.org", "TXT"),
            ("org.acme.example.org", "ANY"),
            ("acme.example.org", "TXT"),
            ("ns.acme.example.org", "AAAA"),
        ],
    )
    def test_a_name_without_the_type_gets_the_soa(self, zone: Zone, name: str, kind: str) -> None:
        """A name without the type, one between others too, is no error: the SOA comes (RFC 2308)."""
        reply = ask(zone, name, kind)
        assert (reply.rcode(), reply.answer) == (dns.rcode.NOERROR, [])
        assert [rrset.rdtype for rrset in reply.authority] == [dns.rdatatype.SOA]
        assert reply.authority[0].name == ORIGIN

    def test_no_such_name(self, zone: Zone) -> None:
        """What is not there is NXDOMAIN; so is a name whose last value went, and those above it."""
        assert ask(zone, "mail.example.org.acme.example.org").rcode() == dns.rcode.NXDOMAIN
        gone = Zone(ORIGIN, [NameServer(dns.name.from_text("ns.example.org"))])
        gone.add(WWW, "value", print)
        gone.remove(WWW, "value", print)
        for name in ("www.example.org.acme.example.org", "org.acme.example.org"):
            reply = ask(gone, name)
            assert reply.rcode() == dns.rcode.NXDOMAIN
            assert reply.authority[0].rdtype == dns.rdatatype.SOA

    def test_a_value_that_two_show(self, zone: Zone) -> None:
        """A value stays until both who show it have withdrawn it."""
        zone.add(WWW, "first", print)
        zone.remove(WWW, "first", print)
        assert '"first"' in texts(ask(zone, "www.example.org.acme.example.org"))

    def test_a_value_that_was_presented_twice_is_withdrawn_once(self, zone: Zone) -> None:
        """What is presented twice by the same is gone when it is withdrawn once."""
        for _ in range(2):
            zone.add(WWW, "again", print)
        zone.remove(WWW, "again", print)
        assert '"again"' not in texts(ask(zone, "www.example.org.acme.example.org"))

    def test_a_name_server_of_the_zones_own_name(self) -> None:
        """A name server may have the name of the zone, with addresses."""
        made = Zone(ORIGIN, [NameServer(ORIGIN, (ipaddress.ip_address("192.0.2.1"),))])
        assert texts(ask(made, "acme.example.org", "A")) == {"192.0.2.1"}
        assert texts(ask(made, "acme.example.org", "NS")) == {"acme.example.org."}


class TestRefusals:
    """What it has no answer for."""

    @pytest.mark.threat("proving", "hostile queries to the name server")
    @pytest.mark.parametrize(
        ("name", "kind", "rdclass"),
        [
            ("example.org", "SOA", "IN"),
            ("www.example.org", "TXT", "IN"),
            ("otheracme.example.org", "TXT", "IN"),
            (".", "NS", "IN"),
            ("acme.example.org", "AXFR", "IN"),
            ("acme.example.org", "IXFR", "IN"),
            ("version.bind", "TXT", "CH"),
        ],
    )
    def test_other_zones_classes_and_transfers_are_refused(
        self, zone: Zone, name: str, kind: str, rdclass: str
    ) -> None:
        """Other zones, other classes and transfers are refused, with nothing in the answer."""
        reply = ask(zone, name, kind, rdclass=rdclass)
        assert (reply.rcode(), reply.answer, reply.authority) == (dns.rcode.REFUSED, [], [])
        assert not reply.flags & dns.flags.AA

    @pytest.mark.parametrize("opcode", ["UPDATE", "NOTIFY", "STATUS"])
    def test_other_opcodes_are_not_implemented(self, zone: Zone, opcode: str) -> None:
        """What is no query is not implemented."""
        query = dns.message.make_query("acme.example.org", "SOA")
        query.set_opcode(dns.opcode.from_text(opcode))
        reply = answer(query.to_wire(), zone)
        assert reply is not None
        assert (reply[3], len(reply)) == (dns.rcode.NOTIMP, 12)

    @pytest.mark.threat("proving", "hostile queries to the name server")
    def test_a_truncated_query_gets_formerr(self, zone: Zone) -> None:
        """A header that promises more than there is brings FORMERR, with the same ID."""
        query = dns.message.make_query("acme.example.org", "SOA").to_wire()
        for broken in (query[:-1], query + b"x", query[:12], query[:4] + b"\x00\x02" + query[6:]):
            reply = answer(broken, zone)
            assert reply is not None
            assert reply[:2] == query[:2]
            assert (reply[2] & 0x80, reply[3]) == (0x80, dns.rcode.FORMERR)

    def test_answers_and_fragments_get_no_answer(self, zone: Zone) -> None:
        """Answers and what has no header get no answer: two servers must not talk to each other for ever."""
        query = bytearray(dns.message.make_query("acme.example.org", "SOA").to_wire())
        query[2] |= 0x80
        assert answer(bytes(query), zone) is None
        assert answer(b"", zone) is None
        assert answer(b"x" * 11, zone) is None
        assert truncated(bytes(query)) is None


class TestSizes:
    """Answers fit where they must."""

    @pytest.fixture
    def full(self) -> Zone:
        made = Zone(ORIGIN, [NameServer(dns.name.from_text("ns.example.org"))])
        for number in range(60):
            made.add(WWW, f"{number:043}", print)
        return made

    @pytest.mark.parametrize(
        ("payload", "limit"), [(None, 512), (512, 512), (100, 512), (4096, MOST_UDP), (1232, MOST_UDP)]
    )
    def test_an_answer_that_does_not_fit_is_empty_with_tc(
        self, full: Zone, payload: int | None, limit: int
    ) -> None:
        """What does not fit into a datagram is left out altogether, and TC says so."""
        edns = {} if payload is None else {"use_edns": 0, "payload": payload}
        query = dns.message.make_query("www.example.org.acme.example.org", "TXT", **edns)  # type: ignore[arg-type]  # as the test says
        reply = answer(query.to_wire(), full)
        assert reply is not None
        assert len(reply) <= limit
        parsed = dns.message.from_wire(reply)
        assert parsed.flags & dns.flags.TC
        assert parsed.answer == []
        whole = answer(query.to_wire(), full, stream=True)
        assert whole is not None
        assert len(dns.message.from_wire(whole).answer[0]) == 60

    def test_edns_gets_edns_and_an_unknown_version_badvers(self, zone: Zone) -> None:
        """Who speaks EDNS gets an answer with it, and an unknown version is BADVERS (RFC 6891)."""
        reply = ask(zone, "acme.example.org", "SOA", use_edns=0, payload=4096)
        assert (reply.edns, reply.payload) == (0, MOST_UDP)
        assert ask(zone, "acme.example.org", "SOA", use_edns=False).edns == -1
        newer = ask(zone, "acme.example.org", "SOA", use_edns=1)
        assert (newer.rcode(), newer.edns) == (dns.rcode.BADVERS, 0)

    def test_sent_to_tcp(self) -> None:
        """Beyond the rate the answer is the question with TC, no longer than it came."""
        query = dns.message.make_query("acme.example.org", "SOA").to_wire()
        reply = truncated(query)
        assert reply is not None
        assert len(reply) <= len(query)
        assert dns.message.from_wire(query).is_response(
            dns.message.from_wire(reply, raise_on_truncation=False)
        )
        assert truncated(query[:-1]) is None
        assert dns.message.from_wire(reply).flags & dns.flags.TC
