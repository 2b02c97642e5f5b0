"""Which sections a configuration may have: of which kinds, with or without a name, and each only once."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from acmems.settings.findings import Finding, Location, hint
from acmems.settings.grammar import Section
from acmems.settings.options import Options


class Naming(enum.Enum):
    """Whether the sections of a kind have names."""

    NEVER = enum.auto()
    ALWAYS = enum.auto()
    MAY = enum.auto()


def well_formed(
    sections: Iterable[Section], kinds: Mapping[str, Naming], found: list[Finding]
) -> list[Section]:
    """Return the sections of known kinds, each with a name where it needs one, and each only once.

    Args:
        sections: all sections, in order.
        kinds: the kinds that there are.
        found: problems are appended here.
    """
    first: dict[tuple[str, str | None], Section] = {}
    for section in sections:
        identity, naming = (section.kind, section.name), kinds.get(section.kind)
        if naming is None:
            message = f"there is no section [{section.kind}]{hint(section.kind, kinds)}"
        elif naming is Naming.NEVER and section.name is not None:
            message = f"[{section.kind}] takes no name"
        elif (naming is Naming.ALWAYS and not section.name) or section.name == "":
            message = f'[{section.kind}] needs a name: [{section.kind} "NAME"]'
        elif identity in first:
            message = f"{section} is given twice, first at {first[identity].location}"
        else:
            first[identity] = section
            continue
        found.append(Finding(section.location, message))
    return list(first.values())


def of_kind(kind: str, sections: Iterable[Section]) -> list[Section]:
    """Return the sections of one kind."""
    return [section for section in sections if section.kind == kind]


def unnamed(kind: str, sections: Iterable[Section], location: Location, found: list[Finding]) -> Options:
    """Return the options of the section of a kind that has no name; empty ones where there is none.

    Args:
        kind: the kind.
        sections: all sections.
        location: where to report what is missing then.
        found: problems are appended here.
    """
    absent = Section(kind, None, (), location)
    given = (section for section in of_kind(kind, sections) if section.name is None)
    return Options(next(given, absent), found)


def gives(section: Section, key: str) -> bool:
    """Tell whether a key stands in a section."""
    return any(option.key == key for option in section.options)
