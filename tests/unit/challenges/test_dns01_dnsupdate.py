"""The dns-01 validator, against a name server that is made to answer as a test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest

from acmems.challenges import VALIDATORS, DnsUpdate, Proof, Waiter
from acmems.challenges.context import ValidatorContext
from acmems.challenges.txt import txt_value
from acmems.dns.client import servers
from acmems.dns.client.propagation import Propagation
from acmems.dns.client.tsig import TsigKey
from acmems.exceptions import NoChallengeMethodsSupported, ValidatorUnavailable
from acmems.net.address import Address
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.system.clock import Clock, Deadline
from acmems.text import Secret
from acmems.x509.identifiers import Identifier

Respond = Callable[[dns.message.Message], dns.message.Message | bytes | None]

CHALLENGE = "token"
SOA = "ns.example.org. hostmaster.example.org. 1 3600 600 86400 60"


def proof(name: str = "www.example.org", token: str = CHALLENGE) -> Proof:
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)


def response(query: dns.message.Message) -> dns.message.Message:
    """Return an empty response without a signature; dnspython before 2.8 would sign it, with no key."""
    tsig, query.tsig = query.tsig, None
    made = dns.message.make_response(query)
    query.tsig = tsig
    return made


def soa(query: dns.message.Message, owner: str = "example.org.") -> dns.message.Message:
    """Answer as RFC 2308 says for a name within a zone: the zone's SOA, with authority."""
    answer = response(query)
    answer.flags |= dns.flags.AA
    (question,) = query.question
    place = answer.answer if question.name == dns.name.from_text(owner) else answer.authority
    place.append(dns.rrset.from_text(owner, 60, "IN", "SOA", SOA))
    return answer


def code(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    answer = response(query)
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
                query = dns.message.from_wire(data, keyring=False)
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
    (section,) = read_sections(text, "a.ini", findings)
    options = Options(section, findings)
    validator = DnsUpdate.from_options("dns", options, ValidatorContext())
    options.finish()
    return validator, findings


KEY = TsigKey(dns.name.from_text("acmems"), Secret("c2VjcmV0"))


def made(server: Address, *, ttl: int = 60, timeout: float = 60.0, key: TsigKey | None = None) -> DnsUpdate:
    """Return a validator whose resolver is the server itself."""
    return DnsUpdate("dns", [server], ttl, timeout, key=key, propagation=Propagation(resolvers=[server]))


@pytest.fixture(autouse=True)
def _first_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost on the way to these servers, and what is late is not asked for twice."""
    monkeypatch.setattr(servers, "_FIRST_WAIT", 60.0)


class TestOptions:
    def test_dns_01_proves_wildcards_and_no_addresses(self) -> None:
        """dns-01 is the challenge that wildcard names are proved by; addresses are not."""
        validator, _ = from_text("[v]")
        assert VALIDATORS["dns01-dnsUpdate"] is DnsUpdate
        assert validator.challenge_type == "dns-01"
        assert validator.proves(Identifier.dns("*.example.org"))
        assert not validator.proves(Identifier.ip("192.0.2.7"))
        assert isinstance(validator, Waiter)
        assert validator.leaves_traces

    def test_the_defaults_are_those_of_0_3(self) -> None:
        """Without keys it updates 127.0.0.1, for 60 seconds to live, within 5 seconds, as 0.3 did."""
        validator, findings = from_text("[v]")
        assert list(map(str, validator.servers.addresses)) == ["127.0.0.1:53"]
        assert (validator.ttl, validator.timeout, validator.servers.key) == (60, 5.0, None)
        assert validator.propagation.mode == "none"
        assert not findings

    def test_every_key_is_read(self) -> None:
        """Servers, time to live, timeout, key, zones, label and propagation are configured."""
        validator, findings = from_text(
            "[v]\ndns-server=192.0.2.53\ndns-server=[2001:db8::53]:5353\nttl=5\ntimeout=30\ntsig-name=k.example\n"
            "tsig-key=c2VjcmV0\ntsig-algorithm=hmac-sha512\nzone=example.org\nzone=a.example.org.\nlabel=account\n"
            "propagation=authoritative\nresolver=192.0.2.1\nnameserver=192.0.2.2:54\npropagation-timeout=9"
        )
        assert list(map(str, validator.servers.addresses)) == ["192.0.2.53:53", "[2001:db8::53]:5353"]
        assert (validator.ttl, validator.timeout) == (5, 30.0)
        assert validator.servers.key is not None
        key = validator.servers.key.load()
        assert (key.name.to_text(), key.secret, key.algorithm) == (
            "k.example.",
            b"secret",
            dns.tsig.HMAC_SHA512,
        )
        assert [zone.to_text() for zone in validator.zones.allowed] == ["a.example.org.", "example.org."]
        assert validator.challenge_type == "dns-account-01"
        propagation = validator.propagation
        assert (propagation.mode, propagation.timeout) == ("authoritative", 9.0)
        assert list(map(str, (*propagation.resolvers, *propagation.nameservers))) == [
            "192.0.2.1:53",
            "192.0.2.2:54",
        ]
        assert not findings

    @pytest.mark.parametrize(
        "text",
        [
            "tsig-key=hmac-sha512:k.example:c2VjcmV0",
            "tsig-key=k.example:c2Vj cmV0\ntsig-algorithm=HMAC-SHA512.",
            "tsig-key=k.example.:c2VjcmV0\ntsig-name=K.example\ntsig-algorithm=hmac-sha512",
        ],
    )
    def test_a_key_in_one_text(self, text: str) -> None:
        """A key is given as for `nsupdate -y`, too."""
        validator, findings = from_text(f"[v]\n{text}")
        assert not findings
        assert validator.servers.key is not None
        key = validator.servers.key.load()
        assert (key.name.to_text(), key.secret, key.algorithm) == (
            "k.example.",
            b"secret",
            dns.tsig.HMAC_SHA512,
        )

    def test_bad_values_and_unknown_keys_are_findings(self) -> None:
        """Values that do not parse, and unknown keys, are findings."""
        _, findings = from_text("[v]\ndns-server=a b\nttl=0\ntimeout=soon\nlistener=x\nzone=a..b")
        assert sorted(finding.location.line for finding in findings) == [2, 3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("tsig-key=c2VjcmV0", "tsig-key needs 'tsig-name = …'"),
            ("tsig-name=k", "tsig-name needs 'tsig-key = …' or 'tsig-key-file = …'"),
            ("tsig-algorithm=hmac-sha1", "tsig-algorithm needs 'tsig-key = …' or 'tsig-key-file = …'"),
            (
                "tsig-name=k\ntsig-key=c2VjcmV0\ntsig-key-file=x",
                "tsig-key and tsig-key-file exclude each other",
            ),
            ("tsig-name=k\ntsig-key=?secret?", "tsig-key: is not base64"),
            ("tsig-name=k\ntsig-key=other:c2VjcmV0", "tsig-key has another name than tsig-name"),
            ("tsig-key-file=x\ntsig-algorithm=md5", "tsig-algorithm: 'md5' is not one of hmac-sha256"),
        ],
    )
    def test_keys_that_do_not_fit_are_findings(self, text: str, message: str) -> None:
        """Half a key, two keys and a secret that is none are findings that do not show it."""
        _, (finding,) = from_text(f"[v]\n{text}")
        assert finding.message.startswith(message)


class TestUpdate:
    def test_presenting_adds_one_record(self) -> None:
        """An update adds the value in the zone of the name, and demands or deletes nothing else."""
        with name_server(willing) as (server, seen):
            made(server, ttl=7).present([proof()])
        zone, prerequisites, (record,), _ = seen[-1].sections
        assert [rrset.to_text() for rrset in zone] == ["example.org. IN SOA"]
        assert prerequisites == []
        value = txt_value("token.thumbprint")
        assert record.to_text() == f'_acme-challenge.www.example.org. 7 IN TXT "{value}"'

    def test_withdrawing_deletes_exactly_that_value(self) -> None:
        """An update deletes the one value of the name, by class NONE (RFC 2136 section 2.5.4)."""
        with name_server(willing) as (server, seen):
            made(server).withdraw([proof()])
        (record,) = seen[-1].sections[2]
        assert record.name == dns.name.from_text("_acme-challenge.www.example.org")
        assert record.deleting == dns.rdataclass.NONE
        assert [rdata.to_text() for rdata in record] == [f'"{txt_value("token.thumbprint")}"']

    def test_withdrawing_takes_one_message_and_no_query(self) -> None:
        """Where a value was put is known when it is taken away: one message, and no look-up."""
        with name_server(willing) as (server, seen):
            validator = made(server)
            validator.present([proof()])
            count = len(seen)
            validator.withdraw([proof()])
        assert [is_update(query) for query in seen[count:]] == [True]

    def test_no_question_asks_for_recursion(self) -> None:
        """What another server says would not tell what this one may change."""
        with name_server(willing) as (server, seen):
            made(server).present([proof()])
        assert not any(query.flags & dns.flags.RD for query in seen if not is_update(query))

    def test_servers_without_negative_soa_are_walked(self) -> None:
        """A server that sends no SOA along with "no such name" is asked for the names above."""

        def respond(query: dns.message.Message) -> dns.message.Message:
            if is_update(query):
                return code(query, dns.rcode.NOERROR)
            answer = soa(query)
            answer.authority.clear()
            return answer

        with name_server(respond) as (server, seen):
            made(server).present([proof()])
        assert [query.question[0].name.to_text() for query in seen][-3:] == [
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

        monkeypatch.setattr(servers, "_FIRST_WAIT", 0.05)
        with name_server(respond) as (server, seen):
            made(server).present([proof()])
        asked = [is_update(query) for query in seen]
        assert asked[:2] == [False, False]
        assert asked[-1]


class TestFailures:
    def failure(self, respond: Respond, *, timeout: float = 60.0, key: TsigKey | None = None) -> str:
        with name_server(respond) as (server, _), pytest.raises(ValidatorUnavailable) as caught:
            made(server, timeout=timeout, key=key).present([proof()])
        message = str(caught.value)
        assert message.isprintable()
        assert caught.value.advice
        assert message.startswith("TXT record _acme-challenge.www.example.org: DNS server ")
        return message.partition(": ")[2].replace(str(server), "SERVER")

    @pytest.mark.threat("proving", "a DNS server that refuses")
    @pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.NOTAUTH, dns.rcode.SERVFAIL])
    def test_a_refused_update_is_told(self, rcode: dns.rcode.Rcode) -> None:
        """A server that does not take the update is named, with the record and its reason."""
        assert self.failure(lambda query: code(query, rcode) if is_update(query) else soa(query)) == (
            f"DNS server SERVER refused to add it: {dns.rcode.to_text(rcode)}"
        )

    def test_every_server_is_told(self) -> None:
        """Where no server does it, each is named with its reason; one that did it last is asked first."""

        def refusing(query: dns.message.Message) -> dns.message.Message:
            return code(query, dns.rcode.REFUSED) if is_update(query) else soa(query)

        def failing(query: dns.message.Message) -> dns.message.Message:
            return code(query, dns.rcode.SERVFAIL)

        with name_server(failing) as (first, _), name_server(refusing) as (second, _):
            validator = DnsUpdate("dns", [first, second])
            with pytest.raises(ValidatorUnavailable) as caught:
                validator.present([proof()])
        assert str(caught.value) == (
            f"TXT record _acme-challenge.www.example.org: DNS server {second} refused to add it: REFUSED; "
            f"DNS server {first} refused to add it: SERVFAIL"
        )

    def test_a_zone_that_is_not_loaded_is_told(self) -> None:
        """A server that fails when it is asked for the zone is not asked to change it."""
        assert self.failure(lambda query: code(query, dns.rcode.SERVFAIL)) == (
            "DNS server SERVER answered SERVFAIL when asked for the zone of _acme-challenge.www.example.org"
        )

    @pytest.mark.threat("proving", "a DNS server that refuses")
    def test_a_server_of_other_zones_is_told(self) -> None:
        """A server that has authority for no zone of the name gets no update."""
        assert "DNS server SERVER is not authoritative for _acme-challenge.www.example.org" in (
            self.failure(lambda query: code(query, dns.rcode.REFUSED))
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

    def test_a_proof_without_a_zone_is_withdrawn_without_a_query(self) -> None:
        """What could not be presented, as no zone was found, is withdrawn in silence, and nobody is asked."""
        with name_server(lambda query: code(query, dns.rcode.REFUSED)) as (server, seen):
            validator = made(server)
            with pytest.raises(ValidatorUnavailable):
                validator.present([proof()])
            count = len(seen)
            validator.withdraw([proof()])
            assert len(seen) == count

    def test_a_name_too_long_for_its_record(self) -> None:
        """A name that is no name any more with `_acme-challenge.` in front is refused, and asks nobody."""
        name = ".".join(["a" * 61] * 4)
        assert len(name) == 247
        with name_server(willing) as (server, seen):
            validator = made(server)
            with pytest.raises(NoChallengeMethodsSupported, match="too long to be proved by dns-01"):
                validator.present([proof(name)])
            validator.withdraw([proof(name)])
        assert seen == []

    def test_the_longest_name_that_has_a_record(self) -> None:
        """A name that leaves just enough room for `_acme-challenge.` is proved."""
        with name_server(willing) as (server, seen):
            made(server).present([proof(f"{'a' * 61}.{'a' * 61}.{'a' * 61}.{'a' * 39}.example.org")])
        assert any(is_update(query) for query in seen)

    def test_silence_is_told(self) -> None:
        """A server that does not answer is given up after the timeout."""
        assert self.failure(lambda _: None, timeout=0.1) == "DNS server SERVER did not answer within 0.1 s"

    def test_nonsense_is_as_good_as_silence(self) -> None:
        """What is no DNS message, or answers another question, is not taken for an answer."""
        assert self.failure(lambda _: b"nonsense", timeout=0.1).endswith("did not answer within 0.1 s")
        assert self.failure(
            lambda query: soa(dns.message.make_query("example.com", "CNAME", id=query.id)), timeout=0.1
        ).endswith("did not answer within 0.1 s")

    @pytest.mark.threat("proving", "a DNS answer that is forged or broken")
    def test_an_answer_without_a_signature_is_not_believed(self) -> None:
        """With a TSIG key, an unsigned answer counts for nothing, whatever it says."""
        assert self.failure(willing, key=KEY) == "DNS server SERVER did not sign its answer with the TSIG key"

    @pytest.mark.threat("proving", "a DNS answer that is forged or broken")
    def test_an_answer_with_a_wrong_signature_is_not_believed(self) -> None:
        """With a TSIG key, an answer that is signed with another secret counts for nothing."""
        forger = dns.tsig.Key("acmems", "Zm9yZ2Vk", "hmac-sha256")

        def respond(query: dns.message.Message) -> dns.message.Message:
            answer = willing(query)
            answer.use_tsig(forger)
            answer.request_mac = query.mac or b""
            return answer

        assert self.failure(respond, key=KEY) == (
            "DNS server SERVER signed its answer wrongly for the TSIG key acmems"
        )

    @pytest.mark.threat("proving", "a DNS answer that is forged or broken")
    def test_a_hostile_datagram_breaks_nothing(self) -> None:
        """Bytes that are cut off or that point into themselves are told of in words, signed or not."""
        loop = b"\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x05\x00\x01"
        for key in (None, KEY):
            reason = self.failure(lambda query: query.id.to_bytes(2) + loop, timeout=0.1, key=key)
            assert "cannot be read" in reason or "did not answer" in reason

    def test_a_name_server_that_is_not_found_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server whose own name does not resolve is named."""

        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(ValidatorUnavailable) as caught:
            made(Address("name-server.invalid", 53)).present([proof()])
        assert str(caught.value) == (
            "TXT record _acme-challenge.www.example.org: "
            "DNS server name-server.invalid:53 cannot be reached: Name or service not known"
        )


class TestServersWithoutTheKey:
    @pytest.mark.threat("proving", "a DNS answer that is forged or broken")
    @pytest.mark.parametrize("refusal", [dns.tsig.PeerBadKey, dns.exception.FormError])
    def test_questions_go_without_it_and_updates_never(
        self, monkeypatch: pytest.MonkeyPatch, refusal: type[Exception]
    ) -> None:
        """Who does not know the key is asked without it, by TCP; updates are always signed."""
        sent: list[tuple[bool, bool, bool]] = []

        def answer(message: dns.message.Message, *_: object, stream: bool) -> dns.message.Message:
            sent.append((is_update(message), message.keyring is not None, stream))
            if message.keyring is not None:
                raise refusal("the response has no TSIG")
            return willing(message)

        monkeypatch.setattr(servers, "_by_udp_or_tcp", answer)
        validator = made(Address("127.0.0.1", 53), key=KEY)
        with pytest.raises(ValidatorUnavailable):
            validator.present([proof(), proof("other.example.org")])
        question, unsigned, update = (False, True, False), (False, False, True), (True, True, False)
        assert sent == [question, unsigned, unsigned, update]


class TestManyNames:
    def test_names_are_looked_up_side_by_side(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the first name, which tells the server that answers, questions go out together."""
        together = threading.Barrier(8, timeout=30)
        asked: list[dns.name.Name] = []

        def answer(message: dns.message.Message, *_: object, stream: bool) -> dns.message.Message:
            assert not stream
            if not is_update(message):
                asked.append(message.question[0].name)
                if len(asked) > 1:
                    together.wait()  # broken if one question waits for the answer to another
            return willing(message)

        monkeypatch.setattr(servers, "_by_udp_or_tcp", answer)
        made(Address("127.0.0.1", 53)).present([proof(f"n{number}.example.org") for number in range(9)])
        assert len(set(asked)) == 9

    def test_a_time_limit_belongs_to_a_message(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hundred names at a server 60 ms away leave each of them, and the update, its own time."""
        now = [1000.0]
        left: list[float] = []

        def answer(
            message: dns.message.Message, _: object, deadline: Deadline, *, stream: bool
        ) -> dns.message.Message:
            assert not stream
            left.append(deadline.remaining)
            now[0] += 0.06
            return willing(message)

        monkeypatch.setattr(servers, "_by_udp_or_tcp", answer)
        server = Address("127.0.0.1", 53)
        validator = DnsUpdate("dns", [server], clock=Clock(monotonic=lambda: now[0]))
        validator.present([proof(f"n{number}.example.org") for number in range(100)])
        assert len(left) == 101
        assert min(left) > 2
