"""What holds for every text that claims to be an Authentication header."""

from __future__ import annotations

import re
from email.message import Message
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acmems.auth import Claim

LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
SPELLINGS = {spelling: name for name in LENGTHS for spelling in (name, name.replace("sha", "sha2-"))}
CLAIMS = st.sampled_from(sorted(LENGTHS)).flatmap(
    lambda name: st.builds(
        Claim,
        st.just(name),
        st.text("0123456789abcdef", min_size=LENGTHS[name], max_size=LENGTHS[name]),
        st.none() | st.integers(1, 10**12 - 1),
    )
)
# Text in which what such headers are made of is frequent, and digests have the right length or almost.
WORDS = [
    "hmac ",
    "HMAC ",
    "hmac",
    "basic ",
    "name=",
    "hash=",
    "time=",
    *SPELLINGS,
    "md5",
    "__name__",
    *', \t"=;\n',
]
DIGESTS = ["ab" * 32, "ab" * 48, "ab" * 64, "AB" * 32, "a" * 63, "٣" * 64]
TIMES = ["0", "07", "1764144000", "9" * 12, "9" * 13, "-1", "1.5"]
PIECES = [*WORDS, *DIGESTS, *TIMES, f"hmac name=sha256, hash={'ab' * 32}", "time=1764144000"]
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
    time = parameters.get("time")
    if scheme.lower() != "hmac" or set(parameters) - {"time"} != {"name", "hash"} or name is None:
        return None
    if len(pairs) != len(parameters) or (time is not None and not re.fullmatch("[1-9][0-9]{0,11}", time)):
        return None
    found = Claim(name, digest, None if time is None else int(time))
    return found if re.fullmatch(f"[0-9a-f]{{{LENGTHS[name]}}}", digest) else None


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


@given(CLAIMS, st.booleans(), st.randoms(), st.sampled_from([", ", ",", " "]), st.booleans())
def test_claims_round_trip(claim: Claim, openssl: bool, random: Random, separator: str, upper: bool) -> None:
    """A claim is read in any order, with each separator, in both spellings, and whatever its case."""
    spelling = claim.algorithm.replace("sha", "sha2-") if openssl else claim.algorithm
    parameters = [f"name={spelling}", f"hash={claim.digest}"]
    parameters += [] if claim.time is None else [f"time={claim.time}"]
    random.shuffle(parameters)
    value = "hmac " + separator.join(parameters)
    assert read(value.upper() if upper else value) == claim
    assert read(claim.header) == claim


@given(CLAIMS, st.sampled_from(["name=sha256", "time=1764144000"]))
def test_nothing_is_said_twice(claim: Claim, more: str) -> None:
    """A claim that says something twice, even the same, is none."""
    told = f"{claim.header}, {more}"
    assert (read(told) is None) is (more.partition("=")[0] in claim.header)


@given(TEXTS, TEXTS)
def test_two_headers_are_no_claim(first: str, second: str) -> None:
    """Two headers are ambiguous, whatever they hold."""
    assert read(first, second) is None
