"""INI text with repeated keys: its sections and options, and where each one stands.

Bad text raises nothing: problems become findings, so that a person sees all of a file at once. No finding
repeats a value that may be a secret.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from acmems.settings.findings import Finding, Location

_HEADER = re.compile(r'\[\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+"([^"]*)")?\s*\]')
# What other kinds of files call a section of two words.
_FOREIGN_HEADER = re.compile(
    r"\[\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|\s*[.:]\s*)['\"]?([^'\"\[\]]+?)['\"]?\s*\]"
)
_FOREIGN_OPTION = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)\s*:\s")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Option:
    """One `key = value`; the value may be a secret and is never shown."""

    key: str
    value: str = field(repr=False)
    location: Location


@dataclass(frozen=True, slots=True)
class Section:
    """One `[kind]` or `[kind "name"]` with its options, in the order of the text."""

    kind: str
    name: str | None
    options: tuple[Option, ...]
    location: Location

    @property
    def content(self) -> tuple[tuple[str, str], ...]:
        """Its keys and values, wherever they stand."""
        return tuple((option.key, option.value) for option in self.options)

    def __str__(self) -> str:
        return f"[{self.kind}]" if self.name is None else f'[{self.kind} "{self.name}"]'


def read_sections(text: str, path: str, findings: list[Finding]) -> list[Section]:
    """Return the sections of a file's text; problems are appended to the findings, under the file's path."""
    found: list[tuple[Section, list[Option]]] = []
    in_broken_section = False
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        location = Location(path, number)
        if not line or line[0] in "#;":
            continue
        if any(unicodedata.category(char) == "Cc" and char != "\t" for char in line):
            findings.append(Finding(location, "control characters have no place here"))
        elif line[0] == "[":
            header = _HEADER.fullmatch(line) or _foreign_header(line, location, findings)
            in_broken_section = header is None
            if header is not None:
                found.append((Section(header[1], header[2], (), location), []))
        else:
            option = _option(line, location, findings)
            if option is None or in_broken_section:
                continue
            if found:
                found[-1][1].append(option)
            else:
                findings.append(Finding(location, f"'{option.key}' stands before any [section]"))
    return [Section(head.kind, head.name, tuple(options), head.location) for head, options in found]


def _foreign_header(line: str, location: Location, findings: list[Finding]) -> re.Match[str] | None:
    """Report a header that is none; return what it means where that is clear, so that its lines are read."""
    header = _FOREIGN_HEADER.fullmatch(line)
    words = 'a section begins with [kind] or [kind "name"], and no more'
    if header is not None:
        words = f'the name of a section stands in double quotes: write [{header[1]} "{header[2]}"]'
    findings.append(Finding(location, words))
    return header


def _option(line: str, location: Location, findings: list[Finding]) -> Option | None:
    key, equals, value = line.partition("=")
    key = key.rstrip()
    foreign = _FOREIGN_OPTION.match(line)
    if foreign is not None and not _KEY.fullmatch(key):
        findings.append(Finding(location, f"a '=' stands between key and value: write '{foreign[1]} = …'"))
    elif not equals:
        findings.append(Finding(location, "neither 'key = value' nor [section] nor # comment"))
    elif not _KEY.fullmatch(key):
        # Not quoted: with another sign than '=' in front, a secret may stand here.
        findings.append(Finding(location, "what stands before '=' is no key (letters, digits, '-' and '_')"))
    else:
        return Option(key, value.lstrip(), location)
    return None
