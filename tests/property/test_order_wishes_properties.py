"""Payloads of new orders, whatever strangers put into them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from acmems.frontends.acme.orders.wishes import OrderWish, read_wish
from acmems.frontends.acme.problems import AcmeProblem, document_of, encoded

MOST = 5
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
NAMES = st.one_of(
    st.from_regex(r"(\*\.)?[a-zA-Z0-9-]{0,4}\.example\.org", fullmatch=True),
    st.ip_addresses().map(str),
    st.text(max_size=20),
)
IDENTIFIERS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["dns", "ip"]) | VALUES, "value": NAMES | VALUES})
    | VALUES,
    max_size=2 * MOST + 1,
)
MEMBERS = st.fixed_dictionaries(
    {"identifiers": IDENTIFIERS | VALUES},
    optional=dict.fromkeys(("notBefore", "notAfter", "profile", "replaces", "other"), VALUES),
)


def read_wish_or_problem(members: dict[str, Any]) -> OrderWish | AcmeProblem:
    """Return what is read, or what is wrong."""
    try:
        return read_wish(members, MOST)
    except AcmeProblem as problem:
        return problem


@given(MEMBERS)
def test_it_is_a_wish_or_a_problem(members: dict[str, Any]) -> None:
    """Never another exception; names come back as they were sent, and a problem is a document."""
    wish = read_wish_or_problem(members)
    if isinstance(wish, AcmeProblem):
        assert 400 <= wish.status < 500
        json.loads(encoded(document_of(wish)))
        return
    sent = [(each["type"], each["value"]) for each in members["identifiers"]]
    assert [(each.type, each.value) for each in wish.names] == sent
    assert 1 <= len(wish.identifiers) <= MOST
    assert all(identifier.value == name.identifier.value for identifier, name in wish.identifiers.items())


@given(st.lists(st.sampled_from(["a", "A", "b", "*.b", "c"]), min_size=1, max_size=2 * MOST))
def test_each_name_counts_once(labels: list[str]) -> None:
    """However often and in whatever case it comes."""
    members = {"identifiers": [{"type": "dns", "value": f"{label}.example.org"} for label in labels]}
    assert len(read_wish(members, MOST).identifiers) == len({label.lower() for label in labels})
