"""How records and their states are printed: as lines of a zone file, or as a table for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from acmems.commands.records.lookup import Comparison, RecordState
from acmems.commands.records.needed import Comment
from acmems.system.terminal import Colour, coloured


def zone_file(lines: Iterable[Comparison | Comment]) -> list[str]:
    """Return lines for a zone file, with all that is no record behind a semicolon.

    Args:
        lines: what `examine` returned.
    """
    return [
        f"; {line.text}"
        if isinstance(line, Comment)
        else f"{line.record.name} {line.record.type} {line.record.presentation} ; {line.description}"
        for line in lines
    ]


def table(lines: Sequence[Comparison | Comment], *, colour: bool) -> list[str]:
    """Return the lines of a table for a terminal.

    Args:
        lines: what `examine` returned.
        colour: whether states are coloured.
    """
    records = [line.record for line in lines if isinstance(line, Comparison)]
    names = max((len(str(record.name)) for record in records), default=0)
    kinds = max((len(record.type) for record in records), default=0)
    data = max((len(record.presentation) for record in records), default=0)
    rows = []
    for line in lines:
        if isinstance(line, Comment):
            rows.append(coloured(line.text, Colour.RED) if colour and line.fault else line.text)
            continue
        record, state = line.record, line.description
        if colour:
            state = coloured(state, Colour.GREEN if line.state is RecordState.IN_PLACE else Colour.RED)
        rows.append(
            f"{record.name!s:<{names}}  {record.type:<{kinds}}  {record.presentation:<{data}}  {state}"
        )
    return rows
