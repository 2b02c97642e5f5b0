"""How records are printed: for a zone file, and for a person."""

from __future__ import annotations

import dns.name

from acmems.commands.records import table, zone_file
from acmems.commands.records.lookup import Comparison, RecordState
from acmems.commands.records.needed import Comment, DnsRecord

NAME = dns.name.from_text("_x.example.org")
LINES: list[Comparison | Comment] = [
    Comparison(DnsRecord(NAME, "TXT", 'a"b; c'), RecordState.IN_PLACE),
    Comparison(DnsRecord(NAME, "CNAME", "b.example.org."), RecordState.DIFFERS, "c.example.org."),
    Comment("for every NAME"),
    Comment("register first", fault=True),
]


class TestRendering:
    def test_a_zone_file(self) -> None:
        """Piped, each line is one of a zone file, what is no record behind a semicolon."""
        assert zone_file(LINES) == [
            r'_x.example.org. TXT "a\"b; c" ; in place',
            "_x.example.org. CNAME b.example.org. ; differs: c.example.org.",
            "; for every NAME",
            "; register first",
        ]

    def test_a_table(self) -> None:
        """For a person columns are aligned, and without colour there is none."""
        assert table(LINES, colour=False) == [
            '_x.example.org.  TXT    "a\\"b; c"       in place',
            "_x.example.org.  CNAME  b.example.org.  differs: c.example.org.",
            "for every NAME",
            "register first",
        ]

    def test_colours(self) -> None:
        """What is in place is green, and what is to be done is red."""
        good, bad, comment, fault = table(LINES, colour=True)
        assert good.endswith("\x1b[32min place\x1b[0m")
        assert "\x1b[31mdiffers" in bad
        assert "\x1b" not in comment
        assert fault.startswith("\x1b[31m")
