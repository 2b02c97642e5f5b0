"""The dns-01 validator, against a name server that is made to answer as a test wants."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update
import pytest

from acmems.challenges import VALIDATORS, ChallengeResponses, DnsUpdate, Proof, dns01_dnsupdate
from acmems.challenges.dns01_dnsupdate import txt_value
from acmems.exceptions import NoChallengeMethodsSupported, ValidatorUnavailable
from acmems.ini import Address, Finding, Options, read
from acmems.names import Identifier

Respond = Callable[[dns.message.Message], dns.message.Message | bytes | None]

CHALLENGE = "token"
SOA = "ns.example.org. hostmaster.example.org. 1 3600 600 86400 60"


def proof(name: str = "www.example.org", token: str = CHALLENGE) -> Proof:
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)


def soa(query: dns.message.Message, owner: str = "example.org.") -> dns.message.Message:
    """Answer as RFC 2308 says for a name within a zone: the zone's SOA, with authority."""
    answer = dns.message.make_response(query)
    answer.flags |= dns.flags.AA
    (question,) = query.question
    place = answer.answer if question.name == dns.name.from_text(owner) else answer.authority
    place.append(dns.rrset.from_text(owner, 60, "IN", "SOA", SOA))
    return answer


def code(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    answer = dns.message.make_response(query)
    answer.set_rcode(rcode)
    return answer


def willing(query: dns.message.Message) -> dns.message.Message:
    """Answer as a server that takes every update of its zone."""
    return code(query, dns.rcode.NOERROR) if is_update(query) else soa(query)


def is_update(query: dns.message.Message) -> bool:
    return query.opcode() == dns.opcode.UPDATE


@contextmanager
def name_server(respond: Respond) -> Iterator[tuple[Address, list[dns.message.Message]]]:
    """A name server on loopback: its address, and the messages that it has seen."""
    seen: list[dns.message.Message] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, client = server.recvfrom(65535)
                if data == b"stop":
                    return
                query = dns.message.from_wire(data)
                seen.append(query)
                answer = respond(query)
                if answer is not None:
                    server.sendto(answer if isinstance(answer, bytes) else answer.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address(*server.getsockname()), seen
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"stop", server.getsockname())
            thread.join()


def from_text(text: str) -> tuple[DnsUpdate, list[Finding]]:
    findings: list[Finding] = []
    (section,) = read(text, "a.ini", findings)
    options = Options(section, findings)
    validator = DnsUpdate.from_options("dns", options, ChallengeResponses())
    options.finish()
    return validator, findings


class TestOptions:
    def test_it_is_dns_01_and_proves_wildcards(self) -> None:
        """dns-01 is the challenge that wildcard names are proved by."""
        assert VALIDATORS["dns01-dnsUpdate"] is DnsUpdate
        assert DnsUpdate.challenge_type == "dns-01"
        assert DnsUpdate.proves_wildcards

    def test_defaults(self) -> None:
        """Without keys it updates 127.0.0.1, for 60 seconds to live, within 5 seconds."""
        validator, findings = from_text("[v]")
        assert (str(validator.server), validator.ttl, validator.timeout) == ("127.0.0.1:53", 60, 5.0)
        assert not findings

    def test_every_key_is_read(self) -> None:
        """Server, time to live and timeout are configured as in 0.3."""
        validator, findings = from_text("[v]\ndns-server=192.0.2.53\nttl=5\ntimeout=30")
        assert (str(validator.server), validator.ttl, validator.timeout) == ("192.0.2.53:53", 5, 30.0)
        assert not findings

    def test_what_is_wrong_is_a_finding(self) -> None:
        """Values that do not parse, and unknown keys, are findings."""
        _, findings = from_text("[v]\ndns-server=a b\nttl=0\ntimeout=soon\nlistener=x")
        assert [finding.location.line for finding in findings] == [2, 3, 4, 5]


class TestValue:
    def test_the_value_is_the_digest_of_the_key_authorization(self) -> None:
        """The TXT value is the base64url SHA-256 of the key authorization (RFC 8555 section 8.4)."""
        expected = base64.urlsafe_b64encode(hashlib.sha256(b"token.thumbprint").digest()).decode()
        assert txt_value("token.thumbprint") == expected.rstrip("=")
        assert len(txt_value("token.thumbprint")) == 43


class TestUpdate:
    def test_presenting_adds_one_record(self) -> None:
        """An update adds the value in the zone of the name, and demands or deletes nothing else."""
        with name_server(willing) as (server, seen):
            DnsUpdate("dns", server, ttl=7).present(proof())
        zone, prerequisites, (record,), _ = seen[-1].sections
        assert [rrset.to_text() for rrset in zone] == ["example.org. IN SOA"]
        assert prerequisites == []
        value = txt_value("token.thumbprint")
        assert record.to_text() == f'_acme-challenge.www.example.org. 7 IN TXT "{value}"'

    def test_withdrawing_deletes_exactly_that_value(self) -> None:
        """An update deletes the one value of the name, by class NONE (RFC 2136 section 2.5.4)."""
        with name_server(willing) as (server, seen):
            DnsUpdate("dns", server).withdraw(proof())
        (record,) = seen[-1].sections[2]
        assert record.name == dns.name.from_text("_acme-challenge.www.example.org")
        assert record.deleting == dns.rdataclass.NONE
        assert [rdata.to_text() for rdata in record] == [f'"{txt_value("token.thumbprint")}"']

    def test_the_zone_is_the_nearest_one(self) -> None:
        """The zone is found wherever it begins, and the question for it asks for no recursion."""
        with name_server(
            lambda query: (
                code(query, dns.rcode.NOERROR) if is_update(query) else soa(query, "www.example.org.")
            )
        ) as (server, seen):
            DnsUpdate("dns", server).present(proof())
        assert not seen[0].flags & dns.flags.RD
        assert [question.to_text() for question in seen[-1].question] == ["www.example.org. IN SOA"]

    def test_servers_without_negative_soa_are_walked(self) -> None:
        """A server that sends no SOA along with "no such name" is asked for the names above."""

        def respond(query: dns.message.Message) -> dns.message.Message:
            if is_update(query):
                return code(query, dns.rcode.NOERROR)
            answer = soa(query)
            answer.authority.clear()
            return answer

        with name_server(respond) as (server, seen):
            DnsUpdate("dns", server).present(proof())
        assert [query.question[0].name.to_text() for query in seen] == [
            "_acme-challenge.www.example.org.",
            "www.example.org.",
            "example.org.",
            "example.org.",
        ]

    def test_a_lost_datagram_is_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A question whose answer is lost is asked again within the timeout."""
        lost: list[dns.message.Message] = []

        def respond(query: dns.message.Message) -> dns.message.Message | None:
            if not lost:
                lost.append(query)
                return None
            return willing(query)

        monkeypatch.setattr(dns01_dnsupdate, "_FIRST_WAIT", 0.05)
        with name_server(respond) as (server, seen):
            DnsUpdate("dns", server, timeout=60).present(proof())
        assert [is_update(query) for query in seen] == [False, False, True]


class TestFailures:
    def failure(self, respond: Respond, *, timeout: float = 5.0) -> str:
        with name_server(respond) as (server, _), pytest.raises(ValidatorUnavailable) as caught:
            DnsUpdate("dns", server, timeout=timeout).present(proof())
        message = str(caught.value)
        assert "\n" not in message
        return message.replace(str(server), "SERVER")

    @pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.SERVFAIL])
    def test_a_refused_update_is_told(self, rcode: dns.rcode.Rcode) -> None:
        """A server that does not take the update is named, with the record and its reason."""
        assert self.failure(lambda query: code(query, rcode) if is_update(query) else soa(query)) == (
            "DNS server SERVER refused to add the TXT record _acme-challenge.www.example.org: "
            f"{dns.rcode.to_text(rcode)}"
        )

    def test_a_server_of_other_zones_is_told(self) -> None:
        """A server that has authority for no zone of the name gets no update."""
        assert self.failure(lambda query: code(query, dns.rcode.REFUSED)) == (
            "DNS server SERVER is not authoritative for _acme-challenge.www.example.org"
        )

    def test_a_resolver_is_not_a_primary_server(self) -> None:
        """An answer without authority, as resolvers give, shows no zone to update."""

        def respond(query: dns.message.Message) -> dns.message.Message:
            answer = soa(query)
            answer.flags &= ~dns.flags.AA
            return answer

        assert "is not authoritative for" in self.failure(respond)

    def test_the_soa_of_another_branch_is_not_believed(self) -> None:
        """A zone that is not above the name is not its zone."""
        assert "is not authoritative for" in self.failure(lambda query: soa(query, "example.net."))

    def test_a_name_too_long_for_its_record(self) -> None:
        """A name that is no name any more with `_acme-challenge.` in front is refused, and asks nobody."""
        name = ".".join(["a" * 61] * 4)
        assert len(name) == 247
        with name_server(willing) as (server, seen):
            validator = DnsUpdate("dns", server)
            with pytest.raises(NoChallengeMethodsSupported, match="too long to be proved by dns-01"):
                validator.present(proof(name))
            validator.withdraw(proof(name))
        assert seen == []

    def test_the_longest_name_that_has_a_record(self) -> None:
        """A name that leaves just enough room for `_acme-challenge.` is proved."""
        with name_server(willing) as (server, seen):
            DnsUpdate("dns", server).present(
                proof(f"{'a' * 61}.{'a' * 61}.{'a' * 61}.{'a' * 39}.example.org")
            )
        assert is_update(seen[-1])

    def test_silence_is_told(self) -> None:
        """A server that does not answer is given up after the timeout."""
        assert self.failure(lambda _: None, timeout=0.1) == "DNS server SERVER did not answer within 0.1 s"

    def test_nonsense_is_as_good_as_silence(self) -> None:
        """What is no DNS message, or answers another question, is not taken for an answer."""
        assert self.failure(lambda _: b"nonsense", timeout=0.1).endswith("did not answer within 0.1 s")
        assert self.failure(
            lambda query: soa(dns.message.make_query("example.com", "SOA", id=query.id)), timeout=0.1
        ).endswith("did not answer within 0.1 s")

    def test_a_name_server_that_is_not_found_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server whose own name does not resolve is named."""

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ValidatorUnavailable) as caught:
            DnsUpdate("dns", Address("name-server.invalid", 53)).present(proof())
        assert str(caught.value) == (
            "DNS server name-server.invalid:53 cannot be reached: Name or service not known"
        )
