"""Two servers with one state: what a client does at one holds at the other."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.acme_client import AcmeClient, flattened, jwk_of
from tests.acme_serving import Serving, serving

from acmems.exceptions import StateUnavailable
from acmems.frontends.acme.reception.known import TRUSTED_SECONDS
from acmems.state.engines.sqlite import SqliteDatabase, take_lock
from acmems.system.clock import SYSTEM, Clock

BASE = "https://acme.example.org"


@dataclasses.dataclass
class Watch:
    """A monotonic clock that is moved by hand."""

    seconds: float = 1000.0

    @property
    def clock(self) -> Clock:
        return dataclasses.replace(SYSTEM, monotonic=lambda: self.seconds)


@dataclasses.dataclass
class Nodes:
    """Two servers, their time, and a client of each with the same key and account."""

    one: Serving
    two: Serving
    watch: Watch
    here: AcmeClient
    there: AcmeClient

    @property
    def kid(self) -> str:
        assert self.here.kid
        return self.here.kid


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Two servers with one file as their state, as processes of one server are."""
    path, watch = tmp_path / "state.sqlite", Watch()
    with contextlib.ExitStack() as stack:
        lock = take_lock(path)
        found = []
        for _ in range(2):
            database = SqliteDatabase.open(path, lock=lock, is_shared=True)
            stack.callback(database.close)
            found.append(stack.enter_context(serving(database, url=BASE, clock=watch.clock)))
        clients = [
            stack.enter_context(
                AcmeClient(f"{BASE}/directory", address=("127.0.0.1", each.listener.addresses[0].port))
            )
            for each in found
        ]
        assert clients[0].register().status == 201
        clients[1].key, clients[1].kid = clients[0].key, clients[0].kid
        yield Nodes(found[0], found[1], watch, clients[0], clients[1])


def test_an_account_is_known_at_once(nodes: Nodes) -> None:
    """Also to who only reads, and changes are seen when they are due."""
    assert nodes.there.post(nodes.kid).json["contact"] == []
    assert nodes.here.post(nodes.kid, {"contact": ["mailto:a@example.org"]}).status == 200
    nodes.watch.seconds += TRUSTED_SECONDS + 1
    assert nodes.there.post(nodes.kid).json["contact"] == ["mailto:a@example.org"]
    assert nodes.there.register().status == 200


def test_a_nonce_is_taken_once(nodes: Nodes) -> None:
    """Whoever sends a request to both gets one change."""
    payloads: list[dict[str, Any]] = [{"contact": []}, {"contact": ["mailto:a@example.org"]}]
    for payload in payloads:
        body = flattened(nodes.here.key, nodes.there.header(nodes.kid), payload)
        assert nodes.here.send(nodes.kid, body).status == 200
        assert nodes.there.send(nodes.kid, body).problem == "badNonce"


def test_a_registration_is_not_repeated(nodes: Nodes) -> None:
    """The nonce of a request that is signed by a key alone is taken once, too."""
    client = nodes.here
    client.kid, client.key = None, ec.generate_private_key(ec.SECP256R1())
    url = client.directory["newAccount"]
    body = flattened(client.key, client.header(url), {})
    assert nodes.there.send(url, body).status == 201
    assert client.send(url, body).problem == "badNonce"


def test_an_account_that_was_ended(nodes: Nodes) -> None:
    """It changes nothing any more, at once; what it reads it reads for some seconds."""
    assert nodes.there.post(nodes.kid).status == 200
    assert nodes.here.post(nodes.kid, {"status": "deactivated"}).status == 200
    changes: list[dict[str, Any]] = [{"contact": []}, {"ignored": True}]
    for payload in changes:
        answer = nodes.there.post(nodes.kid, payload)
        assert (answer.status, answer.problem) == (401, "unauthorized")
    assert nodes.there.post(nodes.kid).status == 200
    nodes.watch.seconds += TRUSTED_SECONDS + 1
    assert nodes.there.post(nodes.kid).status == 401


def test_a_key_that_was_changed(nodes: Nodes) -> None:
    """The new key works everywhere at once, and the old one changes nothing."""
    assert nodes.there.post(nodes.kid).status == 200
    new = ec.generate_private_key(ec.SECP256R1())
    url = nodes.here.directory["keyChange"]
    inner: dict[str, Any] = flattened(
        new,
        {"alg": "ES256", "jwk": jwk_of(new), "url": url},
        {"account": nodes.kid, "oldKey": jwk_of(nodes.here.key)},
    )
    assert nodes.here.post(url, inner).status == 200
    assert nodes.there.post(nodes.kid, {"contact": ["mailto:thief@example.org"]}).problem == "malformed"
    nodes.there.key = new
    answer = nodes.there.post(nodes.kid, {"contact": ["mailto:a@example.org"]})
    assert (answer.status, answer.json["contact"]) == (200, ["mailto:a@example.org"])


def test_a_state_that_is_gone(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the state cannot be written, the client hears when to come again."""

    def fail(_: Any) -> list[Any]:
        raise StateUnavailable("the disk is full")

    database: Any = nodes.two.service._known._records._database
    with monkeypatch.context() as patch:
        patch.setattr(database._commits, "_transact", fail)
        answer = nodes.there.post(nodes.kid, {"contact": []})
        assert (answer.status, answer.problem) == (503, "serverInternal")
        assert int(answer.headers["Retry-After"]) > 0
    assert nodes.there.post(nodes.kid, {"contact": []}).status == 200


def test_a_stop(nodes: Nodes) -> None:
    """Who asks while a server stops hears that."""
    nodes.two.service.close()
    answer = nodes.there.post(nodes.kid)
    assert (answer.status, answer.problem) == (503, "serverInternal")
