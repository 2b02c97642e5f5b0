"""Names that a client proves inside, where its auth block wants that."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from tests.acme_client import thumbprint
from tests.acme_orders import Orderer, Ordering, make_csr, ordering
from tests.auth_blocks import block
from tests.peers import wait_until

from acmems.exceptions import ChallengeFailed, StateUnavailable
from acmems.frontends.acme.orders import challenges
from acmems.frontends.acme.problems import AcmeProblem
from acmems.issuing.preparing.preparation import PreparationRequest
from acmems.state.engines.contract import Database


@pytest.fixture
def here(state: Database) -> Iterator[Ordering]:
    proved = block(("all", "yes"), ("domain", "**"), ("prove", "http-01, dns-01"))
    with ordering(state, proved, hold_seconds=5.0) as each:
        yield each


def offered(client: Orderer, order: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the authorizations of an order."""
    return [client.post(each).json for each in order["authorizations"]]


def test_an_order_is_ready_with_its_last_proof(here: Ordering, client: Orderer) -> None:
    """Each name by a challenge of the client's choice; wildcards by those that can."""
    order = client.order("a.example.org", "*.b.example.org")
    assert order.json["status"] == "pending"
    first, second = offered(client, order.json)
    assert [each["type"] for each in first["challenges"]] == ["http-01", "dns-01"]
    assert [each["type"] for each in second["challenges"]] == ["dns-01"]
    assert {each["status"] for each in (first, second)} == {"pending"}
    assert (
        client.finalize(order.json, make_csr("a.example.org", "*.b.example.org")).problem == "orderNotReady"
    )
    for url, each, status in zip(
        order.json["authorizations"], (first, second), ("pending", "ready"), strict=True
    ):
        challenge = each["challenges"][-1]
        answer = client.post(challenge["url"], {})
        assert answer.status == 200
        assert answer.json["url"] == challenge["url"]
        assert answer.links("up") == [url]
        shown = client.post(url).json
        assert shown["status"] == "valid"
        [tried] = shown["challenges"]
        assert (tried["type"], tried["status"]) == ("dns-01", "valid")
        assert tried["validated"]
        assert client.post(order.location).json["status"] == status
    [looked, other] = here.proofs
    assert (looked.challenge_type, looked.identifier.value) == ("dns-01", "a.example.org")
    assert other.identifier.value == "*.b.example.org"
    assert looked.key_authorization == f"{first['challenges'][1]['token']}.{thumbprint(client.key)}"
    assert client.finalize(order.json, make_csr("a.example.org", "*.b.example.org")).json["status"] == "valid"


def test_a_challenge_that_fails_ends_the_order(here: Ordering, client: Orderer) -> None:
    """At once, with the reason in challenge and order; it can be deactivated all the same."""
    here.failures["a.example.org"] = AcmeProblem("connection", "nobody listens at port 80")
    order = client.order("a.example.org", "b.example.org")
    url = order.json["authorizations"][0]
    challenge = client.post(url).json["challenges"][0]
    client.post(challenge["url"], {})
    failed = client.post(url).json
    assert failed["status"] == "invalid"
    error = {
        "type": "urn:ietf:params:acme:error:connection",
        "detail": "nobody listens at port 80",
        "status": 400,
    }
    assert [each["error"] for each in failed["challenges"]] == [error]
    shown = client.post(order.location).json
    assert (shown["status"], shown["error"]) == ("invalid", error)
    assert client.post(challenge["url"]).json["status"] == "invalid"
    client.post(challenge["url"], {})
    assert len(here.proofs) == 1, "a challenge is tried once"
    rest = client.post(order.json["authorizations"][1]).json
    assert client.post(rest["challenges"][0]["url"], {}).json["status"] == "pending"
    assert len(here.proofs) == 1, "nothing is looked for where it is of no use any more"
    assert client.post(url, {"status": "deactivated"}).json["status"] == "deactivated"


def test_a_wildcard_needs_a_proof_that_can(state: Database) -> None:
    """Else it is refused, in words that say by what it could be proved."""
    with ordering(state, block(("all", "yes"), ("domain", "**"), ("prove", "http-01"))) as here:
        with here.client() as client:
            answer = client.order("*.a.example.org")
        assert answer.problem == "rejectedIdentifier"
        assert "dns-01" in answer.json["detail"]


def test_who_looks_is_answered_with_the_outcome(state: Database) -> None:
    """And otherwise after a while, with the time to look again."""
    proved = block(("all", "yes"), ("domain", "**"), ("prove", "http-01"))
    looking: list[Future[AcmeProblem | None]] = []
    with ordering(state, proved, hold_seconds=0.05, looking=looking) as here, here.client() as client:
        order = client.order("a.example.org")
        [url] = order.json["authorizations"]
        challenge = client.post(url).json["challenges"][0]
        answer = client.post(challenge["url"], {})
        assert (answer.json["status"], answer.headers["Retry-After"]) == ("processing", "2")
        shown = client.post(url)
        assert (shown.json["status"], shown.headers["Retry-After"]) == ("pending", "2")
        looking[0].set_result(None)
        while shown.json["status"] == "pending":
            shown = client.post(url)
        assert shown.json["status"] == "valid"
        assert len(looking) == 1


@pytest.mark.parametrize("what", ["authorization", "order"])
@pytest.mark.parametrize("how", ["crowded", "stopped", "not noted"])
def test_a_proof_that_was_not_looked_at_is_looked_for_again(
    state: Database, how: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash, and where too many wait: the next look begins it anew, at the order as well."""
    proved = block(("all", "yes"), ("domain", "**"), ("prove", "http-01"))
    looking: list[Future[AcmeProblem | None]] = []
    with ordering(state, proved, hold_seconds=0.5, looking=looking) as here, here.client() as client:
        order = client.order("a.example.org")
        [url] = order.json["authorizations"]
        challenge = client.post(url).json["challenges"][0]
        if what == "order":
            url = order.location
        if how == "crowded":
            here.crowded = AcmeProblem("rateLimited", "too many")
        client.post(challenge["url"], {})
        if how != "crowded":
            wait_until(lambda: bool(looking), "look for the proof")
        if how == "stopped":
            looking[0].cancel()
        if how == "not noted":
            with monkeypatch.context() as patch:

                def fail(*_: Any) -> Any:
                    raise StateUnavailable("gone")

                patch.setattr(here.parts.orders, "change", fail)
                looking[0].set_result(None)
                assert client.post(url).json["status"] == "pending"
        here.crowded = None
        shown = client.post(url)
        while len(looking) < (1 if how == "crowded" else 2):
            shown = client.post(url)
        looking[-1].set_result(None)
        while shown.json["status"] == "pending":
            shown = client.post(url)
        assert shown.json["status"] == ("ready" if what == "order" else "valid")


class TestOutside:
    """The last challenge of an order stays as it is while its names are proved outside."""

    @pytest.fixture
    def outside(self, here: Ordering, monkeypatch: pytest.MonkeyPatch) -> list[Future[None]]:
        """What is being prepared."""
        begun: list[Future[None]] = []

        def begin(request: PreparationRequest) -> Future[None]:
            assert request.names == ("a.example.org", "b.example.org")
            begun.append(Future())
            return begun[-1]

        monkeypatch.setattr(here.house.issuance.preparations, "begin", begin)
        return begun

    @staticmethod
    def answer(client: Orderer, order: dict[str, Any], index: int) -> str:
        """Answer a challenge, and return the URL of its authorization."""
        url: str = order["authorizations"][index]
        client.post(client.post(url).json["challenges"][0]["url"], {})
        return url

    def test_until_they_are(self, here: Ordering, client: Orderer, outside: list[Future[None]]) -> None:
        """It begins with the last proof, and whoever looks meanwhile waits for it."""
        order = client.order("a.example.org", "b.example.org")
        assert client.post(self.answer(client, order.json, 0)).json["status"] == "valid"
        assert not outside
        url = self.answer(client, order.json, 1)
        wait_until(lambda: bool(outside), "preparation")
        with ThreadPoolExecutor(1) as pool:
            looked = pool.submit(client.post, url)
            assert client.clone().post(order.location).json["status"] == "pending"
            outside[0].set_result(None)
            assert looked.result(30).json["status"] == "valid"
        assert client.post(order.location).json["status"] == "ready"
        assert len(outside) == 1

    @pytest.mark.parametrize("is_late", [False, True])
    def test_in_vain(
        self,
        here: Ordering,
        client: Orderer,
        outside: list[Future[None]],
        monkeypatch: pytest.MonkeyPatch,
        is_late: bool,
    ) -> None:
        """What has failed, or takes too long, is told to whoever finalizes the order."""
        if is_late:
            monkeypatch.setattr(challenges, "OUTSIDE_SECONDS", 0.0)
        order = client.order("a.example.org", "b.example.org")
        self.answer(client, order.json, 0)
        url = self.answer(client, order.json, 1)
        wait_until(lambda: bool(outside), "preparation")
        if not is_late:
            outside[0].set_exception(ChallengeFailed("a.example.org", "refused", ""))
        assert client.post(url).json["status"] == "valid"
        assert client.post(order.location).json["status"] == "ready"
