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

    @property
    def short(self) -> str:
        """The first text, and the number of the others."""
        more = f" +{len(self.items) - 1}" if len(self.items) > 1 else ""
        return self.items[0] + more

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
    widths = [
        _ColumnWidth.of(column, [row.cells[number] for row in measured], most=width if coming else None)
        for number, column in enumerate(columns)
    ]
    _fit(widths, width - len(_GAP) * (len(columns) - 1))
    titles = _line([Cell((column.title,)) for column in columns], widths, colour=False)
    yield coloured(titles, Colour.DIM) if colour else titles
    for row in itertools.chain(measured, further, coming or ()):
        yield _line(row.cells, widths, colour=colour)
        if row.note:
            for line in _wrapped(one_line(row.note, _LONGEST_NOTE), width - len(_INDENT)):
                yield _INDENT + (coloured(line, Colour.DIM) if colour else line)


@dataclass(slots=True)
class _ColumnWidth:
    """How wide a column is.

    Args:
        column: the column.
        width: that width, at first what short forms of its cells need.
        whole: what its cells need to be shown whole.
    """

    column: Column
    width: int
    whole: int

    @classmethod
    def of(cls, column: Column, cells: Sequence[Cell], most: int | None) -> _ColumnWidth:
        """Return the width for some cells; where nobody knows what is to come, `most` may be needed."""
        least = max(_columns(column.title), 0 if most is None else column.usual)
        short = max([least, *(_columns(each.short) for each in cells)])
        whole = max([short, *(_columns(each.fit(None)) for each in cells)])
        return cls(column, short, most if most is not None and column.is_flexible else whole)

    @property
    def missing(self) -> int:
        """How much more room its cells could use."""
        return self.whole - self.width


def _fit(widths: Sequence[_ColumnWidth], room: int) -> None:
    """Let flexible columns use all room that there is, and no more."""
    flexible = [each for each in widths if each.column.is_flexible]
    free = room - sum(each.width for each in widths)
    for given_way in ([each for each in flexible if each.column.is_cut_first], flexible):
        while free < 0 and given_way:
            widest = max(given_way, key=lambda each: each.width)
            if widest.width <= _NARROWEST:
                break
            widest.width -= 1
            free += 1
    while free > 0 and flexible:
        neediest = max(flexible, key=lambda each: each.missing)
        if neediest.missing <= 0:
            break
        neediest.width += 1
        free -= 1


def _line(cells: Sequence[Cell], widths: Sequence[_ColumnWidth], *, colour: bool) -> str:
    parts = []
    for each, column in zip(cells, widths, strict=True):
        text = each.fit(column.width)
        filled = " " * (column.width - _columns(text))
        painted = coloured(text, each.colour) if colour and each.colour is not None and text else text
        parts.append(filled + painted if column.column.is_number else painted + filled)
    return _GAP.join(parts).rstrip()


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
