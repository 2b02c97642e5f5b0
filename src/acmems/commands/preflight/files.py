"""Whether other users of this machine can read secrets, or change what acmems relies on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from acmems.config import Configuration
from acmems.settings.findings import Finding, Location
from acmems.settings.grammar import Option, Section
from acmems.system.permissions import NamedFile, NamesFiles, exposures

# The keys whose values are secrets; `option` of a DNS provider may only say where one is.
_SECRETS = frozenset({"hmac_key", "eab-hmac-key", "token", "tsig-key", "option", "password", "secret"})
_PASSWORD = re.compile(r"postgres(ql)?://([^/@]*:[^/@]+@|.*[?&]password=)")
_COMMENT = re.compile(r"\s([#;])")
_ELSEWHERE = ("file:", "env:")


def check(config: Configuration) -> Iterator[Finding]:
    """Yield, as warnings, what is open to others, and what is found in one working directory only."""
    for location, named in _named(config):
        if not named.path.is_absolute() and named.key:
            yield Finding(
                location,
                f"{named.key}: {named.path} is looked for in the directory that acmems is started in "
                f"({Path.cwd()} now): write the whole path",
                warning=True,
            )
        if not os.path.lexists(named.path) and (comment := _COMMENT.search(str(named.path))):
            yield Finding(
                location,
                f"{named.key}: what follows the '{comment[1]}' is part of the path: write the comment on a "
                f"line of its own",
                warning=True,
            )
        for text in exposures(named):
            yield Finding(location, text, warning=True)


def _named(config: Configuration) -> Iterator[tuple[Location, NamedFile]]:
    """Yield every file that the configuration names, and its own."""
    for path in dict.fromkeys(section.location.path for section in config.sections):
        secrets = [
            option.location
            for section in config.sections
            for option in section.options
            if option.location.path == path and _is_secret(section, option)
        ]
        where = secrets[0] if secrets else Location(path, 0)
        yield where, NamedFile("", Path(path), is_secret=bool(secrets))
    if isinstance(config.logging.destination, Path):
        where = config.where("logging", None, "destination")
        yield where, NamedFile("destination", config.logging.destination)
    for kind, name, plug_in in _plug_ins(config):
        if isinstance(plug_in, NamesFiles):
            for named in plug_in.named_files():
                yield config.where(kind, name, named.key), named


def _plug_ins(config: Configuration) -> Iterator[tuple[str, str | None, object]]:
    """Yield what sections describe, by their kinds and names."""
    for account in config.accounts.values():
        yield "account", account.name or None, account
    for section, options in config.tls.items():
        yield section, None, options
    yield "state", None, config.state
    for block in config.auth.blocks:
        for method in block.methods:
            yield "auth", block.name, method
    for kind, plug_ins in (
        ("local-ca", config.local_cas),
        ("storage", config.storages),
        ("verification", config.validators),
        ("notice", config.notices),
    ):
        for name, plug_in in plug_ins.items():
            yield kind, name, plug_in


def _is_secret(section: Section, option: Option) -> bool:
    if option.key == "url":
        # Whoever knows the URL of a webhook, or of a service, can write there.
        return section.kind == "notice" or _PASSWORD.match(option.value) is not None
    if option.key != "option":
        return option.key in _SECRETS
    return not option.value.partition("=")[2].lstrip().startswith(_ELSEWHERE)
