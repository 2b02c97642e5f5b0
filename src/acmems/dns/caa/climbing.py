"""The CAA records that are relevant for a name, from the name upwards (RFC 8659 section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.name
import dns.rdatatype

from acmems.dns.authority.statement import Statement
from acmems.dns.caa.policy import CaaPolicy, CaaRecord, climb
from acmems.dns.client.cnames import plain
from acmems.exceptions import ValidatorUnavailable

LookUp = Callable[[dns.name.Name], Statement]
"""Returns what is said of the CAA records of a name, at the end of its CNAMEs."""


def relevant_policy(name: str, look_up: LookUp) -> CaaPolicy | None:
    """Return the records of the closest domain at or above a name that has any; None where none has.

    CNAMEs are followed at each step, but not climbed above their targets.

    Args:
        name: a DNS name, without "*.".
        look_up: asked for the name, and for those above it until there are records.

    Raises:
        ValidatorUnavailable: nobody tells of one of them. Name servers of a site need not know top-level
            domains, whose records would be the last to count: those are none then.
    """
    for domain in climb(name):
        try:
            found = look_up(dns.name.from_text(domain))
        except ValidatorUnavailable:
            if "." in domain:
                raise
            return None
        if found.records:
            return CaaPolicy(plain(found.owner), tuple(map(_record, found.records)), found.seconds)
    return None


def _record(rdata: Any) -> CaaRecord:
    return CaaRecord(rdata.flags, rdata.tag.decode("latin-1").lower(), rdata.value.decode("latin-1"))
