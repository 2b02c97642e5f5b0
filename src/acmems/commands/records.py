"""What must stand in DNS for the verifications of a configuration, and whether it does."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import dns.name

from acmems.auth import Block
from acmems.challenges import Validator
from acmems.challenges.dns01_server import DnsServer
from acmems.challenges.dns_persist01 import DnsPersist
from acmems.challenges.dns_persist01 import record_name as persist_name
from acmems.challenges.dns_persist01 import record_text as persist_text
from acmems.challenges.txt import record_name as challenge_name
from acmems.config import Configuration
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import AcmeException, NoChallengeMethodsSupported, ValidatorUnavailable
from acmems.issuers.acme.account import AccountDirectory
from acmems.issuers.acme.session import Session
from acmems.net.address import Address
from acmems.system.clock import SYSTEM
from acmems.system.steps import StepLoop
from acmems.text import one_line
from acmems.x509.identifiers import Glob

_AT_ONCE = 8  # records looked up at a time
_CA_TIME = 30.0  # seconds for the CA's directory
_LONGEST_STRING = 255  # octets of one string of a TXT record (RFC 1035 section 3.3)
_UNREGISTERED = "register the account first: acmems account register CONFIG"


class RecordState(enum.StrEnum):
    """How a record that is needed compares with DNS."""

    IN_PLACE = "in place"
    MISSING = "missing"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RequiredRecord:
    """A record that must stand in DNS.

    Args:
        name: its owner, absolute.
        type: `NS`, `A`, `AAAA`, `CNAME` or `TXT`.
        data: what it says: a name, an address, or the text.
    """

    name: dns.name.Name
    type: str
    data: str

    @property
    def shown(self) -> str:
        """The data as a zone file has it (RFC 1035 section 5.1)."""
        if self.type != "TXT":
            return self.data
        parts = [
            self.data[start : start + _LONGEST_STRING] for start in range(0, len(self.data), _LONGEST_STRING)
        ]
        return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)


@dataclass(frozen=True, slots=True)
class Comment:
    """What is no record, but must be known.

    Args:
        text: one line.
        fault: whether something is to be done before the records are complete.
    """

    text: str
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """A record, and how to see whether it is there.

    Args:
        record: the record.
        resolver: whom to ask; None: those of the system.
        covered: for TXT: tells whether one of the values of the name does.
    """

    record: RequiredRecord
    resolver: Resolver | None = None
    covered: Callable[[Iterable[str]], bool] | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A record, and what DNS says of it.

    Args:
        record: the record.
        state: how it compares.
        detail: what is there instead, or why it is unknown.
    """

    record: RequiredRecord
    state: RecordState
    detail: str = ""

    @property
    def told(self) -> str:
        """The state in words."""
        return f"{self.state}: {self.detail}" if self.detail else str(self.state)


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What records depend on beside the configuration.

    Args:
        account_url: the URL of the account, None where none is registered.
        issuers: the names of the CA for its own records, best first.
        silent: why the CA did not tell its names; empty if it did.
    """

    account_url: str | None = None
    issuers: tuple[str, ...] = ()
    silent: str = ""


class Lookups(Protocol):
    """What is asked of a resolver: `acmems.dns.client.resolver.Resolver` does it."""

    def texts(self, name: dns.name.Name) -> Collection[str]:
        """Return the TXT values of a name."""

    def target(self, name: dns.name.Name) -> dns.name.Name | None:
        """Return where a CNAME leads."""

    def nameservers(self, zone: dns.name.Name) -> Sequence[dns.name.Name]:
        """Return the name servers of a zone."""

    def addresses(self, host: dns.name.Name) -> Sequence[str]:
        """Return the addresses of a host."""


@dataclass(frozen=True, slots=True)
class _Base:
    """A name whose record is needed, and whether its wildcard is granted."""

    name: str
    wildcard: bool


def examine(config: Configuration, servers: Sequence[Address] = ()) -> list[Comparison | Comment]:
    """Return what must stand in DNS, in order, with what DNS and the CA say now.

    Args:
        config: the configuration.
        servers: resolvers that are asked instead of those of the configuration or the system.

    Raises:
        AccountError: the registration cannot be read.
    """
    blocks = config.auth.blocks
    planned = plan(blocks, _site(config, blocks))
    own = Resolver(servers) if servers else None
    system = Resolver()

    def look(line: Requirement | Comment) -> Comparison | Comment:
        return line if isinstance(line, Comment) else compare(line, own or line.resolver or system)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="acmems-records") as pool:
        return list(pool.map(look, planned))


def is_complete(lines: Iterable[Comparison | Comment]) -> bool:
    """Tell whether nothing is left to do.

    Args:
        lines: what `examine` returned.
    """
    return all(
        not line.fault if isinstance(line, Comment) else line.state is RecordState.IN_PLACE for line in lines
    )


def plan(blocks: Iterable[Block], site: AccountFacts) -> list[Requirement | Comment]:
    """Return what the validators of some blocks need in DNS, each once.

    Args:
        blocks: the blocks.
        site: the account and the CA.
    """
    granted: dict[str, tuple[Validator, list[Glob]]] = {}
    for block in blocks:
        for validator in block.validators:
            granted.setdefault(validator.name, (validator, []))[1].extend(block.globs)
    kept: dict[RequiredRecord | Comment, Requirement | Comment] = {}
    for validator, globs in granted.values():
        for line in _lines(validator, globs, site):
            kept.setdefault(line.record if isinstance(line, Requirement) else line, line)
    return list(kept.values())


def compare(needed: Requirement, resolver: Lookups) -> Comparison:
    """Look a record up.

    Args:
        needed: the record.
        resolver: whom to ask.
    """
    record = needed.record
    try:
        there = _there(record, resolver)
    except ValidatorUnavailable as error:
        return Comparison(record, RecordState.UNKNOWN, one_line(error))
    good = record.data in there if needed.covered is None else needed.covered(there)
    if good:
        return Comparison(record, RecordState.IN_PLACE)
    if not there:
        return Comparison(record, RecordState.MISSING)
    return Comparison(record, RecordState.DIFFERS, one_line(", ".join(sorted(there))))


def zone_file(lines: Iterable[Comparison | Comment]) -> list[str]:
    """Return lines for a zone file.

    Args:
        lines: what `examine` returned.
    """
    return [
        f"; {line.text}"
        if isinstance(line, Comment)
        else f"{line.record.name} {line.record.type} {line.record.shown} ; {line.told}"
        for line in lines
    ]


def table(lines: Sequence[Comparison | Comment], *, colour: bool) -> list[str]:
    """Return the lines of a table for a terminal.

    Args:
        lines: what `examine` returned.
        colour: whether states are coloured.
    """
    records = [line.record for line in lines if isinstance(line, Comparison)]
    names = max((len(str(record.name)) for record in records), default=0)
    kinds = max((len(record.type) for record in records), default=0)
    data = max((len(record.shown) for record in records), default=0)
    rows = []
    for line in lines:
        if isinstance(line, Comment):
            rows.append(_red(line.text) if colour and line.fault else line.text)
            continue
        record = line.record
        state = line.told
        if colour:
            state = _green(state) if line.state is RecordState.IN_PLACE else _red(state)
        rows.append(f"{record.name!s:<{names}}  {record.type:<{kinds}}  {record.shown:<{data}}  {state}")
    return rows


def _lines(
    validator: Validator, globs: Sequence[Glob], site: AccountFacts
) -> Iterator[Requirement | Comment]:
    if isinstance(validator, DnsServer):
        yield from _delegation(validator)
        below = [glob for glob in globs if _is_open(glob)]
        yield from _each(validator, globs, below, lambda base: _alias(validator, base, site))
    elif isinstance(validator, DnsPersist):
        # A record that includes the wildcard stands for all names below as well.
        below = [glob for glob in globs if _is_open(glob) and not any(_bases([glob]))]
        yield from _each(validator, globs, below, lambda base: _authorization(validator, base, site))
    else:
        yield Comment(f'[verification "{validator.name}"] needs no record that stays')


def _each(
    validator: Validator,
    globs: Sequence[Glob],
    below: Sequence[Glob],
    needed: Callable[[_Base], Requirement | Comment],
) -> Iterator[Requirement | Comment]:
    """Yield the record of each name, and for names that only a glob knows, what theirs looks like."""
    for base in _bases(globs):
        try:
            yield needed(base)
        except NoChallengeMethodsSupported as error:
            yield Comment(f'[verification "{validator.name}"]: {one_line(error)}', fault=True)
    for glob in below:
        try:
            pattern = needed(_Base("NAME", wildcard=glob.text == "**"))  # which grants all wildcards, too
        except NoChallengeMethodsSupported:
            continue  # then the zone's own name is too long for any name
        if isinstance(pattern, Comment):
            yield pattern
            continue
        record = pattern.record
        yield Comment(f"for every NAME that matches {glob.text}: {record.name} {record.type} {record.shown}")


def _bases(globs: Iterable[Glob]) -> Iterator[_Base]:
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
        yield _Base(base, wildcard)


def _is_open(glob: Glob) -> bool:
    return "*" in glob.text or "?" in glob.text


def _delegation(validator: DnsServer) -> Iterator[Requirement]:
    for server in validator.nameservers:
        yield Requirement(RequiredRecord(validator.zone, "NS", server.name.to_text()))
    for server in validator.nameservers:
        if server.name.is_subdomain(validator.zone):
            for address in server.addresses:
                kind = "A" if address.version == 4 else "AAAA"  # noqa: PLR2004 - the version of IP
                yield Requirement(RequiredRecord(server.name, kind, str(address)))


def _alias(validator: DnsServer, base: _Base, site: AccountFacts) -> Requirement | Comment:
    if validator.challenge_type == "dns-account-01" and site.account_url is None:
        return Comment(f'[verification "{validator.name}"]: {_UNREGISTERED}', fault=True)
    name = challenge_name(base.name, validator.challenge_type, site.account_url or "")
    return Requirement(RequiredRecord(name, "CNAME", validator.target(base.name).to_text()))


def _authorization(validator: DnsPersist, base: _Base, site: AccountFacts) -> Requirement | Comment:
    account_url = site.account_url
    if account_url is None:
        return Comment(f'[verification "{validator.name}"]: {_UNREGISTERED}', fault=True)
    issuers = (*([validator.issuer] if validator.issuer else []), *site.issuers)
    if not issuers:
        why = site.silent or "the CA gives no caaIdentities"
        return Comment(f'[verification "{validator.name}"]: issuer = … is needed: {why}', fault=True)
    text = persist_text(issuers[0], account_url, wildcard=base.wildcard, until=validator.until)

    def covered(texts: Iterable[str]) -> bool:
        return validator.covers(texts, issuers, account_url, wildcard=base.wildcard)

    return Requirement(RequiredRecord(persist_name(base.name), "TXT", text), validator.resolver, covered)


def _site(config: Configuration, blocks: Iterable[Block]) -> AccountFacts:
    """Read the account's URL, and ask the CA for its names only where a validator needs them."""
    used = [validator for block in blocks for validator in block.validators]
    registration = AccountDirectory(config.account.dir).load_registration()
    account_url = None if registration is None else one_line(registration.url)
    if account_url is None or not any(isinstance(each, DnsPersist) for each in used):
        return AccountFacts(account_url)
    loop = StepLoop()
    try:
        session = Session(config.account.directory_url, None, loop, ca_file=config.account.ca_file)
        directory = loop.run(session.directory(SYSTEM.deadline(_CA_TIME)))
    except AcmeException as error:
        return AccountFacts(account_url, silent=one_line(error))
    finally:
        loop.close()
    return AccountFacts(account_url, tuple(map(one_line, directory.caa_identities)))


def _there(record: RequiredRecord, resolver: Lookups) -> Collection[str]:
    if record.type == "TXT":
        return resolver.texts(record.name)
    if record.type == "CNAME":
        target = resolver.target(record.name)
        return () if target is None else (target.canonicalize().to_text(),)
    if record.type == "NS":
        return [name.canonicalize().to_text() for name in resolver.nameservers(record.name)]
    version = ":" if record.type == "AAAA" else "."
    return [address for address in resolver.addresses(record.name) if version in address]


def _red(text: str) -> str:
    return f"\x1b[31m{text}\x1b[0m"


def _green(text: str) -> str:
    return f"\x1b[32m{text}\x1b[0m"
