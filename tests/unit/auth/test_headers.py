"""Headers count in every kind of mapping that the documented API takes, and in every case."""

from __future__ import annotations

import hashlib
import hmac
import io
import ipaddress
from collections.abc import Callable
from email.message import Message
from http.client import HTTPMessage
from types import MappingProxyType
from typing import Any

import pytest

from acmems.auth import Authenticator, Claim, HmacAuthMethod, Processor, client_ip
from acmems.auth.headers import Headers, header_values
from acmems.exceptions import HttpRefusal

PROXY = ipaddress.ip_network("10.0.0.0/8")


def message_of(kind: type[Message]) -> Callable[[dict[str, str]], Message]:
    def make(fields: dict[str, str]) -> Message:
        message = kind()
        for name, value in fields.items():
            message[name] = value
        return message

    return make


KINDS: dict[str, Callable[[dict[str, str]], Headers]] = {
    "Message": message_of(Message),
    "HTTPMessage": message_of(HTTPMessage),
    "dict": dict,
    "read-only": MappingProxyType,
    "lower case": lambda fields: {name.lower(): value for name, value in fields.items()},
    "upper case": lambda fields: {name.upper(): value for name, value in fields.items()},
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[[dict[str, str]], Headers]:
    """One kind of mapping."""
    return KINDS[request.param]


def test_values(make: Callable[[dict[str, str]], Headers]) -> None:
    """A header is found by its name in any case, and nothing else is."""
    fields = make({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Forward": "192.0.2.2"})
    assert header_values(fields, "x-forwarded-FOR") == ["192.0.2.1"]
    assert header_values(fields, "Forwarded") == []


def test_a_repeated_header_has_all_its_values() -> None:
    """A header that comes several times, in whichever cases, has several values, in order."""
    message = Message()
    for value in ("one", "two"):
        message["X-Forwarded-For"] = value
    assert header_values(message, "X-Forwarded-For") == ["one", "two"]
    assert header_values({"X-Forwarded-For": "one", "x-forwarded-for": "two"}, "X-Forwarded-For") == [
        "one",
        "two",
    ]


def test_forwarded_addresses(make: Callable[[dict[str, str]], Headers]) -> None:
    """The address that a trusted proxy tells counts, not that of the proxy."""
    fields = make({"X-Forwarded-For": "198.51.100.1, 192.0.2.7"})
    assert client_ip("10.0.0.1", fields, [PROXY]) == ipaddress.ip_address("192.0.2.7")
    assert client_ip("203.0.113.5", fields, [PROXY]) == ipaddress.ip_address("203.0.113.5")


def test_a_whole_request(make: Callable[[dict[str, str]], Headers]) -> None:
    """Length, claim and forwarded address of one request are found."""
    body = b"a CSR"
    digest = hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    fields: Any = make(
        {
            "Content-Length": str(len(body)),
            "Authentication": f"hmac name=sha256, hash={digest}",
            "X-Forwarded-For": "192.0.2.7",
        }
    )
    processor = Processor(
        Authenticator(trusted_proxies=(PROXY,)), ("10.0.0.1", 4711), fields, io.BytesIO(body)
    )
    assert processor.content_length() == len(body)
    assert processor.caller.claim == Claim("sha256", digest)
    assert processor.caller.address == ipaddress.ip_address("192.0.2.7")
    assert HmacAuthMethod().may_accept(processor.caller)


def test_two_lengths_are_none() -> None:
    """A length that is told twice is none, since two readers might go by different ones (RFC 9112)."""
    fields = {"Content-Length": "5", "content-length": "6"}
    processor = Processor(Authenticator(), ("192.0.2.1", 4711), fields, io.BytesIO(b"a CSR"))
    with pytest.raises(HttpRefusal, match="not a number") as caught:
        processor.content_length()
    assert caught.value.status == 400
