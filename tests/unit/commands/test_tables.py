"""Tables: never wider than the terminal, and the same rows as lines elsewhere."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pytest

from acmems.commands import tables
from acmems.commands.tables import Cell, Column, Row, cell, plain, print_facts, print_rows, table
from acmems.system.terminal import Colour

NAMES = ("www.example.org", "mail.example.org", "ftp.example.org")
COLUMNS = (Column("names", is_flexible=True), Column("state"), Column("times", is_number=True))


def drawn(*rows: Row, width: int = 80, columns: tuple[Column, ...] = COLUMNS) -> list[str]:
    return list(table(columns, rows, width=width, colour=False))


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (None, "www.example.org, mail.example.org, ftp.example.org"),
        (50, "www.example.org, mail.example.org, ftp.example.org"),
        (49, "www.example.org, mail.example.org +1"),
        (35, "www.example.org +2"),
        (17, "www.example.o… +2"),
        (8, "www.… +2"),
    ],
)
def test_names_in_a_narrow_place(width: int | None, text: str) -> None:
    """As many are shown whole as there is room for, and how many more there are."""
    assert cell(NAMES).fit(width) == text


def test_a_table() -> None:
    """Columns are as wide as what stands in them; numbers stand at the right."""
    rows = [Row((cell(NAMES[:1]), cell("valid"), cell(3))), Row((cell(NAMES[1:2]), cell(None), cell(12)))]
    assert drawn(*rows) == [
        "names             state  times",
        "www.example.org   valid      3",
        "mail.example.org            12",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """Flexible columns are cut, and notes are wrapped, so that no line is broken by the terminal."""
    note = "the CA could not validate " + "a-long-name.example.org and " * 10
    rows = [Row((cell([name] * 4), cell("superseded"), cell(7)), note) for name in NAMES]
    lines = drawn(*rows, width=width)
    assert max(map(len, lines)) <= width
    assert len({line.index("superseded") for line in lines if "superseded" in line}) == 1


def test_what_is_cut_first() -> None:
    """A column that matters less gives way before one that matters more."""
    columns = (Column("names", is_flexible=True), Column("issuer", is_flexible=True, is_cut_first=True))
    (_, line) = drawn(Row((cell("www.example.org"), cell("ca.example.org"))), columns=columns, width=28)
    assert line == "www.example.org  ca.example…"


def test_room_for_all() -> None:
    """A long list of names is cut before a column is that would have room beside a short one."""
    columns = (Column("names", is_flexible=True), Column("block", is_flexible=True, is_cut_first=True))
    row = Row((cell(NAMES), cell("web servers")))
    assert drawn(row, columns=columns, width=32)[1] == "www.example.org +2   web servers"
    assert drawn(row, columns=columns, width=52)[1] == "www.example.org, mail.example.org +1     web servers"


def test_a_later_row_that_is_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first rows say how wide columns are; one after them is cut, so that it stays in line."""
    monkeypatch.setattr(tables, "_MEASURED", 1)
    rows = [Row((cell("a.example"), cell(state), cell(1))) for state in ("valid", "superseded")]
    assert drawn(*rows)[1:] == ["a.example  valid      1", "a.example  supe…      1"]


def test_rows_that_come_one_by_one() -> None:
    """A row that is to come is not waited for; columns are wide enough for what nobody knows yet."""
    coming: Iterator[Row] = (Row((cell("b.example"), cell("due"), cell(each))) for each in itertools.count())
    lines = table((*COLUMNS[:1], Column("state", usual=10), COLUMNS[2]), [], coming, width=40, colour=False)
    assert [*itertools.islice(lines, 2)] == [
        "names                  state       times",
        "b.example              due             0",
    ]


def test_no_rows() -> None:
    """Titles alone say nothing."""
    assert drawn() == []


def test_wide_characters() -> None:
    """Names of blocks may have characters that take two columns, or none."""
    accented = "cafe\N{COMBINING ACUTE ACCENT}"
    rows = [Row((cell(name), cell("valid"), cell(1))) for name in ("網站", accented, "web")]
    before = [line.partition("valid")[0] for line in drawn(*rows)[1:]]
    assert before == ["網站   ", f"{accented}   ", "web    "]
    assert Cell(("網站網站",)).fit(5) == "網站…"


def test_colours() -> None:
    """They take no room."""
    row = Row((cell("a.example"), cell("due", Colour.YELLOW), cell(1)), "a note")
    lines = list(table(COLUMNS, [row], width=80, colour=True))
    assert lines[1] == "a.example  \x1b[33mdue\x1b[0m        1"
    plain_lines = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
    assert plain_lines == list(table(COLUMNS, [row], width=80, colour=False))


def test_texts_of_strangers() -> None:
    """Nothing that stands in a cell can end a line or control a terminal."""
    row = Row((cell("a\r\nb\x1b[31m\tc"), cell("x"), cell(1)), "one\ntwo\x1b")
    assert drawn(row)[1:] == ["a b [31m c  x          1", "    one two"]
    assert list(plain([row])) == ["a b [31m c\tx\t1\tone two"]


def test_lines() -> None:
    """Each stands for itself: fields between tabs, whole, and empty where nothing is known."""
    row = Row((cell(NAMES), cell("35 d ago", whole="2026-11-01"), cell(None)))
    assert list(plain([row], "pause")) == [f"pause\t{','.join(NAMES)}\t2026-11-01\t"]


class TestPrinting:
    """Where it goes decides how it looks."""

    def test_a_pipe(self, capsys: pytest.CaptureFixture[str]) -> None:
        """No titles, no widths."""
        print_rows(COLUMNS, [Row((cell(NAMES), cell("due"), cell(1)))])
        print_facts([("names", cell(NAMES)), ("state", cell("due"))])
        assert capsys.readouterr().out == (
            f"{','.join(NAMES)}\tdue\t1\nnames\t{','.join(NAMES)}\nstate\tdue\n"
        )

    def test_a_terminal(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """As wide as it is."""
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "40")
        print_rows(COLUMNS, [Row((cell(NAMES), cell("due"), cell(1)))])
        print_facts([("names", cell(NAMES)), ("state", cell("due"))])
        assert capsys.readouterr().out.splitlines() == [
            "names                       state  times",
            "www.example.org +2          due        1",
            "names  www.example.org,",
            "       mail.example.org, ftp.example.org",
            "state  due",
        ]
