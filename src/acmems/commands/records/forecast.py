"""Whether the DNS lets the CA issue for names, as the server finds it out before an order."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import dns.name

from acmems.auth import Block
from acmems.challenges import Validator
from acmems.commands.records.facts import AccountFacts, applicant_facts
from acmems.commands.records.lookup import Comparison, RecordState
from acmems.commands.records.needed import Comment, DnsRecord, base_names
from acmems.config import Configuration
from acmems.dns.authority.statements import Statements
from acmems.dns.caa.policy import Applicant
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import CaaRefusal, PreCheckFailed, ValidatorUnavailable
from acmems.issuers.acme.prechecks.examination import authorities_for
from acmems.issuers.acme.prechecks.facts import NameSurvey
from acmems.issuers.acme.prechecks.judging import NameFacts, prospect
from acmems.issuers.acme.prechecks.options import PreCheckOptions
from acmems.net.address import Address
from acmems.system.clock import SYSTEM
from acmems.text import one_line
from acmems.x509.identifiers import Identifier, IdentifierType

_AT_ONCE = 8  # names looked up at a time
_SECONDS = 10.0  # for one name
_LONGEST = 1000  # characters of a reason
_MOST_LISTED = 5  # in one line

Asked = tuple[Identifier, Block]
"""A name, and the auth block that grants it."""


@dataclass(frozen=True, slots=True)
class NameForecast:
    """What would become of an order for a name with an account.

    Args:
        identifier: the name.
        account: the section of the account; empty where there is only one.
        error: why it would not be placed; None where it would be.
        unknown: what could not be found out, and why; empty where everything could.
    """

    identifier: Identifier
    account: str = ""
    error: PreCheckFailed | None = None
    unknown: str = ""

    @property
    def outcome(self) -> str:
        """In a word: `allowed`, `refused` or `unknown`."""
        if self.error is not None:
            return "refused"
        return "unknown" if self.unknown else "allowed"

    @property
    def words(self) -> str:
        """All of it, in one line."""
        name = f"{self.identifier.value} by {self.account}" if self.account else self.identifier.value
        if self.error is not None:
            return one_line(f"{name}: refused: {self.error.reason}", _LONGEST)
        return f"{name}: {self.outcome}{f' ({self.unknown})' if self.unknown else ''}"

    @property
    def document(self) -> Mapping[str, str | None]:
        """The members of a JSON document."""
        reason = self.unknown if self.error is None else one_line(self.error.reason, _LONGEST)
        return {
            "name": self.identifier.value,
            "account": self.account or None,
            "outcome": self.outcome,
            "reason": reason or None,
        }


def forecasts(
    config: Configuration,
    asked: Sequence[Asked],
    servers: Sequence[Address] = (),
    *,
    addresses: bool = True,
) -> list[NameForecast]:
    """Return what would become of orders for names, by what the server looks up before them.

    Args:
        config: says what it looks up.
        asked: the names; IP addresses are left out.
        servers: resolvers that tell where the DNS begins, instead of those of the system.
        addresses: whether addresses are looked up where the server would.

    Raises:
        AccountError: the registration cannot be read.
    """
    resolver = Resolver(servers) if servers else None
    surveys: dict[PreCheckOptions, NameSurvey] = {}
    facts: dict[str, AccountFacts] = {}
    looks: list[Callable[[], NameForecast]] = []
    for identifier, block in asked:
        for name in block.issuers if identifier.type is IdentifierType.DNS else ():
            account = config.accounts.get(name)
            if account is None:  # a local CA, which looks nothing up
                continue
            options = account.pre_checks
            options = replace(options, addresses=options.addresses and addresses)
            if not (options.caa or options.addresses):
                continue
            if name not in facts:
                facts[name] = applicant_facts(account) if options.caa else AccountFacts()
            if options not in surveys:
                surveys[options] = NameSurvey(Statements(authorities_for(options, SYSTEM, resolver)))
            title = account.section if len(block.issuers) > 1 else ""
            look = functools.partial(_forecast, surveys[options], options, facts[name], block.validators)
            looks.append(functools.partial(look, identifier, account=title))
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="acmems-forecast") as pool:
        return [each.result() for each in [pool.submit(look) for look in looks]]


def is_hopeless(found: Iterable[NameForecast]) -> bool:
    """Tell whether there is a name that no account would get a certificate for."""
    hopes: dict[Identifier, bool] = {}
    for each in found:
        hopes[each.identifier] = hopes.get(each.identifier, False) or each.error is None
    return not all(hopes.values())


def _forecast(
    survey: NameSurvey,
    options: PreCheckOptions,
    facts: AccountFacts,
    validators: Sequence[Validator],
    identifier: Identifier,
    *,
    account: str,
) -> NameForecast:
    methods = tuple(dict.fromkeys(each.challenge_type for each in validators if each.proves(identifier)))
    found, unknown = NameFacts(), []
    deadline = SYSTEM.deadline(_SECONDS)
    if options.addresses:
        try:
            found = survey.addresses(identifier.base, deadline)
        except ValidatorUnavailable as error:
            unknown.append(f"addresses: {one_line(error)}")
    if options.caa and not facts.issuers:
        unknown.append(f"CAA: {facts.no_issuers or 'the CA does not tell its names (caaIdentities)'}")
    elif options.caa:
        try:
            found = replace(found, caa=survey.caa(identifier.base, deadline))
        except ValidatorUnavailable as error:
            unknown.append(f"CAA: {one_line(error)}")
    outlook = prospect(identifier, found, methods, Applicant(facts.issuers, facts.account_url))
    return NameForecast(identifier, account, outlook.error, "; ".join(unknown))


def caa_lines(config: Configuration, servers: Sequence[Address] = ()) -> list[Comparison | Comment]:
    """Return the CAA records that are missing for the names of a configuration.

    Args:
        config: the configuration.
        servers: resolvers that tell where the DNS begins, instead of those of the system.

    Raises:
        AccountError: the registration cannot be read.
    """
    lines: dict[object, Comparison | Comment] = {}
    unknown: dict[str, list[str]] = {}
    for each in forecasts(config, list(_granted(config.auth.blocks)), servers, addresses=False):
        if isinstance(each.error, CaaRefusal) and each.error.remedy:
            owner, _, data = each.error.remedy.partition(" CAA ")
            record = DnsRecord(dns.name.from_text(owner), "CAA", data)
            lines[record] = Comparison(record, RecordState.DIFFERS, ", ".join(each.error.records))
        elif each.error is not None:
            lines[each.words] = Comment(each.words, fault=True)
        elif each.unknown:
            unknown.setdefault(each.unknown, []).append(each.identifier.value)
    told = [
        Comment(f"not known whether the CA may issue for {_listed(names)}: {why}")
        for why, names in unknown.items()
    ]
    return [*lines.values(), *told]


def _granted(blocks: Iterable[Block]) -> Iterator[Asked]:
    """Yield the names that blocks grant, as far as they are known.

    What is granted below a name is judged by the name, or by its wildcard where that can be had.
    """
    for block in blocks:
        for base in base_names(block.globs):
            identifier = Identifier.dns(base.name)
            if base.wildcard:
                wildcard = Identifier.dns(f"*.{base.name}")
                if any(each.proves(wildcard) for each in block.validators):
                    yield wildcard, block
            yield identifier, block


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_LISTED])
    return f"{shown} and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else shown
