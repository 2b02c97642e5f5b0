"""INI text: sections, options, and lines that are neither."""

from __future__ import annotations

import pytest

from acmems.settings.findings import Finding
from acmems.settings.grammar import Section, read_sections


def read(text: str) -> tuple[list[Section], list[str]]:
    findings: list[Finding] = []
    return read_sections(text, "a.ini", findings), [str(finding) for finding in findings]


def pairs(section: Section) -> list[tuple[str, str]]:
    return [(option.key, option.value) for option in section.options]


class TestRead:
    def test_sections_and_options_keep_their_order(self) -> None:
        """Sections and repeated keys come in the order of the text."""
        sections, findings = read('[mgmt]\nb = 1\na = 2\nb = 3\n[auth "x"]\nc=4')
        assert [(section.kind, section.name) for section in sections] == [("mgmt", None), ("auth", "x")]
        assert pairs(sections[0]) == [("b", "1"), ("a", "2"), ("b", "3")]
        assert pairs(sections[1]) == [("c", "4")]
        assert not findings

    def test_everything_knows_its_line(self) -> None:
        """Sections and options know their file and line, counted from 1."""
        (section,), _ = read("\n[mgmt]\n\n# comment\nkey = value\n")
        assert str(section.location) == "a.ini:2"
        assert str(section.options[0].location) == "a.ini:5"

    @pytest.mark.parametrize("line", ["# comment", "; comment", "   # indented", "#[mgmt]", "", " \t "])
    def test_comments_and_blank_lines_are_nothing(self, line: str) -> None:
        """Lines that begin with # or ;, and empty ones, hold nothing."""
        sections, findings = read(f"[mgmt]\n{line}\nkey = value\n")
        assert [pairs(section) for section in sections] == [[("key", "value")]]
        assert not findings

    @pytest.mark.parametrize(
        ("line", "key", "value"),
        [
            ("key=value", "key", "value"),
            ("  key  =  value  ", "key", "value"),
            ("key = a=b=", "key", "a=b="),
            ("key = a b", "key", "a b"),
            ("key =", "key", ""),
            ("key = # not a comment", "key", "# not a comment"),
            ("key = a ; b", "key", "a ; b"),
            ("hmac_key=x", "hmac_key", "x"),
            ('key = "quoted"', "key", '"quoted"'),
            ("key = tab\tinside", "key", "tab\tinside"),
            ("key = value\r", "key", "value"),
            ("key = grüße", "key", "grüße"),
        ],
    )
    def test_a_line_is_split_at_the_first_equals_sign(self, line: str, key: str, value: str) -> None:
        """Key and value stand around the first equals sign, stripped; the value is kept as it is."""
        (section,), findings = read(f"[mgmt]\n{line}\n")
        assert pairs(section) == [(key, value)]
        assert not findings

    @pytest.mark.parametrize(
        ("line", "kind", "name"),
        [
            ("[mgmt]", "mgmt", None),
            (' [auth "mail"] ', "auth", "mail"),
            ('[auth  "two words"]', "auth", "two words"),
            ('[ auth "x" ]', "auth", "x"),
            ('[auth ""]', "auth", ""),
            ('[auth "]"]', "auth", "]"),
        ],
    )
    def test_a_section_may_have_a_name(self, line: str, kind: str, name: str | None) -> None:
        """A section is a kind, or a kind and a name in quotes."""
        (section,), findings = read(line)
        assert (section.kind, section.name) == (kind, name)
        assert not findings

    @pytest.mark.parametrize("line", ["[", "[]", "[mgmt", "[mgmt] x", '[auth "a" "b"]', '["a"]', "[ä]"])
    def test_a_broken_section_line_is_one_finding(self, line: str) -> None:
        """A section line that cannot be read is reported once, not again for each line below it."""
        sections, findings = read(f"[mgmt]\na = 1\n{line}\nb = 2\nc = 3\n[logging]\nd = 4")
        assert [pairs(section) for section in sections] == [[("a", "1")], [("d", "4")]]
        assert findings == ['a.ini:3: a section begins with [kind] or [kind "name"], and no more']

    @pytest.mark.parametrize("line", ["[auth web 1]", "[auth 'web 1']", "[auth.web 1]", "[auth: web 1 ]"])
    def test_a_name_without_double_quotes_is_a_finding(self, line: str) -> None:
        """A name that stands as in other kinds of files is told how to write, and its lines are read."""
        sections, findings = read(f"{line}\nb = 2")
        assert [(section.kind, section.name, pairs(section)) for section in sections] == [
            ("auth", "web 1", [("b", "2")])
        ]
        assert findings == ['a.ini:1: the name of a section stands in double quotes: write [auth "web 1"]']

    def test_a_colon_between_key_and_value_is_a_finding(self) -> None:
        """A line as in YAML is told how to write, without its value."""
        _, findings = read("[account]\neab-hmac-key: c2VjcmV0\ndir : /var/lib\n")
        assert findings == [
            "a.ini:2: a '=' stands between key and value: write 'eab-hmac-key = …'",
            "a.ini:3: a '=' stands between key and value: write 'dir = …'",
        ]

    def test_an_option_needs_a_section(self) -> None:
        """An option above the first section is a finding."""
        sections, findings = read("key = value\n[mgmt]\n")
        assert pairs(sections[0]) == []
        assert findings == ["a.ini:1: 'key' stands before any [section]"]

    @pytest.mark.parametrize(
        "line", ["hmac_key A1YP67arm", "hmac_key: A1YP67arm==", "= A1YP67arm", "hmac key=A1YP67arm"]
    )
    def test_a_line_that_is_not_understood_is_not_quoted(self, line: str) -> None:
        """A finding about a line without a good key never repeats it: it may hold a secret."""
        (section,), findings = read(f"[auth]\n{line}")
        assert not section.options
        assert len(findings) == 1
        assert findings[0].startswith("a.ini:2: ")
        assert "A1YP" not in findings[0]

    @pytest.mark.parametrize("char", ["\0", "\r", "\x1b", "\x7f", "\x85"])
    def test_control_characters_are_refused(self, char: str) -> None:
        """A control character inside a line is a finding: values reach headers and logs."""
        (section,), findings = read(f"[mgmt]\nkey = a{char}b\n")
        assert not section.options
        assert findings == ["a.ini:2: control characters have no place here"]

    def test_the_repr_of_a_section_shows_no_values(self) -> None:
        """The repr of a section shows keys, and no value."""
        (section,), _ = read("[auth]\nhmac_key = hunter2\n")
        assert "hmac_key" in repr(section)
        assert "hunter2" not in repr(section)
