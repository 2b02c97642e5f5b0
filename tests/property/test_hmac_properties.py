"""What holds for every text that claims to be an Authentication header."""

from __future__ import annotations

import re
from email.message import Message

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acmems.auth import Claim

LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
SPELLINGS = {spelling: name for name in LENGTHS for spelling in (name, name.replace("sha", "sha2-"))}
CLAIMS = st.sampled_from(sorted(LENGTHS)).flatmap(
    lambda name: st.tuples(
        st.just(name), st.text("0123456789abcdef", min_size=LENGTHS[name], max_size=LENGTHS[name])
    )
)
# Text in which what such headers are made of is frequent, and digests have the right length or almost.
WORDS = ["hmac ", "HMAC ", "hmac", "basic ", "name=", "hash=", *SPELLINGS, "md5", "__name__", *', \t"=;\n']
DIGESTS = ["ab" * 32, "ab" * 48, "ab" * 64, "AB" * 32, "a" * 63, "٣" * 64]
PIECES = [*WORDS, *DIGESTS, f"hmac name=sha256, hash={'ab' * 32}"]
TEXTS = st.text() | st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=8).map("".join)


def read(*values: str) -> Claim | None:
    """Return the claim of a request with these Authentication headers."""
    headers = Message()
    for value in values:
        headers.add_header("Authentication", value)
    return Claim.from_headers(headers)


def claimed(text: str) -> Claim | None:
    """Read a text as documented, piece by piece."""
    scheme, _, rest = text.strip(" \t").partition(" ")
    pairs = re.split(", ?| ", rest)
    parameters = dict(pair.lower().split("=", 1) for pair in pairs if "=" in pair)
    name, digest = SPELLINGS.get(parameters.get("name", "")), parameters.get("hash", "")
    if scheme.lower() != "hmac" or len(pairs) != 2 or set(parameters) != {"name", "hash"} or name is None:
        return None
    return Claim(name, digest) if re.fullmatch(f"[0-9a-f]{{{LENGTHS[name]}}}", digest) else None


@pytest.mark.threat("auth", "a malformed Authentication header")
@given(TEXTS)
@example(f"hmac name=sha256, hash={'ab' * 32}\n")
@example(f"hmac name=sha256,  hash={'ab' * 32}")
@example(f"hmac name=\u017fha256, hash={'ab' * 32}")
@example(f"hmac n\u0430me=sha256, hash={'ab' * 32}")
def test_only_what_is_documented_is_a_claim(text: str) -> None:
    """Any text is the claim that a slow reading of the documentation finds, or none; nothing is raised."""
    assert read(text) == (claimed(text) if text.isascii() else None)
    assert Claim.from_headers({"Authentication": text}) == read(text)


@given(CLAIMS, st.booleans(), st.booleans(), st.sampled_from([", ", ",", " "]), st.booleans())
def test_claims_round_trip(
    claim: tuple[str, str], openssl: bool, name_first: bool, separator: str, upper: bool
) -> None:
    """A claim is read in either order, with each separator, in both spellings, and whatever its case."""
    algorithm, digest = claim
    spelling = algorithm.replace("sha", "sha2-") if openssl else algorithm
    pair = [f"name={spelling}", f"hash={digest}"]
    value = "hmac " + separator.join(pair if name_first else reversed(pair))
    assert read(value.upper() if upper else value) == Claim(algorithm, digest)


@given(TEXTS, TEXTS)
def test_two_headers_are_no_claim(first: str, second: str) -> None:
    """Two headers are ambiguous, whatever they hold."""
    assert read(first, second) is None
