"""What all front ends do: telling the operator who was refused, and what the refusal costs."""

from __future__ import annotations

import pytest
from tests.listening import Bench

from acmems.challenges import ChallengeResponses, Http01
from acmems.events import Bus, Event
from acmems.frontends.http01 import Http01FrontEnd
from acmems.net.address import parse_network
from acmems.net.http import HttpService

PROXY = "192.0.2.7"
STRANGER = "198.51.100.9"


def refused(front_end: Http01FrontEnd, events: list[Event], source: str, *fields: str) -> Event:
    """Return what the operator is told of a request that is refused by its head."""
    bench = Bench()
    bench.listener._service = HttpService(front_end)
    client = bench.connect(source)
    client.send("\r\n".join(["DELETE / HTTP/1.1", "Host: a", *fields, "", ""]).encode())
    bench.go()
    return events[-1]


@pytest.mark.threat("http", "X-Forwarded-For")
@pytest.mark.parametrize(
    ("source", "fields", "client"),
    [
        (PROXY, [f"X-Forwarded-For: {STRANGER}"], STRANGER),
        (PROXY, [f"X-Forwarded-For: 203.0.113.1, {STRANGER}"], STRANGER),
        (PROXY, [], PROXY),
        (STRANGER, ["X-Forwarded-For: 203.0.113.1"], STRANGER),
    ],
)
def test_the_client_behind_a_proxy_is_told(source: str, fields: list[str], client: str) -> None:
    """What is refused before it is read is told of whoever asked, as far as a trusted proxy says so."""
    events: list[Event] = []
    bus = Bus()
    bus.subscribe(events.append)
    validator = Http01("web", (), ChallengeResponses())
    front_end = Http01FrontEnd(validator, bus, trusted_proxies=[parse_network(PROXY)])
    assert refused(front_end, events, source, *fields).client == client
