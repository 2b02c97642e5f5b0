"""The documented handlers on a plain socket, in the standard library's server, against a real CA."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import (
    Pebble,
    Settings,
    curl,
    curl_sign,
    hmac_header,
    make_key_and_csr,
    names_of,
    verify_chain,
)
from tests.script import Script, serving

from acmems.challenges import Http01
from acmems.events import Bus, DeliveredEvent, Event, RefusedEvent
from acmems.issuing.issuance import Issuance
from acmems.server import ACMEHTTPHandler, ACMEMgmtHandler
from acmems.storages import IssuerIdentity
from acmems.system.clock import SYSTEM

SECRET = "a shared secret"  # noqa: S105 - a test's own
AUTH = f"""
[auth "signed"]
hmac_type = sha256
hmac_key = {SECRET}
domain = *.example.org
"""


class House:
    """What a script puts around the handlers.

    Attributes:
        port: where `/sign` is.
        events: what happened.
    """

    def __init__(self, script: Script) -> None:
        self.config = script.config
        self.events: list[Event] = []
        self.bus = Bus()
        self.bus.subscribe(self.events.append)
        origin = IssuerIdentity(self.config.account.directory_url, None)
        self.issuance = Issuance(script.manager.issuer, origin, self.bus, seconds=30)
        self.port = 0

    @property
    def sign_url(self) -> str:
        """Where `/sign` is."""
        return f"http://127.0.0.1:{self.port}/sign"


@pytest.fixture
def house(proxy: FaultProxy, settings: Settings) -> Iterator[House]:
    """Both handlers, serving; who knows the secret may have names below example.org."""
    settings.auth = AUTH
    settings.mgmt = "max-size = 2k"
    script = Script(proxy.before(settings))
    script.connect()
    made = House(script)
    assert isinstance(script.validator, Http01)
    auth, issuance, bus = made.config.auth, made.issuance, made.bus
    with (
        serving(ACMEMgmtHandler, auth=auth, issuance=issuance, bus=bus, clock=SYSTEM) as made.port,
        serving(functools.partial(ACMEHTTPHandler, script.validator), script.port),
    ):
        yield made
    made.issuance.close(SYSTEM.deadline(10))
    script.manager.close()


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    """A signing request for one name."""
    return make_key_and_csr(tmp_path, ["plain.example.org"])[1]


def test_a_csr_becomes_a_chain(house: House, pebble: Pebble, csr: Path) -> None:
    """A signed CSR posted to the documented handler is answered with its chain, and told to the bus."""
    reply = curl_sign(house.sign_url, csr, secret=SECRET)
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/pem-certificate-chain"
    assert names_of(reply.body) == {"plain.example.org"}
    assert verify_chain(reply.body, pebble.root_pem()).endswith("OK")
    (delivered,) = (event for event in house.events if isinstance(event, DeliveredEvent))
    assert (delivered.source, delivered.names, delivered.block) == (
        "issued",
        ("plain.example.org",),
        "signed",
    )


def test_asking_again(house: House, proxy: FaultProxy, csr: Path) -> None:
    """The same CSR gets the stored chain, and the CA is not asked."""
    first = curl_sign(house.sign_url, csr, secret=SECRET)
    assert curl_sign(house.sign_url, csr, secret=SECRET).body == first.body
    assert proxy.count(path=NEW_ORDER) == 1


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [(b"garbage", "/sign", 415), (b"x" * 2049, "/sign", 413), (b"x", "/", 404)],
    ids=["no CSR", "too long", "nowhere"],
)
def test_refusals(house: House, tmp_path: Path, body: bytes, path: str, status: int) -> None:
    """What is not a CSR for /sign gets the documented status and one line of reason."""
    sent = tmp_path / "body"
    sent.write_bytes(body)
    reply = curl_sign(house.sign_url.replace("/sign", path), sent, secret=SECRET)
    assert reply.status == status
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.text.count("\n") == 1
    assert [event.status for event in house.events if isinstance(event, RefusedEvent)] == [status]


def test_a_wrong_secret(house: House, proxy: FaultProxy, csr: Path) -> None:
    """Who does not know the secret gets nothing, and the CA is not asked."""
    assert curl_sign(house.sign_url, csr, secret="a guess").status == 403  # noqa: S106 - a wrong one
    assert curl_sign(house.sign_url, csr).status == 403
    assert proxy.count(path=NEW_ORDER) == 0


def test_a_name_that_is_not_granted(house: House, proxy: FaultProxy, tmp_path: Path) -> None:
    """A good signature does not grant names of others."""
    _, csr = make_key_and_csr(tmp_path, ["plain.example.net"])
    assert curl_sign(house.sign_url, csr, secret=SECRET).status == 403
    assert proxy.count(path=NEW_ORDER) == 0


def test_a_refusal_of_the_ca_reaches_the_client(house: House, proxy: FaultProxy, csr: Path) -> None:
    """The CA's refusal reaches the client with its words."""
    proxy.when(path=NEW_ORDER).problem(403, "rejectedIdentifier", "its words")
    reply = curl_sign(house.sign_url, csr, secret=SECRET)
    assert (reply.status, "its words" in reply.text) == (421, True)


def test_a_body_without_a_length(house: House) -> None:
    """Without Content-Length the answer is 411."""
    claim = f"Authentication: hmac name=sha256, hash={'0' * 64}"
    assert curl(house.sign_url, "-X", "POST", "-H", claim).status == 411


def ask_raw(house: House, data: bytes) -> bytes:
    """Send bytes to the documented handler on one connection, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):  # it has ended the connection already
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it left what we sent unread
            while part := connection.recv(65536):
                answer += part
    return answer


def test_a_plain_socket_serves_one_request(house: House, csr: Path) -> None:
    """What follows a request on the same connection is never answered, least of all by its authority."""
    body = csr.read_bytes()
    head = (
        f"POST /sign HTTP/1.1\r\nHost: x\r\n{hmac_header(csr, SECRET)}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = ask_raw(
        house, head.encode() + body + b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1


def test_an_unread_body_is_no_request(house: House) -> None:
    """The body of a refused request is not taken for a request of its own."""
    smuggled = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = f"POST /sign HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\n\r\n"
    answer = ask_raw(house, head.encode() + smuggled)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_other_methods(house: House) -> None:
    """Whatever is no POST is 405 and told what is allowed, in the form of every refusal."""
    reply = curl(house.sign_url)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    assert reply.text == "only POST is answered here\n"


def test_a_header_without_end(house: House) -> None:
    """What the standard library refuses looks like every other refusal."""
    answer = ask_raw(house, b"POST /sign HTTP/1.1\r\nHost: " + b"x" * 65_530 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"text/plain" in answer
