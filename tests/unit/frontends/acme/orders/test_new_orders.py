"""New orders: what is granted, and what is refused before anything is asked outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.acme_orders import Orderer, Ordering, dns, ordering
from tests.auth_blocks import block

from acmems.events import RefusedEvent
from acmems.issuing.limits.gcra import Rate
from acmems.state.engines.contract import Database

LOCAL = ("ip", "127.0.0.0/8")


@pytest.fixture
def strict(state: Database) -> Iterator[Ordering]:
    """A front end where two blocks grant names, the one of them to somebody else."""
    mine = block(("domain", "*.mine.example.org"), ("address", "192.0.2.0/24"), LOCAL, name="mine")
    other = block(("domain", "**"), ("ip", "203.0.113.1"), name="other")
    with ordering(state, mine, other) as each:
        yield each


def test_an_order_shows_what_was_sent(client: Orderer) -> None:
    """Names as they were written, each different one with an authorization that is valid and not empty."""
    answer = client.order("A.example.org", "*.b.example.org", "a.example.org")
    assert answer.status == 201
    order = answer.json
    assert order["status"] == "ready"
    assert [each["value"] for each in order["identifiers"]] == [
        "A.example.org",
        "*.b.example.org",
        "a.example.org",
    ]
    assert len(order["authorizations"]) == 2
    assert b'"status":"ready"' in answer.body
    assert client.post(answer.location).json == order
    first, second = (client.post(each).json for each in order["authorizations"])
    assert (first["identifier"], second["identifier"]) == (
        {"type": "dns", "value": "A.example.org"},
        {"type": "dns", "value": "b.example.org"},
    )
    assert ("wildcard" in first, second["wildcard"]) == (False, True)
    for each, kind in ((first, "http-01"), (second, "dns-01")):
        assert (each["status"], each["expires"]) == ("valid", order["expires"])
        [challenge] = each["challenges"]
        assert (challenge["type"], challenge["status"]) == (kind, "valid")
        shown = client.post(challenge["url"])
        assert shown.json == challenge
        assert len(shown.links("up")) == 1


@pytest.mark.threat("acme orders", "names of several blocks")
def test_what_no_block_grants_is_told_name_by_name(strict: Ordering) -> None:
    """With the names as they were sent; nothing is asked outside, and the operator learns the reasons."""
    with strict.client() as client:
        answer = client.order("a.mine.example.org", "B.example.org", "*.mine.example.org")
        assert (answer.status, answer.problem) == (403, "rejectedIdentifier")
        assert [each["identifier"] for each in answer.json["subproblems"]] == dns("B.example.org")
        wish = {"identifiers": [*dns("a.mine.example.org"), {"type": "ip", "value": "192.0.2.1"}]}
        assert client.post(client.directory["newOrder"], wish).status == 201
        wish["identifiers"][1] = {"type": "ip", "value": "192.0.3.1"}
        answer = client.post(client.directory["newOrder"], wish)
        [subproblem] = answer.json["subproblems"]
        assert subproblem["identifier"] == {"type": "ip", "value": "192.0.3.1"}
    told = [each for each in strict.events if isinstance(each, RefusedEvent)]
    assert "block other: " in told[0].reason
    assert "b.example.org" in told[0].names
    assert "block other" not in answer.json["detail"]
    assert not strict.house.authority.orders


NAME = {"type": "dns", "value": "a.example.org"}


@pytest.mark.threat("acme orders", "an order of too many names")
@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "malformed"),
        ({"identifiers": []}, "malformed"),
        ({"identifiers": NAME}, "malformed"),
        ({"identifiers": ["a.example.org"]}, "malformed"),
        ({"identifiers": [{"type": "dns"}]}, "malformed"),
        ({"identifiers": [{"type": "dns", "value": 1}]}, "malformed"),
        ({"identifiers": [{"type": "dns", "value": "a" * 10_000}]}, "malformed"),
        ({"identifiers": [{"type": "email", "value": "a@example.org"}]}, "unsupportedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "a..example.org"}]}, "rejectedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "a.*.example.org"}]}, "rejectedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "a\r\nb.example.org"}]}, "rejectedIdentifier"),
        ({"identifiers": [{"type": "dns", "value": "192.0.2.1"}]}, "rejectedIdentifier"),
        ({"identifiers": [{"type": "ip", "value": "a.example.org"}]}, "rejectedIdentifier"),
        ({"identifiers": [NAME], "notAfter": "2027-01-01T00:00:00Z"}, "malformed"),
        ({"identifiers": [NAME], "notBefore": "2027-01-01T00:00:00Z"}, "malformed"),
        ({"identifiers": [NAME], "profile": "fast"}, "invalidProfile"),
        ({"identifiers": [NAME], "profile": 3}, "malformed"),
        ({"identifiers": [NAME], "replaces": "no name"}, "malformed"),
        ({"identifiers": [NAME], "replaces": "aaaa.bbbb"}, "malformed"),
        ({"identifiers": dns(*(f"a{number}.example.org" for number in range(101)))}, "malformed"),
        ({"identifiers": dns(*(f"a{number}.example.org" for number in range(5000)))}, "malformed"),
    ],
)
def test_what_is_no_order_is_a_problem(client: Orderer, members: dict[str, Any], problem: str) -> None:
    """Of the right type, and never a bug of the server."""
    answer = client.post(client.directory["newOrder"], members)
    assert 400 <= answer.status < 500
    assert answer.problem == problem


def test_floods_are_refused(state: Database) -> None:
    """With the time to come again, as long as they fill the state; what is refused does not count."""
    with ordering(state, order_rate=Rate(2, 3_600_000)) as here, here.client() as client:
        for name, status in (("a.example.org", 201), ("a..b", 400), ("a.example.org", 201)):
            assert client.order(name).status == status
        answer = client.order("a.example.org")
        assert (answer.status, answer.problem) == (429, "rateLimited")
        assert 0 < int(answer.headers["Retry-After"]) <= 1800


def test_many_names_count_as_several_orders(state: Database) -> None:
    """They fill the state as much."""
    with ordering(state, order_rate=Rate(3, 3_600_000)) as here, here.client() as client:
        for names, status in ((10, 201), (11, 201), (1, 429)):
            assert client.order(*(f"a{number}.example.org" for number in range(names))).status == status


def test_a_hundred_names_are_an_order(client: Orderer) -> None:
    """And each may come twice, in capitals or not."""
    names = [f"a{number}.example.org" for number in range(100)]
    answer = client.order(*names, *(name.upper() for name in names))
    assert (answer.status, len(answer.json["authorizations"])) == (201, 100)


def test_an_account_lists_its_orders(here: Ordering, client: Orderer) -> None:
    """And no one else's; what is invalid is left out."""
    first = client.order("a.example.org")
    second = client.order("b.example.org")
    client.post(second.json["authorizations"][0], {"status": "deactivated"})
    assert client.post(second.location).json["status"] == "invalid"
    owner = client.kid
    assert owner is not None
    assert here.parts.orders.ids_of(owner.rpartition("/")[2], here.parts.now, None, 10) == [
        first.location.rpartition("/")[2]
    ]


def test_a_given_up_authorization_stays_given_up(client: Orderer) -> None:
    """Once more is the same, with members of other kinds as well; nothing else can be changed about it."""
    order = client.order("a.example.org").json
    [url] = order["authorizations"]
    empty = {"identifier": {"type": "", "value": ""}}
    for more in ({}, empty, {}):
        given_up = client.post(url, {"status": "deactivated", **more}).json
        assert (given_up["status"], given_up["identifier"]["value"]) == ("deactivated", "a.example.org")
    for members in ({"status": "valid"}, {"status": None}, empty, {}):
        assert client.post(url, members).problem == "malformed"
