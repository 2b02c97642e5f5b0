"""What the sections of one kind describe, made from their options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.local.options import LocalCaOptions
from acmems.issuing.limits.limit import Limit
from acmems.issuing.limits.options import limits_of, read_limit
from acmems.notices.contract import NoticeTarget
from acmems.settings import values
from acmems.settings.findings import Finding
from acmems.settings.grammar import Section
from acmems.settings.options import Options
from acmems.settings.sections import of_kind
from acmems.storages import Storage

T = TypeVar("T")


def built(
    sections: Iterable[Section],
    table: Mapping[str, type[T]],
    fallback: str,
    make: Callable[[type[T], str, Options], T],
    found: list[Finding],
) -> dict[str, T]:
    """Return what the sections of one kind describe, by name.

    Args:
        sections: these sections.
        table: what `type` may say, and what it stands for.
        fallback: the type of what stands in for a section without a good one, so that its name is
            known and one mistake is not reported again wherever the name is used.
        make: makes one from its options.
        found: problems are appended here.
    """
    built = {}
    for section in sections:
        name = section.name or ""
        options = Options(section, found)
        chosen = options.required(
            "type", values.choice(*table), meaning=f"one of {', '.join(table)}; comes first"
        )
        if chosen is None:
            built[name] = make(table[fallback], name, Options(section, []))
            continue
        if section.options[0].key != "type":
            options.report("'type' must come first in its section", "type")
        built[name] = make(table[chosen], name, options)
        options.finish()
    return built


def keep_unchanged(
    kind: str,
    built: dict[str, T],
    before: Mapping[str, T],
    sections: Iterable[Section],
    sections_before: Iterable[Section],
) -> None:
    """Put what is running already in the place of what was made anew from a section that says the same."""
    known = {section.name: section.content for section in of_kind(kind, sections_before)}
    for section in of_kind(kind, sections):
        name = section.name or ""
        if known.get(section.name) == section.content:
            built[name] = before[name]


def read_limits(sections: Iterable[Section], found: list[Finding]) -> dict[str, Limit | None]:
    """Return what the sections describe, by name; None for those that have mistakes."""
    limits = {}
    for section in sections:
        options = Options(section, found)
        limits[section.name or ""] = read_limit(section.name or "", options)
        options.finish()
    return limits


def read_accounts(
    sections: Iterable[Section],
    described: Mapping[str, Limit | None],
    limits: dict[str, tuple[Limit, ...]],
    found: list[Finding],
) -> dict[str, AccountOptions]:
    """Return the accounts that sections with a name describe, by name.

    Args:
        sections: those of accounts.
        described: the limits that sections describe.
        limits: those that are counted for each account are added here, by its name.
        found: problems are appended here.
    """
    accounts = {}
    for section in sections:
        if section.name is not None:
            options = Options(section, found)
            account = accounts[section.name] = AccountOptions.from_options(options)
            limits[section.name] = limits_of(account.limits, account.directory_url, described, options)
            options.finish()
    return accounts


def read_local_cas(sections: Iterable[Section], found: list[Finding]) -> dict[str, LocalCaOptions]:
    """Return the CAs of one's own that the sections describe, by name."""
    local_cas = {}
    for section in sections:
        options = Options(section, found)
        local_cas[section.name or ""] = LocalCaOptions.from_options(options)
        options.finish()
    return local_cas


def make_storage(made_by: type[Storage], name: str, options: Options) -> Storage:
    """Return the storage of a section."""
    return made_by.from_options(name, options)


def make_target(made_by: type[NoticeTarget], name: str, options: Options) -> NoticeTarget:
    """Return where a section has operators told."""
    return made_by.from_options(name, options)
