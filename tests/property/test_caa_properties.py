"""What holds for CAA records whatever stands in them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from acmems.dns.caa.issue_value import IssueValue
from acmems.dns.caa.policy import Applicant, CaaPolicy, CaaRecord

OCTETS = st.text(st.characters(max_codepoint=255), max_size=60)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
ISSUERS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
TAGS = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
VALUES = st.text(st.sampled_from([chr(code) for code in range(0x21, 0x7F) if chr(code) != ";"]), max_size=12)
BLANKS = st.text(" \t", max_size=3)
NEAR = st.lists(st.sampled_from(["ca", ".", ";", "=", " ", "\t", "a", "accounturi", "-", "%"]), max_size=14)
RECORDS = st.lists(
    st.builds(
        CaaRecord,
        st.integers(0, 255),
        st.sampled_from(["issue", "issuewild", "iodef", "tbs", ""]),
        st.one_of(OCTETS, ISSUERS, st.just("ca.example"), st.just("ca.example; validationmethods=dns-01")),
    ),
    max_size=5,
)


@given(st.one_of(OCTETS, NEAR.map("".join)))
def test_any_value_is_read(text: str) -> None:
    """Whatever octets there are, a value names a CA by a domain name, or nobody; nothing is raised."""
    found = IssueValue.parse(text)
    assert not found.issuer or re.fullmatch(r"[a-z0-9.-]+", found.issuer)
    assert found.methods is None or all(found.methods)


@given(ISSUERS, st.dictionaries(TAGS, VALUES, max_size=4), BLANKS, BLANKS)
def test_what_is_written_is_read(issuer: str, parameters: dict[str, str], before: str, after: str) -> None:
    """Values that follow the grammar are read as they were meant, whatever blanks there are."""
    parts = [issuer, *(f"{tag}{after}={before}{value}" for tag, value in parameters.items())]
    text = before + f"{after};{before}".join(parts) + after
    assert IssueValue.parse(text) == IssueValue(issuer, parameters)


@given(RECORDS, st.booleans())
def test_the_remedy_helps(records: list[CaaRecord], wildcard: bool) -> None:
    """Wherever something is not allowed and there is a remedy, adding it allows everything."""
    applicant, methods = Applicant(("ca.example",), "https://ca.example/1"), ("http-01", "dns-01")
    verdict = CaaPolicy("example.com", tuple(records)).judge(applicant, methods, wildcard=wildcard)
    assert verdict.methods <= set(methods)
    assert (verdict.obstacle is None) == (len(verdict.methods) == len(methods))
    if verdict.remedy:
        flags, tag, value = verdict.remedy.split(" ", 2)
        added = CaaRecord(int(flags), tag, value.strip('"'))
        mended = CaaPolicy("example.com", (*records, added)).judge(applicant, methods, wildcard=wildcard)
        assert mended.obstacle is None


@given(RECORDS, st.permutations(range(5)), st.booleans())
def test_the_order_of_records_does_not_matter(
    records: list[CaaRecord], order: list[int], wildcard: bool
) -> None:
    """Name servers return records in any order."""
    applicant, methods = Applicant(("ca.example",)), ("http-01", "dns-01")
    shuffled = [records[place] for place in order if place < len(records)]
    first, second = (
        CaaPolicy("example.com", tuple(each)).judge(applicant, methods, wildcard=wildcard)
        for each in (records, shuffled)
    )
    assert first == second
