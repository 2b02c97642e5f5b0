"""What stands in DNS, compared with what must."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import dns.name

from acmems.commands.records.facts import account_facts
from acmems.commands.records.needed import Comment, DnsRecord, Requirement, plan
from acmems.config import Configuration
from acmems.dns.client.records import Records
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.text import one_line

_AT_ONCE = 8  # records looked up at a time


class RecordState(enum.StrEnum):
    """How a record that is needed compares with DNS."""

    IN_PLACE = "in place"
    MISSING = "missing"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A record, and what DNS says of it.

    Args:
        record: the record.
        state: how it compares.
        detail: what is there instead, or why it is unknown.
    """

    record: DnsRecord
    state: RecordState
    detail: str = ""

    @property
    def description(self) -> str:
        """The state in words."""
        return f"{self.state}: {self.detail}" if self.detail else str(self.state)


class RecordSource(Protocol):
    """Who answers questions: `acmems.dns.client.records.Records` does, with its exceptions."""

    def texts(self, name: dns.name.Name) -> Collection[str]:
        """Return the TXT values of a name."""

    def target(self, name: dns.name.Name) -> dns.name.Name | None:
        """Return where a CNAME leads."""

    def nameservers(self, zone: dns.name.Name) -> Sequence[dns.name.Name]:
        """Return the name servers of a zone."""

    def addresses(self, host: dns.name.Name) -> Sequence[str]:
        """Return the addresses of a host."""


def examine(config: Configuration, servers: Sequence[Address] = ()) -> list[Comparison | Comment]:
    """Return what must stand in DNS, in order, with what DNS and the CA say now.

    Args:
        config: the configuration.
        servers: resolvers that tell who has authority for the records, instead of those of the configuration
            or the system.

    Raises:
        AccountError: the registration cannot be read.
    """
    planned = needed_by_accounts(config)
    own = Resolver(servers) if servers else None
    system = Resolver()
    # One for each resolver, so that what they have found is found once.
    sources: dict[Resolver, Records] = {}
    for line in planned:
        if isinstance(line, Requirement):
            resolver = own or line.resolver or system
            sources.setdefault(resolver, Records(resolver))

    def look(line: Requirement | Comment) -> Comparison | Comment:
        return line if isinstance(line, Comment) else compare(line, sources[own or line.resolver or system])

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="acmems-records") as pool:
        return combined(pool.map(look, planned))


def needed_by_accounts(config: Configuration) -> list[Requirement | Comment]:
    """Return what must stand in DNS for each account that orders for a block.

    Raises:
        AccountError: a registration cannot be read.
    """
    needed: list[Requirement | Comment] = []
    for name, account in config.accounts.items():
        blocks = [block for block in config.auth.blocks if name in block.issuers]
        if blocks:
            needed += plan(blocks, account_facts(account, blocks))
    return needed


def combined(lines: Iterable[Comparison | Comment]) -> list[Comparison | Comment]:
    """Return each record once: where verifications ask different resolvers, all must find it in place.

    Args:
        lines: what was found, in order.
    """
    found: dict[object, Comparison | Comment] = {}
    for line in lines:
        key = line.record if isinstance(line, Comparison) else line
        known = found.setdefault(key, line)
        if isinstance(known, Comparison) and known.state is RecordState.IN_PLACE:
            found[key] = line
    return list(found.values())


def is_complete(lines: Iterable[Comparison | Comment]) -> bool:
    """Tell whether nothing is left to do.

    Args:
        lines: what `examine` returned.
    """
    return all(
        not line.fault if isinstance(line, Comment) else line.state is RecordState.IN_PLACE for line in lines
    )


def compare(needed: Requirement, source: RecordSource) -> Comparison:
    """Look a record up."""
    record = needed.record
    try:
        found = _look_up(record, source)
    except ValidatorUnavailable as error:
        return Comparison(record, RecordState.UNKNOWN, one_line(error))
    good = record.data in found if needed.covered is None else needed.covered(found)
    if good:
        return Comparison(record, RecordState.IN_PLACE)
    if not found:
        return Comparison(record, RecordState.MISSING)
    return Comparison(record, RecordState.DIFFERS, one_line(", ".join(sorted(found))))


def _look_up(record: DnsRecord, source: RecordSource) -> Collection[str]:
    """Return the data of all records of that name and type."""
    if record.type == "TXT":
        return source.texts(record.name)
    if record.type == "CNAME":
        target = source.target(record.name)
        return () if target is None else (target.canonicalize().to_text(),)
    if record.type == "NS":
        return [name.canonicalize().to_text() for name in source.nameservers(record.name)]
    version = ":" if record.type == "AAAA" else "."
    return [address for address in source.addresses(record.name) if version in address]
