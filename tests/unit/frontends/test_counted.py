"""What front ends tell of requests that ask for no certificate."""

from __future__ import annotations

from http.client import HTTPConnection

import pytest

from acmems.challenges import ChallengeResponses, Http01
from acmems.events import AnsweredEvent, Bus, Event, RefusedEvent
from acmems.frontends.http01 import Http01FrontEnd
from acmems.net.address import Address
from acmems.net.http import HttpService
from acmems.net.listening import Listener

PATH = "/.well-known/acme-challenge/token"


@pytest.mark.parametrize(
    ("line", "status"), [(f"GET {PATH}", 200), (f"HEAD {PATH}", 200), ("GET /", 404), (f"POST {PATH}", 405)]
)
def test_challenges(line: str, status: int) -> None:
    """Each request of a CA, or of a stranger, is one event with its status; only refusals are logged."""
    responses, told = ChallengeResponses(), list[Event]()
    responses.put("a.example.org", PATH, "proof", lambda: None)
    bus = Bus()
    bus.subscribe(told.append)
    front_end = Http01FrontEnd(Http01("http", (), responses), bus)
    listener = Listener("http01 http", [Address("127.0.0.1", 0)], HttpService(front_end)).open()
    try:
        connection = HTTPConnection("127.0.0.1", listener.addresses[0].port, timeout=30)
        method, path = line.split()
        connection.request(method, path, headers={"Host": "a.example.org"})
        assert connection.getresponse().status == status
        connection.close()
    finally:
        listener.close()
    [event] = told
    assert isinstance(event, AnsweredEvent | RefusedEvent)
    assert (event.status, event.front_end, event.client) == (status, "http01", "127.0.0.1")
    assert event.is_logged == (status == 405)
