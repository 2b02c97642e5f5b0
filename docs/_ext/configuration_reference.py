"""The configuration reference, made from what the code itself declares.

    ```{configuration-keys} account
    ```

renders the keys of one section as a table. A section that no page shows is a warning of the build.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from acmems.auth import Block
from acmems.challenges import VALIDATORS, ChallengeResponses, Http01, Validator
from acmems.challenges.context import ValidatorContext
from acmems.frontends.acme.options import AcmeOptions
from acmems.frontends.metrics.options import MetricsOptions
from acmems.frontends.options import MgmtOptions
from acmems.issuers.acme.options import AccountOptions
from acmems.issuers.local.options import LocalCaOptions
from acmems.issuing.limits.options import read_limit
from acmems.logs.options import LoggingOptions
from acmems.notices.targets import NOTICE_TARGETS
from acmems.settings.findings import NOWHERE
from acmems.settings.grammar import Section
from acmems.settings.options import KeyDeclaration, Options
from acmems.state.options import StateOptions
from acmems.storages import STORAGES, NoStorage, Storage

NOTHING = "—"
_logger = logging.getLogger(__name__)


class _PlugIns:
    """The accounts, verifications and storages that a block chooses from; only the defaults are shown."""

    validators: Mapping[str, Validator] = {}
    storages: Mapping[str, Storage] = {}
    accounts: Mapping[str, object] = {}
    local_cas: Mapping[str, LocalCaOptions] = {}
    default_issuers = ("",)
    default_validators = (Http01("default-verification", (), ChallengeResponses()),)
    default_storage = NoStorage("default-storage")


def sections() -> dict[str, tuple[KeyDeclaration, ...]]:
    """Return every key of every section, by what `configuration-keys` calls the section."""
    read: dict[str, Callable[[Options], object]] = {
        "account": AccountOptions.from_options,
        "local-ca": LocalCaOptions.from_options,
        "mgmt": MgmtOptions.from_options,
        "logging": LoggingOptions.from_options,
        "state": StateOptions.from_options,
        "metrics": MetricsOptions.from_options,
        "acme": AcmeOptions.from_options,
        "limit": lambda options: read_limit("NAME", options),
        "auth": lambda options: Block("NAME", options, _PlugIns()),
    }
    found = {name: _declared(reader) for name, reader in read.items()}
    for name, validator in VALIDATORS.items():
        found[f"verification {name}"] = (_type(name), *_declared(partial(_read_validator, validator)))
    for name, storage in STORAGES.items():
        found[f"storage {name}"] = (_type(name), *_declared(partial(storage.from_options, "NAME")))
    for name, target in NOTICE_TARGETS.items():
        found[f"notice {name}"] = (_type(name), *_declared(partial(target.from_options, "NAME")))
    return found


def _declared(read: Callable[[Options], object]) -> tuple[KeyDeclaration, ...]:
    options = Options(Section("", None, (), NOWHERE), [])
    read(options)
    return tuple(options.declared)


def _read_validator(kind: type[Validator], options: Options) -> Validator:
    return kind.from_options("NAME", options, ValidatorContext())


def _type(name: str) -> KeyDeclaration:
    return KeyDeclaration(("type",), f"`{name}`; must be the first key of its section", required=True)


def written(value: object) -> list[str]:
    """Return a default as a person would write it, one text a line; empty where there is none."""
    if value is None or value == ():
        return []
    if isinstance(value, tuple):
        return [text for item in value for text in written(item)]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, float):
        return [f"{value:g}"]
    if isinstance(value, datetime.timedelta):
        return [str(value.days)]
    if isinstance(value, Http01 | NoStorage):
        return [value.name]
    return [str(value)]


class ConfigurationKeys(SphinxDirective):
    """Shows the keys of one section as a table."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        name = self.arguments[0]
        keys = sections().get(name)
        if keys is None:
            raise self.error(f"no such section: {name}; there are: {', '.join(sections())}")
        # The keys may change while the page does not.
        self.env.note_reread()
        self.env.metadata[self.env.docname].setdefault("configuration-keys", []).append(name)
        return [table(keys)]


def table(keys: Iterable[KeyDeclaration]) -> nodes.table:
    """Return a table with a row for each key."""
    group = nodes.tgroup("", cols=3)
    group += [nodes.colspec(colwidth=width) for width in (22, 53, 25)]
    group += nodes.thead("", _row(nodes.paragraph(text=title) for title in ("Key", "Meaning", "Default")))
    group += nodes.tbody("", *(_row((_key(key), _meaning(key), _default(key))) for key in keys))
    return nodes.table("", group)


def _key(key: KeyDeclaration) -> nodes.paragraph:
    name, *aliases = key.keys
    paragraph = nodes.paragraph("", "", nodes.literal(text=name))
    for alias in aliases:
        paragraph += [nodes.Text(", also "), nodes.literal(text=alias)]
    return paragraph


def _meaning(key: KeyDeclaration) -> nodes.paragraph:
    if not key.meaning:
        _logger.warning("the key %s is declared without a meaning", key.keys[0])
    text = key.meaning + ("; may be given several times" if key.repeatable else "")
    pieces = enumerate(re.split("`([^`]+)`", text))
    content = [nodes.literal(text=piece) if number % 2 else nodes.Text(piece) for number, piece in pieces]
    return nodes.paragraph("", "", *content)


def _default(key: KeyDeclaration) -> nodes.paragraph:
    if key.required:
        return nodes.paragraph(text="required")
    paragraph = nodes.paragraph()
    for text in written(key.default):
        if paragraph.children:
            paragraph += nodes.Text(", ")
        paragraph += nodes.literal(text=text)
    return paragraph if paragraph.children else nodes.paragraph(text=NOTHING)


def _row(cells: Iterable[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", cell) for cell in cells))


def _all_shown(app: Sphinx, _: object) -> None:
    pages = app.env.metadata.values()
    shown = {name for page in pages for name in page.get("configuration-keys", [])}
    for name in sections().keys() - shown:
        _logger.warning("no page shows the keys of the section %s", name)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register with Sphinx."""
    app.add_directive("configuration-keys", ConfigurationKeys)
    app.connect("env-check-consistency", _all_shown)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
