"""What holds for every name and every glob."""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from hypothesis import assume, example, given
from hypothesis import strategies as st

from acmems.x509.identifiers import Glob, Identifier

T = TypeVar("T")

# Names over so few letters that globs over the same ones often match them.
LABELS = st.text("ab", min_size=1, max_size=3)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
IDENTIFIERS = st.tuples(st.sampled_from(["", "*."]), NAMES).map("".join).map(Identifier.dns)
GLOB_LABELS = st.text("ab*?", min_size=1, max_size=4).filter(lambda label: "**" not in label)
GLOBS = st.tuples(st.booleans(), st.lists(GLOB_LABELS, min_size=1, max_size=4)).map(
    lambda parts: ".".join(["**"] * parts[0] + parts[1])
) | st.just("**")
# Text in which what names are made of is frequent.
LIKELY = st.lists(
    st.sampled_from([*".*-_19aZü☃", "xn--", "n3h", "bcher-kva", "example", "a" * 63]) | st.characters(),
    max_size=12,
).map("".join)
TEXTS = st.text() | LIKELY


def letters_match(label: str, pattern: str) -> bool:
    """Match a label letter by letter: the meaning of `*` and `?`, without a thought of speed."""
    if not pattern:
        return not label
    if pattern[0] == "*":
        return any(letters_match(label[skip:], pattern[1:]) for skip in range(len(label) + 1))
    return bool(label) and pattern[0] in ("?", label[0]) and letters_match(label[1:], pattern[1:])


def labels_match(labels: list[str], patterns: list[str]) -> bool:
    if patterns[0] == "**":
        rest = patterns[1:]
        return any(
            labels_match(labels[skip:], rest) if rest else skip == len(labels)
            for skip in range(1, len(labels) + (not rest))
        )
    return len(labels) == len(patterns) and all(map(letters_match, labels, patterns))


def grants(glob: str, identifier: Identifier) -> bool:
    if identifier.is_wildcard:
        labels = identifier.base.split(".")
        parents = [".".join(labels[skip:]) for skip in range(len(labels))]
        return glob in (identifier.value, "**", *(f"**.{parent}" for parent in parents))
    return labels_match(identifier.value.split("."), glob.split("."))


@given(GLOBS, IDENTIFIERS)
@example("**", Identifier.dns("a.b"))
@example("**.a", Identifier.dns("a"))
@example("**.a", Identifier.dns("*.b.a"))
@example("**", Identifier.dns("*.b.a"))
def test_globs_mean_what_the_specification_says(glob: str, identifier: Identifier) -> None:
    """A glob grants what a naive reading of its specification grants."""
    assert Glob.parse(glob).matches(identifier) == grants(glob, identifier)


@given(IDENTIFIERS)
def test_a_name_grants_itself(identifier: Identifier) -> None:
    """A glob without stars, or of a wildcard name's own text, grants that name."""
    assert Glob.parse(identifier.value).matches(identifier)


def parsed(parse: Callable[[str], T], text: str) -> T | None:
    """Parse a text; where it is refused, see that the reason is safe to print."""
    try:
        return parse(text)
    except ValueError as error:
        reason = str(error)
        assert reason
        assert reason.isprintable()
        assert reason.isascii()
        assert len(reason) < 1100  # 83 characters, each escaped to ten, and the fault
        return None


@given(TEXTS)
def test_names_are_refused_or_in_normal_form(text: str) -> None:
    """Any text is refused with a printable reason, or has one normal form, which is its own."""
    identifier = parsed(Identifier.dns, text)
    if identifier is not None:
        assert Identifier.dns(identifier.value) == identifier
        assert identifier.value == text.lower()
        assert len(identifier.value) <= 253
        assert all(0 < len(label) <= 63 for label in identifier.value.split("."))


@given(TEXTS)
def test_globs_are_refused_or_in_normal_form(text: str) -> None:
    """Any text is refused with a printable reason, or is a glob whose normal form is its own."""
    glob = parsed(Glob.parse, text)
    if glob is not None:
        assert Glob.parse(glob.text) == glob


@given(TEXTS)
def test_texts_are_refused_or_ip_addresses(text: str) -> None:
    """Any text is an IP address with one normal form, or refused with a printable reason."""
    identifier = parsed(Identifier.ip, text)
    if identifier is not None:
        assert Identifier.ip(identifier.value) == identifier


@given(st.ip_addresses())
def test_ip_addresses_round_trip(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """However an IP address is written, its identifier is the same."""
    assume(not (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped))
    identifier = Identifier.ip(str(address))
    assert Identifier.ip(address.exploded.upper()) == identifier
    assert ipaddress.ip_address(identifier.value) == address


@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=("Cc", "Cs")), min_size=1, max_size=12))
@example("☃")
@example("u\N{COMBINING DIAERESIS}")
def test_any_text_in_nfc_has_a_label(text: str) -> None:
    """The Punycode of a text is a label where the text is in NFC, and refused where it is not."""
    label = "xn--" + text.encode("punycode").decode("ascii")
    assume(len(label) <= 63)
    identifier = parsed(Identifier.dns, f"{label}.example")
    assert (identifier is not None) == (unicodedata.normalize("NFC", text) == text)
    assert (parsed(Glob.parse, f"{label}.example") is None) == (identifier is None)


@given(st.from_regex(r"[a-z0-9-]{0,20}[a-z0-9]{1,20}", fullmatch=True))
@example("-bbk")
@example("ls8h")
@example("bcher-kva")
def test_no_text_has_two_labels(encoded: str) -> None:
    """A label that is accepted is the one that its own text has."""
    label = f"xn--{encoded}"
    if parsed(Identifier.dns, f"{label}.example") is not None:
        text = encoded.encode("ascii").decode("punycode")
        assert not text.isascii()
        assert "xn--" + text.encode("punycode").decode("ascii") == label
