"""The CAA records that are relevant for a name, from the name upwards (RFC 8659 section 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.name
import dns.rdatatype

from acmems.dns.authority.statement import Statement
from acmems.dns.caa.policy import CaaPolicy, CaaRecord, climb
from acmems.dns.client.cnames import plain

LookUp = Callable[[dns.name.Name], Statement]
"""Returns what is said of the CAA records of a name, at the end of its CNAMEs."""


def relevant_policy(name: str, look_up: LookUp) -> CaaPolicy | None:
    """Return the records of the closest domain at or above a name that has any; None where none has.

    CNAMEs are followed at each step, but not climbed above their targets.

    Args:
        name: a DNS name, without "*.".
        look_up: asked for the name, and for those above it until there are records; what it raises goes on.
    """
    for domain in climb(name):
        found = look_up(dns.name.from_text(domain))
        if found.records:
            return CaaPolicy(plain(found.owner), tuple(map(_record, found.records)), found.seconds)
    return None


def _record(rdata: Any) -> CaaRecord:
    return CaaRecord(rdata.flags, rdata.tag.decode("latin-1").lower(), rdata.value.decode("latin-1"))
