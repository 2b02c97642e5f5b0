"""Tables at a terminal, as wide as it is, and the same rows as plain lines elsewhere."""

from __future__ import annotations

import itertools
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from acmems.commands.terminal import tell
from acmems.system.terminal import Colour, coloured, wants_colour
from acmems.text import one_line

_GAP = "  "
_INDENT = "    "  # of a note
_LONGEST_NOTE = 4000  # characters
_MEASURED = 500  # rows that the widths are taken from; those after them are cut where they need more
_NARROWEST = 8  # columns that a cell may be shrunk to
_WIDTH = 100  # columns of a terminal that does not say
_NOTHING = ("",)
_NOTE_LINES = 4  # of which the last one is cut


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        title: what stands above it.
        is_flexible: whether its cells may be cut where the terminal is too narrow.
        is_cut_first: whether they are cut before those of other flexible columns.
        is_number: whether its cells stand at its right side.
        usual: how wide it is at least where nobody knows what is to come.
    """

    title: str
    is_flexible: bool = False
    is_cut_first: bool = False
    is_number: bool = False
    usual: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place of a table.

    Args:
        items: texts, of which as many are shown as there is room for; the number of the others follows.
        colour: how it is coloured at a terminal, None for not at all.
        whole: what stands there in a plain line, where that is not the same.
    """

    items: tuple[str, ...]
    colour: Colour | None = None
    whole: str | None = None

    def fit(self, width: int | None) -> str:
        """Return the text for so many columns; None for as many as it takes."""
        whole = ", ".join(self.items)
        if width is None or _columns(whole) <= width:
            return whole
        for shown in range(len(self.items) - 1, 0, -1):
            text = f"{', '.join(self.items[:shown])} +{len(self.items) - shown}"
            if _columns(text) <= width:
                return text
        more = f" +{len(self.items) - 1}" if len(self.items) > 1 else ""
        return _cut(self.items[0], width - len(more)) + more


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Args:
        cells: one for each column.
        note: what is to be said of it besides, in lines of its own; the last field of a plain line.
    """

    cells: tuple[Cell, ...]
    note: str | None = None


def cell(value: object, colour: Colour | None = None, *, whole: str | None = None) -> Cell:
    """Return the cell for a value: a text, several texts, or nothing for None."""
    if value is None:
        return Cell(_NOTHING, colour, whole)
    if isinstance(value, tuple | list):
        return Cell(tuple(map(one_line, value)) or _NOTHING, colour, whole)
    return Cell((one_line(value),), colour, whole)


def print_rows(
    columns: Sequence[Column], rows: Iterable[Row], coming: Iterable[Row] = (), *, kind: str = ""
) -> None:
    """Print rows: a table at a terminal, otherwise a line for each, its fields separated by tabs.

    Args:
        columns: what the table consists of.
        rows: its rows; the first ones say how wide its columns are.
        coming: further rows, which are printed as they come.
        kind: what plain lines begin with, where others say something else.
    """
    if sys.stdout.isatty():
        lines = table(columns, rows, coming, width=terminal_width(), colour=wants_colour(sys.stdout))
    else:
        lines = plain(itertools.chain(rows, coming), kind)
    for line in lines:
        tell(line)


def print_facts(facts: Iterable[tuple[str, Cell]]) -> None:
    """Print what is known of one thing, a line for each fact: its name, and what is known."""
    is_terminal, colour = sys.stdout.isatty(), wants_colour(sys.stdout)
    known = list(facts)
    names = max((len(name) for name, _ in known), default=0)
    for name, fact in known:
        if not is_terminal:
            tell(f"{name}\t{_plain(fact)}")
            continue
        wrapped = _wrapped(fact.fit(None), terminal_width() - names - len(_GAP))
        for number, line in enumerate(wrapped or [""]):
            painted = coloured(line, fact.colour) if colour and fact.colour is not None else line
            tell(f"{name if number == 0 else '':<{names}}{_GAP}{painted}".rstrip())


def terminal_width() -> int:
    """Return how many columns the terminal has; `COLUMNS` says otherwise."""
    return shutil.get_terminal_size((_WIDTH, 24)).columns


def plain(rows: Iterable[Row], kind: str = "") -> Iterator[str]:
    """Yield a line for each row, without the titles: fields separated by tabs, the note last."""
    for row in rows:
        note = [] if row.note is None else [one_line(row.note, _LONGEST_NOTE)]
        yield "\t".join([*([kind] if kind else []), *map(_plain, row.cells), *note])


def table(
    columns: Sequence[Column],
    rows: Iterable[Row],
    coming: Iterable[Row] | None = None,
    *,
    width: int,
    colour: bool,
) -> Iterator[str]:
    """Yield the lines of a table, without waiting for the last row.

    Args:
        columns: what it consists of.
        rows: the rows; nothing is yielded where there is none, and none is to come.
        coming: further rows, which are not waited for.
        width: how many columns of characters a line may have.
        colour: whether titles and cells are coloured.
    """
    further = iter(rows)
    measured = list(itertools.islice(further, _MEASURED))
    if not measured and not coming:
        return
    natural = [
        max([_columns(column.title), *(_columns(row.cells[number].fit(None)) for row in measured)])
        for number, column in enumerate(columns)
    ]
    if coming:
        natural = [
            width if column.is_flexible else max(found, column.usual)
            for found, column in zip(natural, columns, strict=True)
        ]
    widths = _shrunk(natural, columns, width)
    titles = _line([Cell((column.title,)) for column in columns], columns, widths, colour=False)
    yield coloured(titles, Colour.DIM) if colour else titles
    for row in itertools.chain(measured, further, coming or ()):
        yield _line(row.cells, columns, widths, colour=colour)
        if row.note:
            for line in _wrapped(one_line(row.note, _LONGEST_NOTE), width - len(_INDENT)):
                yield _INDENT + (coloured(line, Colour.DIM) if colour else line)


def _line(cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], *, colour: bool) -> str:
    parts = []
    for each, column, width in zip(cells, columns, widths, strict=True):
        text = each.fit(width)
        filled = " " * (width - _columns(text))
        painted = coloured(text, each.colour) if colour and each.colour is not None and text else text
        parts.append(filled + painted if column.is_number else painted + filled)
    return _GAP.join(parts).rstrip()


def _shrunk(natural: Sequence[int], columns: Sequence[Column], width: int) -> list[int]:
    """Return the widths of the columns for a line that is not longer than the terminal is wide."""
    widths = list(natural)
    too_many = sum(widths) + len(_GAP) * (len(columns) - 1) - width
    for is_first in (True, False):
        flexible = [
            number
            for number, column in enumerate(columns)
            if column.is_flexible and (column.is_cut_first or not is_first)
        ]
        while too_many > 0 and flexible:
            widest = max(flexible, key=lambda number: widths[number])
            if widths[widest] <= _NARROWEST:
                break
            widths[widest] -= 1
            too_many -= 1
    return widths


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines, which are not many."""
    return textwrap.wrap(
        text, max(20, width), max_lines=_NOTE_LINES, placeholder=" …", break_on_hyphens=False
    )


def _plain(each: Cell) -> str:
    return ",".join(each.items) if each.whole is None else each.whole


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes (UAX #11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in {"F", "W"} else 1
        for each in text
    )


def _cut(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    kept = ""
    for each in text:
        if _columns(kept + each) > width - 1:
            break
        kept += each
    return f"{kept}…"
