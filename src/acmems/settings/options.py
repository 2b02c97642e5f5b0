"""Typed access to the options of one section; what is wrong becomes a finding."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from acmems.exceptions import ConfigurationError
from acmems.settings.findings import Finding, Location, hint
from acmems.settings.grammar import Option, Section

_QUOTES = frozenset({'"', "'"})
_COMMENT = re.compile(r"\s+([#;])")

T = TypeVar("T")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class KeyDeclaration:
    """A key that some code reads: for hints, and for the reference that is made from them.

    Args:
        keys: the key and its aliases.
        meaning: what it does, one phrase.
        default: what holds without it.
        required: whether it must be given.
        repeatable: whether it may be given several times.
    """

    keys: tuple[str, ...]
    meaning: str = ""
    default: object = None
    required: bool = False
    repeatable: bool = False


class Options:
    """Typed access to the options of one section; what is wrong is appended to the findings."""

    def __init__(self, section: Section, findings: list[Finding]) -> None:
        self.section = section
        self.declared: list[KeyDeclaration] = []
        self._findings = findings
        self._finished = False

    @property
    def name(self) -> str:
        """The name of the section, its kind where it has none."""
        return self.section.kind if self.section.name is None else self.section.name

    @property
    def location(self) -> Location:
        """Where the section begins."""
        return self.section.location

    def one(
        self, key: str | tuple[str, ...], parse: Callable[[str], T], default: D, *, meaning: str = ""
    ) -> T | D:
        """Return the value of a key that may be given once.

        Args:
            key: the key, or the key and its aliases.
            parse: turns the text into the value; its ValueError becomes a finding.
            default: the value when the key is absent or its text does not parse.
            meaning: what the key does, for the reference.
        """
        given = self._given(KeyDeclaration(_keys(key), meaning, default))
        return self._single(given, parse, default)

    def required(
        self, key: str | tuple[str, ...], parse: Callable[[str], T], *, meaning: str = ""
    ) -> T | None:
        """Return the value of a key that must be given once; None only along with a finding."""
        given = self._given(KeyDeclaration(_keys(key), meaning, required=True))
        if not given:
            self.report(f"{self.section} needs '{_keys(key)[0]} = …'")
        return self._single(given, parse, None)

    def many(
        self,
        key: str | tuple[str, ...],
        parse: Callable[[str], T],
        default: tuple[T, ...] = (),
        *,
        empty_is_none: bool = False,
        meaning: str = "",
    ) -> tuple[T, ...]:
        """Return the values of a key that may be given any number of times.

        Args:
            key: the key, or the key and its aliases.
            parse: turns each text into a value; its ValueError becomes a finding.
            default: the values when the key is absent.
            empty_is_none: whether an empty text adds no value, instead of being parsed.
            meaning: what the key does, for the reference.
        """
        given = self._given(KeyDeclaration(_keys(key), meaning, default, repeatable=True))
        if not given:
            return default
        values = []
        for option in given:
            if option.value or not empty_is_none:
                try:
                    values.append(parse(option.value))
                except ValueError as error:
                    self._report_value(option, parse, error, repeatable=True)
        return tuple(values)

    def has(self, key: str) -> bool:
        """Tell whether the key is given, whatever its value."""
        return any(option.key == key for option in self.section.options)

    def report(self, message: str, key: str | None = None, *, warning: bool = False) -> None:
        """Add a finding at the first line of a key, or at the section's where the key is absent."""
        options = [option for option in self.section.options if option.key == key]
        location = options[0].location if options else self.location
        self._findings.append(Finding(location, message, warning))

    def finish(self) -> None:
        """Add a finding for each key that nobody has asked for; more calls change nothing."""
        if self._finished:
            return
        self._finished = True
        known = {key for declared in self.declared for key in declared.keys}
        for option in self.section.options:
            if option.key not in known:
                message = f"{self.section} knows no '{option.key}'{hint(option.key, known)}"
                self._findings.append(Finding(option.location, message))

    def raise_findings(self) -> None:
        """Raise what was found so far.

        Raises:
            ConfigurationError: there is a finding that is more than a warning.
        """
        if any(not finding.warning for finding in self._findings):
            raise ConfigurationError(self._findings)

    def _given(self, declared: KeyDeclaration) -> list[Option]:
        self.declared.append(declared)
        return [option for option in self.section.options if option.key in declared.keys]

    def _single(self, given: list[Option], parse: Callable[[str], T], default: D) -> T | D:
        for again in given[1:]:
            self._findings.append(
                Finding(again.location, f"'{again.key}' is given twice, first at {given[0].location}")
            )
        if not given:
            return default
        try:
            return parse(given[0].value)
        except ValueError as error:
            self._report_value(given[0], parse, error, repeatable=False)
            return default

    def _report_value(
        self, option: Option, parse: Callable[[str], object], error: ValueError, *, repeatable: bool
    ) -> None:
        """Add a finding for a value that does not parse; its words never repeat the value themselves."""
        words = _habit(option, parse, repeatable=repeatable) or str(error)
        self._findings.append(Finding(option.location, f"{option.key}: {words}"))


def _habit(option: Option, parse: Callable[[str], object], *, repeatable: bool) -> str | None:
    """Return what to do about a value that would be good in another kind of file, None about any other."""
    values = re.split(r"\s*,\s*|\s+", option.value.strip(" ,"))
    if repeatable and len(values) > 1 and all(_parses(parse, value) for value in values):
        return f"each of several values needs a line of its own: write '{option.key} = …' {len(values)} times"
    if option.value[:1] in _QUOTES and _parses(parse, option.value.strip("\"'")):
        return "quotes are part of a value: write it without them"
    before, mark, _ = (
        _COMMENT.split(option.value, maxsplit=1) if _COMMENT.search(option.value) else ("", "", "")
    )
    if mark and _parses(parse, before):
        return f"what follows the '{mark}' is part of the value: write the comment on a line of its own"
    return None


def _parses(parse: Callable[[str], object], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return bool(value)


def _keys(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
