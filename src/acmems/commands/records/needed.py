"""Which records the verifications of auth blocks need in DNS; nothing is looked up here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import dns.name

from acmems.auth import Block
from acmems.challenges import Validator
from acmems.challenges.dns01_server import DnsServer
from acmems.challenges.dns_persist01 import DnsPersist
from acmems.challenges.dns_persist01 import record_name as persist_name
from acmems.challenges.dns_persist01 import record_text as persist_text
from acmems.challenges.txt import record_name as challenge_name
from acmems.commands.records.facts import AccountFacts
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import NoChallengeMethodsSupported
from acmems.net.address import Address
from acmems.text import one_line
from acmems.x509.identifiers import Glob

_LONGEST_STRING = 255  # octets of one string of a TXT record (RFC 1035 section 3.3)
_UNREGISTERED = "register the account first: acmems account register CONFIG"


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A resource record.

    Args:
        name: its owner, absolute.
        type: `NS`, `A`, `AAAA`, `CNAME`, `TXT` or `CAA`.
        data: what it says: a name, an address, or the text.
    """

    name: dns.name.Name
    type: str
    data: str

    @property
    def presentation(self) -> str:
        """The data as a zone file has it (RFC 1035 section 5.1)."""
        if self.type != "TXT":
            return self.data
        parts = [
            self.data[start : start + _LONGEST_STRING] for start in range(0, len(self.data), _LONGEST_STRING)
        ]
        return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)


@dataclass(frozen=True, slots=True)
class Comment:
    """A line for the reader that stands for no record.

    Args:
        text: one line.
        fault: whether something is to be done before the records are complete.
    """

    text: str
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """A record that must stand in DNS.

    Args:
        record: the record.
        resolver: whom to ask for it; None: those of the system.
        covered: for TXT: tells whether one of the values of the name does as well.
    """

    record: DnsRecord
    resolver: Resolver | None = None
    covered: Callable[[Iterable[str]], bool] | None = None

    @property
    def identity(self) -> tuple[DnsRecord, tuple[Address, ...]]:
        """What makes two requirements one: the record, and whom to ask for it."""
        return self.record, () if self.resolver is None else self.resolver.servers


@dataclass(frozen=True, slots=True)
class BaseName:
    """A name whose record is needed, and whether its wildcard is granted.

    Args:
        name: without "*.".
        wildcard: whether names below it are granted, too.
    """

    name: str
    wildcard: bool


def plan(blocks: Iterable[Block], facts: AccountFacts) -> list[Requirement | Comment]:
    """Return what the validators of some blocks need in DNS, each once.

    Args:
        blocks: the blocks.
        facts: the account and the CA.
    """
    granted: dict[str, tuple[Validator, list[Glob]]] = {}
    for block in blocks:
        for validator in block.validators:
            granted.setdefault(validator.name, (validator, []))[1].extend(block.globs)
    found: dict[object, Requirement | Comment] = {}
    for validator, globs in granted.values():
        for line in _lines(validator, globs, facts):
            found.setdefault(line.identity if isinstance(line, Requirement) else line, line)
    return list(found.values())


def _lines(
    validator: Validator, globs: Sequence[Glob], facts: AccountFacts
) -> Iterator[Requirement | Comment]:
    if isinstance(validator, DnsServer):
        yield from _delegation(validator)
        below = [glob for glob in globs if _is_open(glob)]
        yield from _each(validator, globs, below, lambda base: _alias(validator, base, facts))
    elif isinstance(validator, DnsPersist):
        # A record that includes the wildcard stands for all names below as well.
        below = [glob for glob in globs if _is_open(glob) and not any(base_names([glob]))]
        yield from _each(validator, globs, below, lambda base: _authorization(validator, base, facts))
    else:
        yield Comment(f'[verification "{validator.name}"] needs no record that stays')


def _each(
    validator: Validator,
    globs: Sequence[Glob],
    below: Sequence[Glob],
    needed: Callable[[BaseName], Requirement | Comment],
) -> Iterator[Requirement | Comment]:
    """Yield the record of each name, and for names that only a glob knows, what theirs looks like."""
    for base in base_names(globs):
        try:
            yield needed(base)
        except NoChallengeMethodsSupported as error:
            yield Comment(f'[verification "{validator.name}"]: {one_line(error)}', fault=True)
    for glob in below:
        try:
            pattern = needed(BaseName("NAME", wildcard=glob.text == "**"))  # which grants all wildcards, too
        except NoChallengeMethodsSupported:
            continue  # then the zone's own name is too long for any name
        if isinstance(pattern, Comment):
            yield pattern
            continue
        record = pattern.record
        yield Comment(
            f"for every NAME that matches {glob.text}: {record.name} {record.type} {record.presentation}"
        )


def base_names(globs: Iterable[Glob]) -> Iterator[BaseName]:
    """Yield the names that globs are about, each once, as far as they are known.

    Args:
        globs: patterns of names; those with stars elsewhere than in front say nothing.
    """
    wildcards: dict[str, bool] = {}
    for glob in globs:
        base = glob.text
        wildcard = False
        for front in ("*.", "**."):
            if base.startswith(front):
                base, wildcard = base.removeprefix(front), True
                break
        if "*" not in base and "?" not in base:
            wildcards[base] = wildcards.get(base, False) or wildcard
    for base, wildcard in wildcards.items():
        yield BaseName(base, wildcard)


def _is_open(glob: Glob) -> bool:
    return "*" in glob.text or "?" in glob.text


def _delegation(validator: DnsServer) -> Iterator[Requirement]:
    for server in validator.nameservers:
        yield Requirement(DnsRecord(validator.zone, "NS", server.name.to_text()))
    for server in validator.nameservers:
        if server.name.is_subdomain(validator.zone):
            for address in server.addresses:
                kind = "A" if address.version == 4 else "AAAA"  # noqa: PLR2004 - the version of IP
                yield Requirement(DnsRecord(server.name, kind, str(address)))


def _alias(validator: DnsServer, base: BaseName, facts: AccountFacts) -> Requirement | Comment:
    if validator.challenge_type == "dns-account-01" and facts.account_url is None:
        return Comment(f'[verification "{validator.name}"]: {_UNREGISTERED}', fault=True)
    name = challenge_name(base.name, validator.challenge_type, facts.account_url or "")
    return Requirement(DnsRecord(name, "CNAME", validator.target(base.name).to_text()))


def _authorization(validator: DnsPersist, base: BaseName, facts: AccountFacts) -> Requirement | Comment:
    account_url = facts.account_url
    if account_url is None:
        return Comment(f'[verification "{validator.name}"]: {_UNREGISTERED}', fault=True)
    issuers = (*([validator.issuer] if validator.issuer else []), *facts.issuers)
    if not issuers:
        reason = facts.no_issuers or "the CA gives no caaIdentities"
        return Comment(f'[verification "{validator.name}"]: issuer = … is needed: {reason}', fault=True)
    text = persist_text(issuers[0], account_url, wildcard=base.wildcard, until=validator.until)

    def covered(texts: Iterable[str]) -> bool:
        return validator.covers(texts, issuers, account_url, wildcard=base.wildcard)

    return Requirement(DnsRecord(persist_name(base.name), "TXT", text), validator.resolver, covered)
