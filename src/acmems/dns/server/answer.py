"""From the bytes of a query to those of its answer, without sockets (RFC 1035, RFC 6891, RFC 8482)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset

from acmems.dns.server.zone import Zone
from acmems.x509.identifiers import LONGEST_LABEL

MOST_UDP = 1232
"""Octets of the longest datagram that is sent: what passes everywhere in one piece."""
_PLAIN_UDP = 512  # where the client says nothing (RFC 1035 section 4.2.1)
_HEADER = 12
_LONGEST_QUESTION = 255 + 4
_TRANSFERS = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR})
# Whatever dnspython makes of a stranger's bytes, it is the stranger's fault.
_FAULTS = (
    dns.exception.DNSException,
    ValueError,
    IndexError,
    KeyError,
    AttributeError,
    NotImplementedError,
)


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A query that is one, and how it came.

    Args:
        message: the query.
        query: its bytes.
        zone: what is answered for.
        limit: octets that its answer may have.
    """

    message: dns.message.Message
    query: bytes
    zone: Zone
    limit: int

    @property
    def text_name(self) -> dns.name.Name | None:
        """The name in the zone whose TXT records are asked for, None where something else is asked for."""
        question = self.message.question[0]
        wants_texts = question.rdtype in {dns.rdatatype.TXT, dns.rdatatype.ANY}
        return question.name if wants_texts and self.is_answerable else None

    @property
    def is_answerable(self) -> bool:
        """Whether it is about the zone."""
        question = self.message.question[0]
        return (
            question.rdclass == dns.rdataclass.IN
            and question.rdtype not in _TRANSFERS
            and question.name.is_subdomain(self.zone.origin)
        )

    def answer(self, elsewhere: Sequence[str] | None = ()) -> bytes:
        """Return the answer; it never raises for what is in the query.

        Args:
            elsewhere: TXT values of the name that other servers present; None where that is not known.
        """
        try:
            return _encoded(_respond(self, elsewhere), self.limit)
        except _FAULTS:
            return _bare(self.query, dns.rcode.FORMERR)


def answer(query: bytes, zone: Zone, *, stream: bool = False) -> bytes | None:
    """Return the answer to a query by what this server presents, None where silence is best.

    Args are those of `read_query`.
    """
    inquiry = read_query(query, zone, stream=stream)
    return inquiry.answer() if isinstance(inquiry, Inquiry) else inquiry


def read_query(query: bytes, zone: Zone, *, stream: bool = False) -> Inquiry | bytes | None:
    """Read a query; return the answer where it is none, and None where silence is best.

    It never raises for what is in the bytes.

    Args:
        query: one message.
        zone: what is answered for.
        stream: whether it came over TCP, so that the answer may be long.
    """
    if len(query) < _HEADER or query[2] & 0x80:  # no header, or an answer itself
        return None
    if (query[2] >> 3) & 0x0F != dns.opcode.QUERY:
        return _bare(query, dns.rcode.NOTIMP)
    if query[4:6] != b"\x00\x01":
        return _bare(query, dns.rcode.FORMERR)
    try:
        asked = dns.message.from_wire(query)
        return Inquiry(asked, query, zone, 65535 if stream else _limit(asked))
    except _FAULTS:
        return _bare(query, dns.rcode.FORMERR)


def truncated(query: bytes) -> bytes | None:
    """Return what brings an honest client to TCP, never longer than the query; None where silence is best.

    Args:
        query: one message.
    """
    end = _end_of_question(query)
    if len(query) < _HEADER or query[2] & 0x80 or end is None:
        return None
    header = bytearray(_bare(query, dns.rcode.NOERROR))
    header[2] |= 0x02  # TC
    header[5] = 1  # one question, which resolvers compare with theirs
    return bytes(header) + query[_HEADER:end]


def _respond(inquiry: Inquiry, elsewhere: Sequence[str] | None) -> dns.message.Message:
    asked, zone = inquiry.message, inquiry.zone
    response = dns.message.make_response(asked, our_payload=MOST_UDP)
    question = asked.question[0]
    if asked.edns > 0:
        response.use_edns(0, payload=MOST_UDP)
        response.set_rcode(dns.rcode.BADVERS)
        return response
    if not inquiry.is_answerable:
        response.set_rcode(dns.rcode.REFUSED)
        return response
    response.flags |= dns.flags.AA
    found = zone.find(question.name, elsewhere or ())
    if elsewhere is None and (found is None or dns.rdatatype.TXT not in found[0]):
        response.flags &= ~dns.flags.AA
        response.set_rcode(dns.rcode.SERVFAIL)  # which sends a resolver to another name server
        return response
    if found is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
        response.authority.append(_rrset(zone.origin, zone.soa))
        return response
    records, watchers = found
    kind = question.rdtype
    if kind == dns.rdatatype.ANY and records:
        kind = next(iter(records))  # one of them is enough (RFC 8482 section 4.1)
    rdataset = records.get(kind)
    if rdataset is None:
        response.authority.append(_rrset(zone.origin, zone.soa))
        return response
    response.answer.append(_rrset(question.name, rdataset))
    if kind == dns.rdatatype.TXT:
        for on_request in watchers:
            on_request()
    return response


def _rrset(name: dns.name.Name, rdataset: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    rrset = dns.rrset.RRset(name, rdataset.rdclass, rdataset.rdtype)
    rrset.ttl = rdataset.ttl
    rrset.items = rdataset.items  # shared: nobody changes either
    return rrset


def _limit(asked: dns.message.Message) -> int:
    if asked.edns < 0:
        return _PLAIN_UDP
    return min(MOST_UDP, max(_PLAIN_UDP, asked.payload))


def _encoded(response: dns.message.Message, limit: int) -> bytes:
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=limit)


def _bare(query: bytes, rcode: int) -> bytes:
    """Return an answer that is a header and nothing else, not even the question."""
    opcode_and_rd = query[2] & 0x79
    return query[:2] + bytes((0x80 | opcode_and_rd, rcode)) + bytes(8)


def _end_of_question(query: bytes) -> int | None:
    """Return where the first question of a message ends, None where it is none."""
    at = _HEADER
    while at < len(query) and query[at]:
        if query[at] > LONGEST_LABEL:
            return None
        at += 1 + query[at]
    end = at + 5  # the root, type and class
    return end if end <= len(query) and end - _HEADER <= _LONGEST_QUESTION else None
