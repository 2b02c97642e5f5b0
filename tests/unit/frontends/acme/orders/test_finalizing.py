"""From a certificate request to the chain, and what a finalize is refused for."""

from __future__ import annotations

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.acme_client import b64
from tests.acme_orders import Orderer, Ordering, make_csr, ordering
from tests.auth_blocks import block
from tests.der import Draft, with_names

from acmems.events import DeliveredEvent, FailedEvent, RequestedEvent
from acmems.exceptions import (
    CAProblem,
    CAUnavailable,
    ChallengeFailed,
    RateLimited,
    StateUnavailable,
)
from acmems.state.engines.contract import Database
from acmems.x509 import chain as chains

NAMES = ("a.example.org", "b.example.org")
PREFIX = CAProblem.PREFIX


class TestChain:
    """A certificate request that is right."""

    def test_it_brings_the_chain(self, here: Ordering, client: Orderer) -> None:
        """At once, since the answer waits for it; the order tells where, as PEM and for its account."""
        order = client.order(*NAMES)
        csr = make_csr(*NAMES)
        done = client.finalize(order.json, csr)
        assert (done.status, done.json["status"], done.location) == (200, "valid", order.location)
        assert "Retry-After" not in done.headers
        answer = client.post(done.json["certificate"])
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/pem-certificate-chain"
        assert [str(each) for each in chains.parse(answer.body).identifiers] == list(NAMES)
        assert not answer.links("alternate")
        assert client.finalize(order.json, csr).json == done.json, "an answer that was lost is given again"
        [requested] = [each for each in here.events if isinstance(each, RequestedEvent)]
        assert (requested.block, requested.names, requested.client) == ("b", NAMES, "127.0.0.1")
        [delivered] = [each for each in here.events if isinstance(each, DeliveredEvent)]
        assert (delivered.front_end, delivered.source) == ("acme", "issued")
        client.post(done.json["certificate"])
        assert [each.source for each in here.events if isinstance(each, DeliveredEvent)] == [
            "issued",
            "stored",
        ]
        [found] = here.chains.of([chains.parse(answer.body).fingerprint])
        assert (found.client, found.block) == ("127.0.0.1", "b")

    def test_what_has_just_come_is_not_read_again(
        self, here: Ordering, client: Orderer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first download of a chain needs no look into the state; a further one does."""
        order = client.order(*NAMES)
        url = client.finalize(order.json, make_csr(*NAMES)).json["certificate"]
        looks: list[str] = []
        monkeypatch.setattr(here.parts.alternates, "offered", looks.append)
        assert (client.post(url).status, looks) == (200, [])
        assert (client.post(url).status, len(looks)) == (404, 1)

    def test_a_stored_chain_is_the_answer(self, here: Ordering, client: Orderer) -> None:
        """For the same key and names, as for the next try of a client whose first one took too long."""
        key = ec.generate_private_key(ec.SECP256R1())
        first = client.obtain(*NAMES, key=key)
        assert client.obtain(*NAMES, key=key).body == first.body
        assert len(here.house.authority.orders) == 1

    def test_forms_of_chains(self, client: Orderer) -> None:
        """Who wants another form than PEM is told so."""
        order = client.order("a.example.org").json
        url = client.finalize(order, make_csr("a.example.org")).json["certificate"]
        for accept, status in (
            ("application/pkix-cert", 406),
            ("application/pem-certificate-chain", 200),
            ("text/plain, */*;q=0.1", 200),
        ):
            answer = client.post_accepting(url, accept)
            assert answer.status == status, accept

    def test_a_revoked_chain_is_not_delivered(self, here: Ordering, client: Orderer) -> None:
        """Though its order is valid."""
        order = client.order("a.example.org").json
        url = client.finalize(order, make_csr("a.example.org")).json["certificate"]
        fingerprint = chains.parse(client.post(url).body).fingerprint
        here.chains.revoking(fingerprint, "keyCompromise").result(30)
        here.chains.learn_revoked()
        assert client.post(url).status == 404


class TestRefusals:
    """What is not the request that the order is for."""

    @pytest.mark.threat("acme orders", "a request for other names")
    @pytest.mark.parametrize(
        ("names", "words"),
        [
            ((*NAMES, "c.example.org"), "it also holds c.example.org"),
            (NAMES[:1], "it lacks b.example.org"),
            (("*.example.org",), "it lacks a.example.org, b.example.org; it also holds *.example.org"),
        ],
    )
    def test_other_names(self, here: Ordering, client: Orderer, names: tuple[str, ...], words: str) -> None:
        """One name more, one fewer, others: the order stays ready, and nothing is asked outside."""
        order = client.order(*NAMES)
        answer = client.finalize(order.json, make_csr(*names))
        assert (answer.status, answer.problem) == (400, "badCSR")
        assert answer.json["detail"].endswith(words)
        assert client.post(order.location).json["status"] == "ready"
        assert not here.house.authority.orders

    @pytest.mark.parametrize("csr", [None, 3, "", "AA==", "a b", b64(b"no request"), b64(bytes(30_000))])
    def test_what_is_no_request(self, client: Orderer, csr: Any) -> None:
        """Whatever it is."""
        order = client.order("a.example.org").json
        answer = client.post(order["finalize"], {"csr": csr})
        assert answer.status == 400
        assert answer.problem in {"malformed", "badCSR"}

    def test_a_request_that_asks_for_more(self, client: Orderer) -> None:
        """By a common name that was not ordered, as an e-mail address, or with something after its end."""
        order = client.order("a.example.org").json
        good = Draft()
        assert client.finalize(order, good.der).json["status"] == "valid"
        more = client.order("a.example.org").json
        for body in (good.der + b"\0", with_names(b"\x81\x03a@b", b"\x82\x0da.example.org").der):
            assert client.finalize(more, body).problem == "badCSR"

    def test_the_key_of_the_account(self, client: Orderer) -> None:
        """That key signs for the account, and is not to lie on a web server."""
        order = client.order("a.example.org").json
        assert isinstance(client.key, ec.EllipticCurvePrivateKey)
        assert client.finalize(order, make_csr("a.example.org", key=client.key)).problem == "badCSR"

    @pytest.mark.threat("acme orders", "what belongs to another account")
    def test_what_is_anothers(self, here: Ordering, client: Orderer) -> None:
        """Orders, authorizations, challenges and chains are for the account that has made them."""
        order = client.order("a.example.org")
        authorization = client.post(order.json["authorizations"][0]).json
        done = client.finalize(order.json, make_csr("a.example.org")).json
        open_order = client.order("a.example.org").json
        with here.client() as other:
            for url in (
                order.location,
                order.json["authorizations"][0],
                authorization["challenges"][0]["url"],
                done["certificate"],
            ):
                answer = other.post(url)
                assert (answer.status, answer.problem) == (403, "unauthorized"), url
            for url in (order.json["authorizations"][0], authorization["challenges"][0]["url"]):
                assert other.post(url, {"status": "deactivated"}).problem == "unauthorized"
            assert other.finalize(open_order, make_csr("a.example.org")).problem == "unauthorized"
        assert len(here.house.authority.orders) == 1

    @pytest.mark.parametrize(
        "path", ["order/x", "authorization/x", "authorization/x.0", "challenge/x.0/http-01"]
    )
    def test_what_is_not_there(self, here: Ordering, client: Orderer, path: str) -> None:
        """Is a problem; and so is a place that an order does not have."""
        assert client.post(f"{here.served.url}/{path}").status == 404
        order = client.order("a.example.org").json
        url = order["authorizations"][0]
        for other in (url[:-1] + "1", url[:-1] + "00", url + "0", f"{url}.1"):
            assert client.post(other).status == 404
        assert client.post(url.replace("authorization", "challenge") + "/dns-01").status == 404
        assert client.post(url.replace("authorization", "certificate")[:-2]).status == 404

    def test_names_that_are_not_granted_any_more(self, here: Ordering, client: Orderer) -> None:
        """The policy of today counts: the order stays as it is, should it come back."""
        order = client.order("a.example.org")
        before = here.served.blocks
        here.served.blocks = (block(("all", "yes"), ("domain", "b.example.org")),)
        csr = make_csr("a.example.org")
        assert client.finalize(order.json, csr).problem == "unauthorized"
        here.served.blocks = before
        assert client.finalize(order.json, csr).json["status"] == "valid"

    def test_names_that_another_block_grants_by_now(self, here: Ordering, client: Orderer) -> None:
        """That block counts from then on, also for who goes on with the order after a crash."""
        order = client.order("a.example.org")
        here.served.blocks = (block(("all", "yes"), ("domain", "a.example.org"), name="c"),)
        assert client.finalize(order.json, make_csr("a.example.org")).json["status"] == "valid"
        found = here.parts.orders.find(order.location.rpartition("/")[2])
        assert found is not None
        assert found.block == "c"

    @pytest.mark.threat("acme orders", "names that were not proved")
    def test_a_block_that_wants_a_proof_by_now(self, here: Ordering, client: Orderer) -> None:
        """It grants no order that had nothing to prove; a further one that wants nothing may."""
        order = client.order("a.example.org")
        proving = block(("all", "yes"), ("domain", "**"), ("prove", "http-01"))
        csr = make_csr("a.example.org")
        for name in ("b", "c"):
            here.served.blocks = (block(("all", "yes"), ("domain", "**"), ("prove", "http-01"), name=name),)
            refused = client.finalize(order.json, csr)
            assert (refused.status, refused.problem) == (403, "unauthorized")
        assert not here.house.authority.orders
        here.served.blocks = (proving, block(("all", "yes"), ("domain", "**"), name="d"))
        assert client.finalize(order.json, csr).json["status"] == "valid"

    @pytest.mark.parametrize(("wanted", "status"), [("dns-01", 403), ("dns-01,http-01", 200)])
    def test_a_block_that_wants_another_proof(self, state: Database, wanted: str, status: int) -> None:
        """The proof that there is counts where it is one of those that are wanted."""
        proving = block(("all", "yes"), ("domain", "**"), ("prove", "http-01"))
        with ordering(state, proving) as here, here.client() as client:
            order = client.order("a.example.org")
            [url] = order.json["authorizations"]
            [challenge] = client.post(url).json["challenges"]
            client.post(challenge["url"], {})
            assert client.post(url).json["status"] == "valid"
            here.served.blocks = (block(("all", "yes"), ("domain", "**"), ("prove", wanted)),)
            assert client.finalize(order.json, make_csr("a.example.org")).status == status

    def test_an_order_that_has_failed(self, client: Orderer) -> None:
        """Is not finalized."""
        order = client.order("a.example.org").json
        client.post(order["authorizations"][0], {"status": "deactivated"})
        assert client.finalize(order, make_csr("a.example.org")).problem == "orderNotReady"


class TestOnce:
    """Each order is issued once."""

    @pytest.mark.threat("acme orders", "two finalizes at once")
    def test_two_finalizes_at_once(self, here: Ordering, client: Orderer) -> None:
        """One of them counts, with its request; the other is told that the order is not ready."""
        order = client.order("a.example.org").json
        others = [client.clone() for _ in range(4)]
        barrier = threading.Barrier(len(others))
        csrs = [make_csr("a.example.org") for _ in others]

        def finalize(number: int) -> int:
            others[number].nonce()
            barrier.wait(20)
            return others[number].finalize(order, csrs[number]).status

        with ThreadPoolExecutor(len(others)) as pool:
            assert sorted(pool.map(finalize, range(len(others)))) == [200, 403, 403, 403]
        for each in others:
            each.close()
        assert len(here.house.authority.orders) == 1


class TestWaiting:
    """An order whose CA takes its time."""

    def test_an_order_that_takes_long(self, state: Database) -> None:
        """It is processing, with the time to look again, then valid, and never ready again."""
        with ordering(state, hold_seconds=0.05) as here, here.client() as client:
            here.house.authority.go.clear()
            order = client.order("a.example.org")
            csr = make_csr("a.example.org")
            done = client.finalize(order.json, csr)
            assert (done.status, done.json["status"], done.location) == (200, "processing", order.location)
            assert int(done.headers["Retry-After"]) == 2
            assert client.post(order.location).json["status"] == "processing"
            assert client.finalize(order.json, csr).json["status"] == "processing"
            assert client.finalize(order.json, make_csr("a.example.org")).problem == "orderNotReady"
            here.house.authority.go.set()
            shown = done
            while shown.json["status"] == "processing":
                shown = client.post(order.location)
            assert shown.json["status"] == "valid"
            assert len(here.house.authority.orders) == 1

    def test_who_looks_is_answered_when_it_is_there(self, here: Ordering, client: Orderer) -> None:
        """Not when the time of looks is over."""
        other = client.clone()
        order = client.order("a.example.org")
        begun = threading.Event()
        here.house.authority.go.clear()
        here.house.authority.began = begun.set
        with ThreadPoolExecutor(1) as pool, other:
            finalized = pool.submit(client.finalize, order.json, make_csr("a.example.org"))
            assert begun.wait(20)
            looked = threading.Timer(0.05, here.house.authority.go.set)
            looked.start()
            assert other.post(order.location).json["status"] == "valid"
            assert finalized.result(20).json["status"] == "valid"

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            (CAProblem(403, f"{PREFIX}caa", "CAA forbids it"), "caa", "CAA forbids it"),
            (CAProblem(400, f"{PREFIX}rejectedIdentifier", "no"), "rejectedIdentifier", "no"),
            (CAProblem(500, f"{PREFIX}unheardOf", "what?"), "serverInternal", "what?"),
            (ChallengeFailed("a.example.org", "no route", "u"), "unauthorized", "no route"),
            (
                RateLimited("too many of example.org", retry_after=900.0),
                "rateLimited",
                "too many of example.org",
            ),
        ],
    )
    def test_a_failure_outside_ends_the_order(
        self, here: Ordering, client: Orderer, error: Exception, kind: str, words: str
    ) -> None:
        """With the type that fits and the words of the CA; the operator is told as well."""
        here.house.authority.error = error
        order = client.order("a.example.org")
        done = client.finalize(order.json, make_csr("a.example.org"))
        assert (done.status, done.json["status"]) == (200, "invalid")
        shown = done.json["error"]
        assert shown["type"] == f"urn:ietf:params:acme:error:{kind}"
        assert words in shown["detail"]
        assert client.post(order.location).json == done.json
        assert done.headers["Retry-After"] == ("900" if kind == "rateLimited" else None)
        told = [each for each in here.served.events if isinstance(each, FailedEvent)]
        assert [each.stage for each in told] == ["order"]

    def test_a_bug_ends_the_order(self, here: Ordering, client: Orderer) -> None:
        """Without its words, and with its reference in the log."""
        here.house.authority.error = KeyError("a secret")
        order = client.order("a.example.org").json
        done = client.finalize(order, make_csr("a.example.org"))
        assert (done.status, done.json["status"]) == (200, "invalid")
        assert "secret" not in str(done.json)
        [told] = [each for each in here.served.events if isinstance(each, FailedEvent)]
        assert isinstance(told.bug, KeyError)

    @pytest.mark.parametrize(
        "error",
        [CAUnavailable("it is down", retry_after=0.0), RateLimited("wait a little", retry_after=0.5)],
        ids=["unavailable", "limited"],
    )
    def test_a_failure_that_passes_only_takes_longer(self, state: Database, error: Exception) -> None:
        """The order stays processing, with the time to look again; a look after that tries again."""
        with ordering(state, hold_seconds=0.05) as here, here.client() as client:
            here.house.authority.errors = [error]
            order = client.order("a.example.org")
            done = client.finalize(order.json, make_csr("a.example.org"))
            assert done.json["status"] == "processing"
            while done.json["status"] == "processing":
                assert 2 <= int(done.headers["Retry-After"]) <= 300
                done = client.post(order.location)
            assert done.json["status"] == "valid"
            told = [each for each in here.served.events if isinstance(each, FailedEvent)]
            assert [(each.reason, each.names) for each in told] == [(str(error), ("a.example.org",))]

    def test_a_state_that_cannot_be_written(self, here: Ordering, client: Orderer, monkeypatch: Any) -> None:
        """503 with the time to come again: nothing is ordered that a crash would lose."""
        order = client.order("a.example.org").json

        def fail(*_: Any) -> Any:
            raise StateUnavailable("the disk is full")

        monkeypatch.setattr(here.parts.orders, "change", fail)
        answer = client.finalize(order, make_csr("a.example.org"))
        assert (answer.status, answer.problem) == (503, "serverInternal")
        assert answer.headers["Retry-After"]
        assert not here.house.authority.orders


class TestAfterACrash:
    """A server that goes on where another one was killed."""

    def test_the_next_look_goes_on(self, state: Database, monkeypatch: Any) -> None:
        """With what was finalized: the same key, and one order outside."""
        key = ec.generate_private_key(ec.SECP256R1())
        with ordering(state, hold_seconds=0.05) as killed, killed.client() as client:
            killed.house.authority.go.clear()
            order = client.order("a.example.org")
            done = client.finalize(order.json, make_csr("a.example.org", key=key))
            assert done.json["status"] == "processing"
            base = killed.served.url

            # As at a kill: nothing that goes on here is noted any more.
            def fail(*_: Any) -> Any:
                raise StateUnavailable("gone")

            monkeypatch.setattr(killed.parts.orders, "change", fail)
        with ordering(state, url=base) as here:
            client.address = ("127.0.0.1", here.served.port)
            shown = client.post(order.location)
            assert shown.json["status"] == "valid"
            found = chains.parse(client.post(shown.json["certificate"]).body)
            assert [each.value for each in found.identifiers] == ["a.example.org"]

    def test_a_chain_that_came_before_the_crash_is_found(self, state: Database, monkeypatch: Any) -> None:
        """Whatever the storage keeps: it was issued for this order, so nothing is ordered anew."""
        with ordering(state) as killed, killed.client() as client:
            order = client.order("a.example.org")
            base = killed.served.url
            change, orders = killed.parts.orders.change, killed.parts.orders

            def lose(name: str, step: Any, *beside: Any) -> Any:
                if beside:  # the note that the chain is there
                    raise StateUnavailable("gone")
                return change(name, step)

            monkeypatch.setattr(orders, "change", lose)
            done = client.finalize(order.json, make_csr("a.example.org"))
            assert done.json["status"] == "processing"
            state.check().result(20)
        with ordering(state, url=base) as here:
            client.address = ("127.0.0.1", here.served.port)
            assert client.post(order.location).json["status"] == "valid"
            assert not here.house.authority.orders

    def test_an_order_whose_time_is_over(self, here: Ordering, client: Orderer, monkeypatch: Any) -> None:
        """It is gone, unless it is being processed: then it is finished."""
        order = client.order("a.example.org")
        monkeypatch.setattr(
            type(here.parts),
            "now",
            property(lambda _: int(datetime.datetime.now(datetime.UTC).timestamp()) + 90_000),
        )
        assert client.post(order.location).status == 404
        assert client.finalize(order.json, make_csr("a.example.org")).status == 404
