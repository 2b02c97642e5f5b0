"""What holds for every text that claims to be INI."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.net.address import Address, parse_address, parse_network
from acmems.settings import values
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections

KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,10}", fullmatch=True)
# No control characters and no line breaks; stripped as every value is.
VALUES = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30).map(str.strip)
NAMES = st.none() | st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters='"'), max_size=10
)
SECTIONS = st.lists(st.tuples(KEYS, NAMES, st.lists(st.tuples(KEYS, VALUES), max_size=5)), max_size=5)
# Text in which the marks of INI, and the words of the configuration, are frequent.
WORDS = """
    account mgmt auth verification storage logging dir type file http01 none listener domain ip all yes
    hmac_key max-size 4k 127.0.0.1:1 ** *.example.org
"""
LIKELY = st.lists(
    st.sampled_from([*'[]"=#;\n\n\r\0', *WORDS.split()]) | st.text(max_size=3), max_size=60
).map(" ".join)

PARSERS: list[Callable[[str], object]] = [
    values.text,
    values.secret,
    values.path,
    values.boolean,
    values.positive_int,
    values.size,
    values.seconds,
    values.days,
    parse_network,
    values.https_url,
    parse_address,
    lambda text: parse_address(text, 53),
]


@given(st.text() | LIKELY)
def test_reading_never_raises(text: str) -> None:
    """Any text is read, and every finding about it stands on one of its lines."""
    findings: list[Finding] = []
    sections = read_sections(text, "a.ini", findings)
    last = text.count("\n") + 1
    lines = [finding.location.line for finding in findings]
    lines += [option.location.line for section in sections for option in section.options]
    assert all(1 <= line <= last for line in lines)
    assert len(lines) == len(set(lines))


@given(SECTIONS)
def test_what_is_written_is_read(sections: list[tuple[str, str | None, list[tuple[str, str]]]]) -> None:
    """Well-formed sections and options come back exactly as they were written."""
    text = ""
    for kind, name, options in sections:
        text += f"[{kind}]\n" if name is None else f'[{kind} "{name}"]\n'
        text += "".join(f"{key} = {value}\n" for key, value in options)
    findings: list[Finding] = []
    read = [
        (section.kind, section.name, [(option.key, option.value) for option in section.options])
        for section in read_sections(text, "a.ini", findings)
    ]
    assert read == sections
    assert not findings


@given(st.sampled_from(PARSERS), st.text() | st.from_regex(r"\[?[0-9a-f.:%]*\]?:?[0-9]*", fullmatch=True))
@example(values.https_url, "https://[")
@example(parse_address, "[::1%]:1")
def test_parsers_raise_nothing_but_a_reason(parse: Callable[[str], object], text: str) -> None:
    """Any text either parses, or raises ValueError."""
    try:
        parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - what else it may do is return


@given(
    st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9]{0,20}(\.[a-z]{1,10}){0,3}", fullmatch=True),
    st.integers(0, 65535),
)
def test_addresses_round_trip(host: str, port: int) -> None:
    """Every address prints as text that parses to the same address."""
    address = Address(host, port)
    assert parse_address(str(address)) == address


@given(LIKELY)
@example("[account]\ndir = x\n[auth]\n")
def test_a_configuration_is_loaded_or_refused(text: str) -> None:
    """Any text either makes a configuration, or findings with file and line."""
    try:
        Configuration.from_text(text, "a.ini")
    except ConfigurationError as error:
        assert all(line.startswith("a.ini:") for line in str(error).split("\n"))  # noqa: PT017 - the same
