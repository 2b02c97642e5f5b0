"""From the bytes of a query to those of its answer, without sockets (RFC 1035, RFC 6891, RFC 8482)."""

from __future__ import annotations

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


def answer(query: bytes, zone: Zone, *, stream: bool = False) -> bytes | None:
    """Return the answer to a query, None where silence is best; it never raises for what is in the bytes.

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
        response = _respond(asked, zone)
        limit = 65535 if stream else _limit(asked)
        return _encoded(response, limit)
    except (
        dns.exception.DNSException,
        ValueError,
        IndexError,
        KeyError,
        AttributeError,
        NotImplementedError,
    ):
        # Whatever dnspython makes of a stranger's bytes, it is the stranger's fault.
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


def _respond(asked: dns.message.Message, zone: Zone) -> dns.message.Message:
    response = dns.message.make_response(asked, our_payload=MOST_UDP)
    question = asked.question[0]
    if asked.edns > 0:
        response.use_edns(0, payload=MOST_UDP)
        response.set_rcode(dns.rcode.BADVERS)
        return response
    if (
        question.rdclass != dns.rdataclass.IN
        or question.rdtype in _TRANSFERS
        or not question.name.is_subdomain(zone.origin)
    ):
        response.set_rcode(dns.rcode.REFUSED)
        return response
    response.flags |= dns.flags.AA
    found = zone.find(question.name)
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
