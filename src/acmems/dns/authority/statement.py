"""What those who have authority for a name say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
from dns.rdatatype import RdataType

from acmems.dns.client.answers import target_in
from acmems.system.clock import Deadline


@dataclass(frozen=True, slots=True)
class AuthoritativeAnswer:
    """A definite answer: there are such records, there are none, or there is no such name.

    Args:
        message: the answer.
        zone: the zone that the name is in, as far as the answer tells.
    """

    message: dns.message.Message
    zone: dns.name.Name


class Authorities(Protocol):
    """Asks those who have authority for a name."""

    @property
    def is_suspended(self) -> bool:
        """Whether nobody is to be asked at the moment, because nobody answers."""

    def ask(self, name: dns.name.Name, kind: RdataType, deadline: Deadline) -> AuthoritativeAnswer:
        """Return what they say of the records of a name, where no CNAME is followed.

        Args:
            name: the name.
            kind: the type of records.
            deadline: when to give up.

        Raises:
            ValidatorUnavailable: they say nothing definite, or not in time.
        """


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said of the records of one type that a name has, at the end of its CNAMEs.

    Args:
        records: the records; none where there are none.
        exists: whether there is such a name, with whatever records.
        owner: the name at that end.
        zone: the zone that it is in.
        seconds: how long this may be kept (RFC 2181 section 5.2, RFC 2308 section 5).
    """

    records: tuple[dns.rdata.Rdata, ...]
    exists: bool
    owner: dns.name.Name
    zone: dns.name.Name
    seconds: float


def statement(name: dns.name.Name, kind: RdataType, answer: AuthoritativeAnswer) -> Statement:
    """Return what an answer says of a name that is no CNAME there.

    Args:
        name: what was asked for.
        kind: the type of records.
        answer: the answer.
    """
    message = answer.message
    found = [rrset for rrset in message.answer if rrset.rdtype == kind and rrset.name == name]
    if found:
        records = tuple(record for rrset in found for record in rrset)
        return Statement(records, True, name, answer.zone, float(min(rrset.ttl for rrset in found)))
    ends = [
        min(rrset.ttl, rrset[0].minimum) for rrset in message.authority if rrset.rdtype == dns.rdatatype.SOA
    ]
    exists = message.rcode() != dns.rcode.NXDOMAIN
    return Statement((), exists, name, answer.zone, float(min(ends, default=0)))


def cname_in(name: dns.name.Name, kind: RdataType, answer: AuthoritativeAnswer) -> dns.name.Name | None:
    """Return where a CNAME or DNAME leads from a name that has no records of its own; None if nowhere.

    Args:
        name: what was asked for.
        kind: the type of records.
        answer: the answer.
    """
    own = any(rrset.rdtype == kind and rrset.name == name for rrset in answer.message.answer)
    return None if own else target_in(name, answer.message)
