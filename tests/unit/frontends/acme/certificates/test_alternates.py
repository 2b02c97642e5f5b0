"""Further chains of a certificate: who gets them, and what the CA is asked for them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.acme_orders import Orderer, Ordering, make_csr, ordering
from tests.chains import CA_KEY, CA_NAME, certificate, make_chain, make_request
from tests.issuing import IDENTITY, Authority, wait_for

from acmems.events import FailedEvent
from acmems.exceptions import AcmeException, CAProblem, CAUnavailable, StateUnavailable
from acmems.frontends.acme.certificates import alternates
from acmems.issuing.failover.issuances import Issuances
from acmems.state.engines.contract import Database
from acmems.storages import IssuerIdentity
from acmems.system.clock import Deadline
from acmems.system.steps import Steps, in_thread
from acmems.x509 import chain as chains

URLS = ("https://ca.example.org/chain/1", "https://ca.example.org/chain/2")
NAME = "a.example.org"


def refusal() -> CAProblem:
    return CAProblem(403, f"{CAProblem.PREFIX}unauthorized", "it is of another account")


def further(leaf: bytes, number: int) -> bytes:
    """Return another chain for the certificate of a chain, and white space as CAs may send it."""
    above = certificate(CA_KEY.public_key(), CA_NAME, 100 + number).sign(CA_KEY, hashes.SHA256())
    first = chains.leaf_of(leaf).public_bytes(Encoding.PEM)
    return b"\n" + first + b"\n" + above.public_bytes(Encoding.PEM)


@dataclass
class Source:
    """Sends further chains of what was issued last, or fails as told.

    Attributes:
        pem: that chain.
        asked: for which URLs.
        error: why there are none.
        make: makes a chain, by the place of its URL.
        go: set unless it shall wait.
    """

    pem: bytes = b""
    asked: list[str] = field(default_factory=list)
    error: AcmeException | None = None
    make: Callable[[bytes, int], bytes] = further
    go: threading.Event = field(default_factory=threading.Event)

    def fetch(self, url: str, deadline: Deadline) -> Steps[bytes]:
        assert not deadline.passed
        self.asked.append(url)
        yield from in_thread(lambda: wait_for(self.go))
        if self.error is not None:
            raise self.error
        return self.make(self.pem, URLS.index(url))


@pytest.fixture
def source(here: Ordering) -> Iterator[Source]:
    """A CA that offers two further chains."""
    source = Source()
    source.go.set()
    here.authority.urls, here.authority.alternates = URLS, source
    yield source
    source.go.set()


@dataclass
class Got:
    """A certificate, and where its chains are."""

    url: str
    pem: bytes
    others: list[str]


def got(client: Orderer, source: Source, **members: str) -> Got:
    order = client.order(NAME, **members)
    url = client.finalize(order.json, make_csr(NAME)).json["certificate"]
    first = client.post(url)
    assert first.status == 200
    source.pem = first.body
    return Got(url, first.body, first.links("alternate"))


class TestLinks:
    """What a chain tells of the others."""

    def test_they_are_of_this_server(self, client: Orderer, source: Source) -> None:
        """Below the URL of the certificate, at each download; nothing was fetched for that."""
        found = got(client, source)
        assert found.others == [f"{found.url}/1", f"{found.url}/2"]
        assert client.post(found.url).links("alternate") == found.others
        assert client.post(found.others[1]).links("alternate") == [found.url, found.others[0]]
        assert source.asked == [URLS[1]]

    def test_a_ca_without_others(self, here: Ordering, client: Orderer, source: Source) -> None:
        """Nothing is offered, and nothing is there."""
        here.authority.urls = ()
        found = got(client, source)
        assert found.others == []
        assert client.post(f"{found.url}/1").status == 404
        assert source.asked == []

    @pytest.mark.parametrize("number", ["0", "3", "01", "-1", "x", "1.", "100", "9" * 100])
    def test_others_than_these(self, client: Orderer, source: Source, number: str) -> None:
        """There is no further one."""
        answer = client.post(f"{got(client, source).url}/{number}")
        assert (answer.status, answer.problem) == (404, "malformed")
        assert source.asked == []


class TestChain:
    """The chain itself."""

    def test_it_is_fetched_once(
        self, here: Ordering, client: Orderer, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many ask at once, and whoever asks later; it is sent as the first is."""
        found = got(client, source)
        kept, looks = here.parts.alternates, threading.Semaphore(0)
        find = kept.find

        def look(fingerprint: str, number: int) -> bytes | None:
            looked = find(fingerprint, number)
            looks.release()
            return looked

        monkeypatch.setattr(kept, "find", look)
        source.go.clear()
        clones = [client.clone() for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(each.post, found.others[0]) for each in clones]
            assert all(looks.acquire(timeout=30) for _ in clones)
            source.go.set()
            sent = {answer.result(30).body for answer in answers}
        for each in clones:
            each.close()
        again = client.post(found.others[0])
        assert sent == {again.body}
        assert again.headers["Content-Type"] == "application/pem-certificate-chain"
        assert len(chains.issuers(again.body)[1]) == 2
        assert again.body != found.pem
        assert b"\n\n" not in again.body
        assert source.asked == [URLS[0]]

    def test_another_node_has_it(
        self, state: Database, here: Ordering, client: Orderer, source: Source
    ) -> None:
        """What one node has fetched every node sends, and after a restart as well."""
        found = got(client, source)
        pem = client.post(found.others[0]).body
        with ordering(state, url=here.served.url) as there:
            other = Orderer(
                client.directory_url, client.key, kid=client.kid, address=("127.0.0.1", there.served.port)
            )
            with other:
                assert other.post(found.others[0]).body == pem
                assert other.post(found.url).links("alternate") == found.others
        assert source.asked == [URLS[0]]

    def test_it_is_for_its_account_only(self, here: Ordering, client: Orderer, source: Source) -> None:
        """Another account gets none, by GET nobody does, and the form is that of chains."""
        found = got(client, source)
        with here.client() as other:
            assert other.post(found.others[0]).problem == "unauthorized"
        assert client.exchange("GET", found.others[0]).status == 405
        assert client.post(found.others[0], {}).status == 400
        assert client.post_accepting(found.others[0], "application/pkix-cert").status == 406
        assert source.asked == []

    def test_a_revoked_one(self, client: Orderer, source: Source) -> None:
        """Is not sent, whichever chain it has."""
        found = got(client, source)
        assert client.post(found.others[0]).status == 200
        assert client.revoke(chains.leaf_of(found.pem).public_bytes(Encoding.DER)).status == 200
        assert client.post(found.others[0]).status == 404

    def test_it_is_forgotten_with_its_certificate(
        self, here: Ordering, client: Orderer, source: Source
    ) -> None:
        """When that has expired, and no sooner."""
        found = got(client, source)
        assert client.post(found.others[0]).status == 200
        kept, (record,) = here.parts.alternates, here.chains.of([chains.parse(found.pem).fingerprint])
        ends = int(record.not_after.timestamp())
        for now, is_kept in ((ends - 1, True), (ends, False)):
            kept.forget(now)
            kept.keep("another", 1, b"", ends + 9).result(30)  # written after what was forgotten
            assert (kept.find(record.fingerprint, 1) is not None) is is_kept


class TestFailures:
    """A chain that cannot be had: the first stays, and the operator is told why."""

    @pytest.mark.parametrize(
        "error",
        [
            pytest.param(CAUnavailable("down"), id="away"),
            pytest.param(refusal(), id="refused"),
        ],
    )
    def test_the_ca_does_not_send_it(
        self, here: Ordering, client: Orderer, source: Source, error: AcmeException
    ) -> None:
        """The client is told when to ask again, and where the first chain is; no words of the CA."""
        found = got(client, source)
        source.error = error
        answer = client.post(found.others[0])
        assert (answer.status, answer.problem) == (503, "serverInternal")
        assert int(answer.headers["Retry-After"]) > 0
        assert found.url in answer.json["detail"]
        assert b"ca.example.org" not in answer.body
        assert client.post(found.url).body == found.pem
        [failed] = [each for each in here.events if isinstance(each, FailedEvent)]
        assert (failed.stage, failed.names) == ("alternate", (NAME,))

    def test_it_is_not_asked_again_at_once(
        self, client: Orderer, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A client that asks all the time costs one request now and then."""
        found = got(client, source)
        source.error = CAUnavailable("down")
        assert [client.post(found.others[0]).status for _ in range(3)] == [503] * 3
        assert source.asked == [URLS[0]]
        assert client.post(found.others[1]).status == 503
        source.error = None
        monkeypatch.setattr(alternates, "FAILED_SECONDS", 0.0)
        assert client.post(found.others[0]).status == 200
        assert source.asked == [URLS[0], URLS[1], URLS[0]]

    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda *_: b"<html>", id="no chain"),
            pytest.param(lambda *_: make_chain(make_request(NAME)).pem, id="another certificate"),
            pytest.param(
                lambda pem, _: further(pem, 1) + make_chain(make_request("b.example.org")).pem,
                id="a stranger in it",
            ),
        ],
    )
    def test_a_chain_that_is_wrong(
        self, client: Orderer, source: Source, make: Callable[[bytes, int], bytes]
    ) -> None:
        """Is neither sent nor kept."""
        found = got(client, source)
        source.make = make
        assert client.post(found.others[0]).status == 503

    def test_no_account_at_that_ca(self, here: Ordering, client: Orderer, source: Source) -> None:
        """As after a change of the configuration."""
        found = got(client, source)
        here.authority.alternates = None
        assert client.post(found.others[0]).status == 503

    def test_a_state_that_does_not_keep_it(
        self, here: Ordering, client: Orderer, source: Source, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is sent all the same, and fetched again for the next one."""
        found = got(client, source)

        def fail(*_: object) -> object:
            return here.parts.loop.submit(raising(StateUnavailable("read-only")))

        with monkeypatch.context() as broken:
            broken.setattr(here.parts.alternates, "keep", fail)
            assert client.post(found.others[0]).status == 200
        assert client.post(found.others[0]).status == 200
        assert source.asked == [URLS[0]] * 2


def raising(error: Exception) -> Steps[None]:
    yield from ()
    raise error


@dataclass(frozen=True)
class Account:
    """Another account, as far as further chains are concerned."""

    issuer: Authority
    identity: IssuerIdentity


@pytest.mark.parametrize(("profile", "asked"), [(None, [URLS[0]]), ("short", [])])
def test_its_own_account_is_asked(
    here: Ordering,
    client: Orderer,
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    profile: str | None,
    asked: list[str],
) -> None:
    """Of several at one CA that of the profile; the next one where the CA says that it is another's."""
    found = got(client, source)
    other = Source(error=refusal())
    other.go.set()
    issuer = Authority(here.house.loop)
    issuer.alternates = other
    account = Account(issuer, dataclasses.replace(IDENTITY, profile=profile))
    monkeypatch.setattr(Issuances, "__iter__", lambda _: iter([account, here.house.issuance]))
    assert client.post(found.others[0]).status == 200
    assert (other.asked, source.asked) == (asked, [URLS[0]])
