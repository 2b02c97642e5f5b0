"""Typed access to the options of a section."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.exceptions import ConfigurationError
from acmems.settings import values
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import KeyDeclaration, Options


def options(text: str) -> tuple[Options, list[Finding]]:
    findings: list[Finding] = []
    (section,) = read_sections(text, "a.ini", findings)
    return Options(section, findings), findings


class TestOptions:
    def test_one_returns_the_parsed_value(self) -> None:
        """A key given once yields its parsed value."""
        read_options, findings = options("[s]\nmax = 4k")
        assert read_options.one("max", values.size, 1) == 4096
        assert not findings

    def test_one_returns_the_default_without_the_key(self) -> None:
        """An absent key yields the default."""
        read_options, findings = options("[s]")
        assert read_options.one("max", values.size, 1) == 1
        assert not findings

    def test_one_reports_what_does_not_parse(self) -> None:
        """A value that does not parse is a finding with the reason, and yields the default."""
        read_options, findings = options("[s]\n\nmax = much")
        assert read_options.one("max", values.size, 1) == 1
        assert [str(finding) for finding in findings] == [
            "a.ini:3: max: 'much' is not a size, such as 4096, 4k or 1m"
        ]

    def test_one_reports_a_second_time(self) -> None:
        """A single key given twice is a finding that names the first line, also through an alias."""
        read_options, findings = options("[s]\na = 1\nb = 2")
        assert read_options.one(("a", "b"), values.positive_int, 0) == 1
        assert [str(finding) for finding in findings] == ["a.ini:3: 'b' is given twice, first at a.ini:2"]

    def test_required_reports_absence(self) -> None:
        """A required key that is missing is a finding at the section."""
        read_options, findings = options('[s "x"]')
        assert read_options.required("dir", values.path) is None
        assert [str(finding) for finding in findings] == ["a.ini:1: [s \"x\"] needs 'dir = …'"]

    def test_required_returns_the_value(self) -> None:
        """A required key that is there yields its value."""
        read_options, findings = options("[s]\ndir = /var/lib")
        assert read_options.required("dir", values.path) == Path("/var/lib")
        assert not findings

    def test_many_returns_all_in_order(self) -> None:
        """A repeatable key yields all values in order, aliases included."""
        read_options, findings = options("[s]\na = 1\nb = 2\na = 3")
        assert read_options.many(("a", "b"), values.positive_int) == (1, 2, 3)
        assert not findings

    def test_many_leaves_out_what_does_not_parse(self) -> None:
        """Each value that does not parse is a finding of its own."""
        read_options, findings = options("[s]\na = x\na = 2\na =")
        assert read_options.many("a", values.positive_int, (9,)) == (2,)
        assert [finding.location.line for finding in findings] == [2, 4]

    def test_many_takes_empty_for_none_where_told(self) -> None:
        """Where empty means none, an empty value yields no values, and not the default."""
        read_options, findings = options("[s]\na =")
        assert read_options.many("a", values.positive_int, (9,), empty_is_none=True) == ()
        assert not findings

    def test_finish_reports_unknown_keys_with_a_hint(self) -> None:
        """Keys that nobody asks for are findings, with the nearest known key."""
        read_options, findings = options("[s]\nlistner = 1\nzzz = 2\nlistener = 3")
        read_options.many("listener", values.text)
        read_options.finish()
        assert [str(finding) for finding in findings] == [
            "a.ini:2: [s] knows no 'listner', did you mean 'listener'?",
            "a.ini:3: [s] knows no 'zzz' (known: listener)",
        ]

    def test_finish_reports_once(self) -> None:
        """Finishing twice reports nothing twice."""
        read_options, findings = options("[s]\nzzz = 2")
        read_options.finish()
        read_options.finish()
        assert len(findings) == 1

    def test_report_points_at_the_key(self) -> None:
        """A report about a key stands at its first line, and at the section's where it is absent."""
        read_options, findings = options("[s]\na = 1\na = 2")
        read_options.report("bad", "a")
        read_options.report("bad", "b", warning=True)
        assert [str(finding) for finding in findings] == ["a.ini:2: bad", "a.ini:1: warning: bad"]

    def test_raise_findings_lets_warnings_pass(self) -> None:
        """Findings are raised as soon as one of them is more than a warning."""
        read_options, _ = options("[s]")
        read_options.report("hm", warning=True)
        read_options.raise_findings()
        read_options.report("no")
        with pytest.raises(ConfigurationError, match="no"):
            read_options.raise_findings()

    def test_has_tells_presence(self) -> None:
        """A key is there even if its value is empty."""
        read_options, _ = options("[s]\na =")
        assert read_options.has("a")
        assert not read_options.has("b")

    def test_the_name_of_a_nameless_section_is_its_kind(self) -> None:
        """Options are named after their section."""
        assert options("[mgmt]")[0].name == "mgmt"
        assert options('[auth "x"]')[0].name == "x"

    def test_keys_that_were_asked_for_are_declared(self) -> None:
        """Every key that was asked for is known with its meaning and default, to make the reference of."""
        read_options, _ = options("[s]\nx = 1")
        read_options.one("a", values.size, 4096, meaning="largest CSR")
        read_options.required("b", values.text)
        read_options.many(("c", "d"), values.text, ("x",))
        assert read_options.declared == [
            KeyDeclaration(("a",), "largest CSR", 4096),
            KeyDeclaration(("b",), required=True),
            KeyDeclaration(("c", "d"), default=("x",), repeatable=True),
        ]
