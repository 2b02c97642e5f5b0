"""What the answers of name servers say of a name."""

from __future__ import annotations

from collections.abc import Iterable

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rrset
from dns.rdatatype import RdataType

_ADDRESSES = frozenset({dns.rdatatype.A, dns.rdatatype.AAAA})
_BELOW = dns.name.Name([b"_acmems"])


def target_in(name: dns.name.Name, answer: dns.message.Message) -> dns.name.Name | None:
    """Return where an answer says that a CNAME or DNAME leads from a name; None if nowhere."""
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.CNAME and rrset.name == name:
            target: dns.name.Name = rrset[0].target
            return target.canonicalize()
    for rrset in answer.answer:
        if rrset.rdtype == dns.rdatatype.DNAME and name != rrset.name and name.is_subdomain(rrset.name):
            try:
                end: dns.name.Name = rrset[0].target
                return name.relativize(rrset.name).concatenate(end).canonicalize()
            except dns.name.NameTooLong:
                return None
    return None


def zone_in(name: dns.name.Name, answer: dns.message.Message) -> dns.name.Name | None:
    """Return the zone of a name according to the SOA in an answer; None if there is none.

    It also comes along with "no such name" and "no data" (RFC 2308 section 3).
    """
    for rrset in (*answer.answer, *answer.authority):
        if rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name):
            return rrset.name.canonicalize()
    return None


def below_name(name: dns.name.Name) -> dns.name.Name | None:
    """Return a name below another that nobody has; None if that would be too long.

    A wildcard also covers the names below one that does not exist, but none below one that does (RFC 4592
    section 3.3.1). Names beside it would not tell whether it has a CNAME of its own: both may lead to the
    same target.
    """
    try:
        return _BELOW.concatenate(name)
    except dns.name.NameTooLong:
        return None


def has_own_cname(name: dns.name.Name, answer: dns.message.Message) -> bool:
    """Tell whether an answer has a CNAME of a name that no DNAME has made."""
    kinds = {
        rrset.rdtype for rrset in answer.answer if rrset.name == name or rrset.rdtype == dns.rdatatype.DNAME
    }
    return dns.rdatatype.CNAME in kinds and dns.rdatatype.DNAME not in kinds


def cut_in(answer: dns.message.Message, zone: dns.name.Name, name: dns.name.Name) -> dns.name.Name | None:
    """Return the zone below another that an answer comes from or refers to; None if there is none."""
    kind = dns.rdatatype.SOA if answer.flags & dns.flags.AA else dns.rdatatype.NS
    for rrset in answer.authority:
        deeper = rrset.name.is_subdomain(zone) and rrset.name != zone
        if rrset.rdtype == kind and deeper and name.is_subdomain(rrset.name):
            return rrset.name.canonicalize()
    return None


def is_delegation(answer: dns.message.Message, name: dns.name.Name, kind: RdataType) -> bool:
    """Tell whether an answer is a delegation that was asked for: name servers, or the addresses of one."""
    if answer.flags & dns.flags.AA:
        return False
    # All addresses of a name server come at once: where only those of the other kind are there, it has none.
    kinds = _ADDRESSES if kind in _ADDRESSES else {kind}
    return any(records_in(answer, name, each) for each in kinds)


def records_in(
    answer: dns.message.Message, name: dns.name.Name, kind: RdataType
) -> tuple[dns.rdata.Rdata, ...]:
    """Return the records of a name in an answer, those of a delegation included."""
    section: Iterable[dns.rrset.RRset] = answer.answer
    if not answer.flags & dns.flags.AA:
        section = {dns.rdatatype.NS: answer.authority}.get(kind, answer.additional)
    return tuple(
        record for rrset in section if rrset.rdtype == kind and rrset.name == name for record in rrset
    )
