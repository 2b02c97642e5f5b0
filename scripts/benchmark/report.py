"""What a person, a page or a program reads of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from scripts.benchmark.rows import Measured, Row, number

HEAD = ("figure", "acmems", "compared with", "ratio", "target", "met")
COST_HEAD = ("CPU time a chain", "server", "its CA", "the client")


def rows_of(results: Mapping[str, Measured]) -> list[Row]:
    """Return the rows of all figures, in order."""
    return [row for measured in results.values() for row in measured.rows]


def costs_of(results: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    """Return what chains cost, as cells: of what, then milliseconds of server, CA and client."""
    return [
        (f"{figure}: {name}", *(f"{number(milliseconds)} ms" for milliseconds in cost.each))
        for figure, measured in results.items()
        for name, cost in measured.costs.items()
    ]


def notes_of(results: Mapping[str, Measured]) -> list[str]:
    """Return the notes of all figures."""
    return [f"{figure}: {note}" for figure, measured in results.items() for note in measured.notes]


def plain(results: Mapping[str, Measured], paint: Callable[[str, str], str]) -> str:
    """Return a run as text for a terminal or a pipe.

    Args:
        results: by figure, what was measured.
        paint: puts a text in a colour, given the colour's number.
    """
    parts = [_aligned([HEAD, *(row.cells for row in rows_of(results))], paint)]
    if costs := costs_of(results):
        parts.append(_aligned([COST_HEAD, *costs], paint))
    if notes := notes_of(results):
        parts.append("\n".join(notes))
    return "\n\n".join(parts)


def markdown(results: Mapping[str, Measured]) -> str:
    """Return a run as Markdown tables.

    Args:
        results: by figure, what was measured.
    """
    parts = [_piped([HEAD, *(row.cells for row in rows_of(results))])]
    if costs := costs_of(results):
        parts.append(_piped([COST_HEAD, *costs]))
    if notes := notes_of(results):
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts)


def as_json(results: Mapping[str, Measured]) -> str:
    """Return a run as JSON.

    Args:
        results: by figure, what was measured.
    """
    content = {
        figure: {
            "rows": [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in measured.rows],
            "costs": {name: asdict(cost) for name, cost in measured.costs.items()},
            "notes": list(measured.notes),
        }
        for figure, measured in results.items()
    }
    return json.dumps(content, indent=2) + "\n"


def _aligned(table: Sequence[Sequence[str]], paint: Callable[[str, str], str]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        colour = {"yes": "32", "NO": "31"}.get(cells[-1], "1" if cells is table[0] else "0")
        lines.append(paint(colour, line))
    return "\n".join(lines)


def _piped(table: Sequence[Sequence[str]]) -> str:
    head, *rows = ("| " + " | ".join(cells) + " |" for cells in table)
    return "\n".join([head, "|" + "---|" * len(table[0]), *rows])
