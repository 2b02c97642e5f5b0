"""INI text, typed access to it, and the parsers of values."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest

from acmems.exceptions import ConfigurationError
from acmems.net.address import Address, parse_address, parse_network
from acmems.settings import values
from acmems.settings.findings import Finding, Location, hint
from acmems.settings.grammar import Option, Section, read_sections
from acmems.settings.options import KeyDeclaration, Options
from acmems.text import Secret


def read(text: str) -> tuple[list[Section], list[str]]:
    findings: list[Finding] = []
    return read_sections(text, "a.ini", findings), [str(finding) for finding in findings]


def options(text: str) -> tuple[Options, list[Finding]]:
    findings: list[Finding] = []
    (section,) = read_sections(text, "a.ini", findings)
    return Options(section, findings), findings


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

    @pytest.mark.parametrize(
        "line", ["[", "[]", "[mgmt", "[mgmt] x", "[auth name]", '[auth "a" "b"]', '["a"]', "[ä]"]
    )
    def test_a_broken_section_line_is_one_finding(self, line: str) -> None:
        """A section line that cannot be read is reported once, not again for each line below it."""
        sections, findings = read(f"[mgmt]\na = 1\n{line}\nb = 2\nc = 3\n[logging]\nd = 4")
        assert [pairs(section) for section in sections] == [[("a", "1")], [("d", "4")]]
        assert findings == ['a.ini:3: a section begins with [kind] or [kind "name"], and no more']

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

    def test_nothing_shows_values(self) -> None:
        """The repr of a section shows keys, and no value."""
        (section,), _ = read("[auth]\nhmac_key = hunter2\n")
        assert "hmac_key" in repr(section)
        assert "hunter2" not in repr(section)


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

    def test_what_was_asked_for_is_declared(self) -> None:
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


class TestHint:
    @pytest.mark.parametrize(
        ("word", "expected"),
        [
            ("listner", ", did you mean 'listener'?"),
            ("LISTENER", ", did you mean 'listener'?"),
            ("dns01-dnsupdate", ", did you mean 'dns01-dnsUpdate'?"),
            ("xyz", " (known: dns01-dnsUpdate, listener)"),
        ],
    )
    def test_the_nearest_word_is_offered(self, word: str, expected: str) -> None:
        """A hint offers the nearest known word, else all of them."""
        assert hint(word, ["listener", "dns01-dnsUpdate"]) == expected

    def test_nothing_known_is_nothing_to_offer(self) -> None:
        """Without known words there is no hint."""
        assert not hint("x", [])


GOOD = [
    (values.text, "a b", "a b"),
    (values.secret, "x", Secret("x")),
    (values.path, "/etc/acmems", Path("/etc/acmems")),
    (values.boolean, "yes", True),
    (values.boolean, "True", True),
    (values.boolean, "ON", True),
    (values.boolean, "1", True),
    (values.boolean, "no", False),
    (values.boolean, "false", False),
    (values.boolean, "off", False),
    (values.boolean, "0", False),
    (values.boolean, "yes # or true", True),
    (values.boolean, "no\t; or false", False),
    (values.positive_int, "1", 1),
    (values.positive_int, "0042", 42),
    (values.size, "1", 1),
    (values.size, "4k", 4096),
    (values.size, "16k", 16384),
    (values.size, "16 K", 16384),
    (values.size, "1m", 1048576),
    (values.seconds, "5", 5.0),
    (values.seconds, "0.25", 0.25),
    (values.days, "14", datetime.timedelta(days=14)),
    (values.days, "0", datetime.timedelta(0)),
    (values.choice("a", "b"), "b", "b"),
    (parse_network, "192.0.2.7", ipaddress.ip_network("192.0.2.7/32")),
    (parse_network, "2001:db8::/32", ipaddress.ip_network("2001:db8::/32")),
    (values.https_url, "https://acme.example.org/directory", "https://acme.example.org/directory"),
    (values.https_url, "https://localhost:14000/dir", "https://localhost:14000/dir"),
    (values.https_url, "https://[::1]:14000/dir", "https://[::1]:14000/dir"),
    (parse_address, "127.0.0.1:1313", Address("127.0.0.1", 1313)),
    (parse_address, "192.0.2.1:0", Address("192.0.2.1", 0)),
    (parse_address, "[::]:1380", Address("::", 1380)),
    (parse_address, "[2001:DB8:0::1]:65535", Address("2001:db8::1", 65535)),
    (parse_address, "[fe80::1%eth0]:1380", Address("fe80::1%eth0", 1380)),
    (parse_address, "Gate.example.org:1313", Address("gate.example.org", 1313)),
]

BAD: list[tuple[Callable[[str], object], str]] = [
    (values.text, ""),
    (values.secret, ""),
    (values.path, ""),
    *((values.boolean, value) for value in ("", "maybe", "yes# or true", "yes no", "2")),
    *(
        (values.positive_int, value)
        for value in ("", "0", "-1", "+1", "1_000", "1.5", "٣", "9" * 10, "1 # one")
    ),
    *((values.size, value) for value in ("", "0", "k", "4kb", "4g", "-4k", "4.5k", "1e3", "4k # kilo", "٤k")),
    *((values.seconds, value) for value in ("", "0", "0.0", "-1", "1e9", "inf", "nan", "5s", ".5")),
    *((values.days, value) for value in ("", "-1", "3651", "14d", "1.5")),
    *((values.choice("a", "b"), value) for value in ("", "A", "c")),
    *((parse_network, value) for value in ("", "192.0.2.1/24", "192.0.2", "example.org", "1.2.3.4/33")),
    *(
        (values.https_url, value)
        for value in (
            "",
            "http://acme.example.org/",
            "https://",
            "https:///dir",
            "acme.example.org",
            "https://user:secret@acme.example.org/",
            "https://acme.example.org:99999/",
            "https://acme.example.org:x/",
            "https://[::1/",
            "https://acme.example.org/a b",
            "https://acme.example.org/\na",
            "https://äcme.example.org/",
        )
    ),
    *(
        (parse_address, value)
        for value in (
            "",
            ":1313",
            "*:1313",
            "1313",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "127.0.0.1:-1",
            "127.0.0.1:http",
            "127.0.0.1:1313 # mgmt",
            "127.0.0.256:1313",
            "127.1:1313",
            "::1:1313",
            "[::1]",
            "[::1]1313",
            "[127.0.0.1]:1313",
            "[]:1313",
            "[::1]:1313]",
            "a b:1313",
            "-a:1313",
            "a..b:1313",
            f"{'a' * 64}:1313",
            f"{'a.' * 127}a:1313",
            "127.0.0.1:1313\n",
        )
    ),
]


class TestParsers:
    @pytest.mark.parametrize(("parse", "value", "expected"), GOOD)
    def test_good_values(self, parse: Callable[[str], object], value: str, expected: object) -> None:
        """A value that is written as the reference says is understood."""
        assert parse(value) == expected

    @pytest.mark.parametrize(("parse", "value"), BAD)
    def test_bad_values_raise_a_reason(self, parse: Callable[[str], object], value: str) -> None:
        """Every other value raises ValueError with a reason of one line."""
        with pytest.raises(ValueError) as caught:
            parse(value)
        assert str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_url_with_a_password_is_not_quoted(self) -> None:
        """What is wrong about a URL is said without repeating it."""
        with pytest.raises(ValueError) as caught:
            values.https_url("https://user:hunter2@acme.example.org/")
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ("192.0.2.53", Address("192.0.2.53", 53)),
            ("192.0.2.53:5353", Address("192.0.2.53", 5353)),
            ("2001:db8::53", Address("2001:db8::53", 53)),
            ("[2001:db8::53]", Address("2001:db8::53", 53)),
            ("[2001:db8::53]:5353", Address("2001:db8::53", 5353)),
            ("ns.example.org", Address("ns.example.org", 53)),
            ("ns.example.org:5353", Address("ns.example.org", 5353)),
        ],
    )
    def test_the_port_may_have_a_default(self, value: str, expected: Address) -> None:
        """With a default port, an address may leave the port out, brackets included."""
        assert parse_address(value, default_port=53) == expected

    @pytest.mark.parametrize("value", ["", "192.0.2.53:", "[::1]:", "2001:db8::x", "[::1]x", ":53"])
    def test_a_default_port_excuses_nothing_else(self, value: str) -> None:
        """With a default port, a broken address is refused as without."""
        with pytest.raises(ValueError):
            parse_address(value, default_port=53)

    @pytest.mark.parametrize("written", ["127.0.0.1:1313", "[::1]:1313", "[fe80::1%eth0]:0", "localhost:1"])
    def test_an_address_prints_as_it_is_written(self, written: str) -> None:
        """An address prints in the form that configuration takes."""
        assert str(parse_address(written)) == written


def test_findings_print_as_file_line_message() -> None:
    """A finding prints as `file:line: message`, and a warning says so."""
    assert str(Finding(Location("a.ini", 3), "no")) == "a.ini:3: no"
    assert str(Finding(Location("a.ini", 3), "hm", warning=True)) == "a.ini:3: warning: hm"


def test_what_stands_in_no_file_has_no_line() -> None:
    """A location outside of any file prints without a line."""
    assert str(Option("a", "b", Location("a script", 0)).location) == "a script"
