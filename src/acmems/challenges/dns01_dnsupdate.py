"""dns-01 by dynamic update: the proof is a TXT record (RFC 8555 section 8.4, RFC 2136)."""

from __future__ import annotations

import base64
import functools
import hashlib
import socket
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.update

from acmems.challenges.contract import Proof
from acmems.challenges.responses import ChallengeResponses
from acmems.clock import SYSTEM, Clock, Deadline
from acmems.exceptions import NoChallengeMethodsSupported, ValidatorUnavailable
from acmems.ini import Address, Options, address, positive_int, seconds

_DEFAULT_SERVER = Address("127.0.0.1", 53)
# Seconds. A datagram may get lost; asking again is harmless, a repeated update included.
_FIRST_WAIT = 1.5


class DnsUpdate:
    """Proves names by TXT records that it adds at a DNS server.

    Values are added beside others of the same name, never in their place: `example.org` and
    `*.example.org` are proved under one name.

    Args:
        name: the name of the section.
        server: the primary DNS server of the zones.
        ttl: time to live of the records, in seconds.
        timeout: how long presenting or withdrawing may take, in seconds.
        clock: where time comes from.
    """

    challenge_type = "dns-01"
    proves_wildcards = True

    def __init__(
        self,
        name: str,
        server: Address = _DEFAULT_SERVER,
        ttl: int = 60,
        timeout: float = 5.0,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.server = server
        self.ttl = ttl
        self.timeout = timeout
        self._clock = clock

    @classmethod
    def from_options(cls, name: str, options: Options, responses: ChallengeResponses) -> Self:  # noqa: ARG003 - the contract
        """Make the validator that a section describes."""
        server = options.one(
            "dns-server",
            functools.partial(address, default_port=_DEFAULT_SERVER.port),
            _DEFAULT_SERVER,
            meaning="DNS server that takes the updates, `host` or `host:port`; the primary of the zones",
        )
        ttl = options.one("ttl", positive_int, 60, meaning="time to live of the records, in seconds")
        timeout = options.one(
            "timeout", seconds, 5.0, meaning="seconds that one update may take, questions before it included"
        )
        return cls(name, server, ttl, timeout)

    def present(self, proof: Proof) -> None:
        """Add the TXT record.

        Raises:
            NoChallengeMethodsSupported: the name is too long to have such a record.
            ValidatorUnavailable: the DNS server did not add it.
        """
        self._update(_record(proof), proof, add=True)

    def withdraw(self, proof: Proof) -> None:
        """Delete exactly that TXT record; other values of its name stay (RFC 2136 section 2.5.4).

        Raises:
            ValidatorUnavailable: the DNS server did not delete it.
        """
        try:
            record = _record(proof)
        except NoChallengeMethodsSupported:
            return  # then none was added
        self._update(record, proof, add=False)

    def _update(self, record: dns.name.Name, proof: Proof, *, add: bool) -> None:
        deadline = self._clock.deadline(self.timeout)
        value = txt_value(proof.key_authorization)
        zone = self._zone(record, deadline)
        message = dns.update.UpdateMessage(zone)
        if add:
            message.add(record, self.ttl, dns.rdatatype.TXT, value)
        else:
            message.delete(record, dns.rdatatype.TXT, value)
        answer = self._ask(message, deadline)
        if answer.rcode() != dns.rcode.NOERROR:
            verb = "add" if add else "delete"
            raise ValidatorUnavailable(
                f"DNS server {self.server} refused to {verb} the TXT record {_plain(record)}: "
                f"{dns.rcode.to_text(answer.rcode())}"
            )

    def _zone(self, record: dns.name.Name, deadline: Deadline) -> dns.name.Name:
        """Return the zone that a record belongs in: the nearest that the server is authoritative for."""
        name = record
        while name != dns.name.root:
            # Not recursive: another server's answer would not tell what this one may change.
            question = dns.message.make_query(name, dns.rdatatype.SOA, flags=0)
            answer = self._ask(question, deadline)
            if answer.flags & dns.flags.AA:
                # RFC 2308 section 3: the SOA of the zone also comes along with "no such name" or "no data".
                for rrset in (*answer.answer, *answer.authority):
                    if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
                        return rrset.name
            name = name.parent()
        raise ValidatorUnavailable(f"DNS server {self.server} is not authoritative for {_plain(record)}")

    def _ask(self, message: dns.message.Message, deadline: Deadline) -> dns.message.Message:
        try:
            return self._exchange(message, deadline)
        except dns.exception.Timeout:
            reason = f"did not answer within {self.timeout:g} s"
        except OSError as error:
            reason = f"cannot be reached: {error.strerror or error}"
        except dns.exception.DNSException as error:
            reason = f"gave an answer that cannot be read: {type(error).__name__}"
        raise ValidatorUnavailable(f"DNS server {self.server} {reason}")

    def _exchange(self, message: dns.message.Message, deadline: Deadline) -> dns.message.Message:
        host = self._resolve()
        wait = _FIRST_WAIT
        while True:
            try:
                answer, _ = dns.query.udp_with_fallback(
                    message,
                    host,
                    timeout=min(wait, deadline.remaining),
                    port=self.server.port,
                    ignore_unexpected=True,
                    ignore_errors=True,
                )
            except dns.exception.Timeout:
                if deadline.passed:
                    raise
                wait *= 2
            else:
                return answer

    def _resolve(self) -> str:
        found = socket.getaddrinfo(self.server.host, self.server.port, type=socket.SOCK_DGRAM)
        return str(found[0][4][0])

    def __repr__(self) -> str:
        return f"DnsUpdate({self.name!r}, {self.server})"


def txt_value(key_authorization: str) -> str:
    """Return the TXT value that proves a key authorization (RFC 8555 section 8.4)."""
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _record(proof: Proof) -> dns.name.Name:
    """Return the name of the TXT record (RFC 8555 section 8.4)."""
    base = proof.identifier.base
    try:
        return dns.name.from_text(f"_acme-challenge.{base}")
    except dns.exception.DNSException:
        raise NoChallengeMethodsSupported(
            f"{base} is too long to be proved by dns-01: with _acme-challenge. in front it is no DNS name"
        ) from None


def _plain(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
