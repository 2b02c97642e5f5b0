"""ACME clients that wait less long than the CA outside takes: their next try goes on where it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.acme_client import Answer, b64
from tests.acme_front_end import AcmeFrontEnd
from tests.acme_orders import Orderer, make_csr
from tests.fault_proxy import FaultProxy
from tests.faults import CHALLENGE, FINALIZE, NEW_ORDER
from tests.peers import CALM, Acmems, ChallTestSrv, Pebble, Postgres, Settings, free_port, wait_until

from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.x509 import chain as chains

NAMES = ("a.example.org", "b.example.org")
PREPARED = "an order for a.example.org, b.example.org is prepared"


@pytest.fixture(scope="module")
def trusting(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA that finds every proof, and knows later what was proved to it."""
    with Pebble(dns.address, env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_AUTHZREUSE": "100"}) as ca:
        yield ca


@pytest.fixture
def ca(trusting: Pebble) -> Iterator[FaultProxy]:
    """The way to it."""
    with FaultProxy(trusting) as running:
        yield running


@pytest.fixture
def names(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Names that nothing was proved of before."""
    stem = request.node.name.partition("[")[0].replace("_", "-")
    return f"a.{stem}.example.org", f"b.{stem}.example.org"


def counts(ca: FaultProxy) -> list[int]:
    """Return how many orders, validations and finalizes the CA got."""
    return [ca.count(path=path) for path in (NEW_ORDER, CHALLENGE, FINALIZE)]


def give_up(client: Orderer, order: Answer, csr: bytes, acmems: Acmems) -> None:
    """Finalize an order, and wait for nothing once the server has begun with that."""
    before = acmems.log.count(" requested ")
    client.abandon(order.json["finalize"], {"csr": b64(csr)})
    wait_until(lambda: acmems.log.count(" requested ") > before, "finalize")


def test_one_that_gives_up_while_names_are_proved(
    trusting: Pebble, ca: FaultProxy, names: tuple[str, str], tmp_path: Path
) -> None:
    """Its next try, with another key, gets the order: nothing is ordered, proved or issued twice."""
    proved = threading.Event()
    settings = ca.before(Settings.of(trusting, tmp_path))
    front_end = AcmeFrontEnd(tmp_path, settings)
    with Acmems(settings) as acmems, front_end.client() as client:
        assert client.register().status == 201
        ca.when(path=CHALLENGE).stall(proved)
        first = client.order(*names)
        wait_until(lambda: ca.count(path=CHALLENGE) == 2, "validation")  # before there is a CSR
        give_up(client, first, make_csr(*names), acmems)
        second = client.order(*names)
        key = ec.generate_private_key(ec.SECP256R1())
        proved.set()
        chain = finalized(client, second, make_csr(*names, key=key))
        assert chain.spki == spki(key)
    assert counts(ca) == [1, 2, 1]


def test_one_that_gives_up_while_its_certificate_is_issued(
    trusting: Pebble, ca: FaultProxy, names: tuple[str, str], tmp_path: Path
) -> None:
    """That order has its CSR; the next try does not wait for it, and needs no second proof."""
    issued = threading.Event()
    settings = ca.before(Settings.of(trusting, tmp_path))
    front_end = AcmeFrontEnd(tmp_path, settings)
    with Acmems(settings) as acmems, front_end.client() as client:
        assert client.register().status == 201
        ca.when(path=FINALIZE, nth=1).stall(issued)
        given_up = make_csr(*names)
        first = client.order(*names)
        give_up(client, first, given_up, acmems)
        wait_until(lambda: ca.count(path=FINALIZE) == 1, "finalize")
        key = ec.generate_private_key(ec.SECP256R1())
        assert finalized(client, client.order(*names), make_csr(*names, key=key)).spki == spki(key)
        issued.set()
        # Whoever comes back with the key of the first try finds what that has brought.
        finalized(client, client.order(*names), given_up)
    assert counts(ca)[1:] == [2, 2]


@pytest.mark.parametrize(
    ("path", "is_answered", "orders"),
    [(NEW_ORDER, False, 1), (NEW_ORDER, True, 2), (CHALLENGE, True, 1), (None, True, 1)],
    ids=["before the order", "after the order", "while names are proved", "after that"],
)
def test_a_kill(dns: ChallTestSrv, tmp_path: Path, path: str | None, is_answered: bool, orders: int) -> None:
    """What is prepared outlives kill -9, and goes to the CSR that comes then."""
    with Pebble(dns.address, env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}) as pebble, FaultProxy(pebble) as ca:
        settings = ca.before(Settings.of(pebble, tmp_path))
        front_end = AcmeFrontEnd(tmp_path, settings)
        with Acmems(settings) as acmems, front_end.client() as client:
            assert client.register().status == 201

            placed = threading.Event()

            def kill() -> None:
                assert placed.wait(30), "the server is killed when the client has its order"
                acmems.process.kill()
                acmems.process.wait()

            if path is not None:
                rule = ca.when(path=path, nth=1)
                (rule.call_after if is_answered else rule.call_before)(kill)
            order = client.order(*NAMES)
            placed.set()
            wait_until(has_died(acmems) if path else lambda: PREPARED in acmems.log, "preparation")
            kill()
            client.close()
            ca.heal()
            acmems.start()
            finalized(client, order, make_csr(*NAMES))
        # What the CA has not answered is not known to have come.
        assert ca.count(path=NEW_ORDER) == orders + (path == NEW_ORDER and not is_answered)
        assert ca.count(path=FINALIZE) == 1


def test_at_two_nodes(
    trusting: Pebble, ca: FaultProxy, postgres: Postgres, names: tuple[str, str], tmp_path: Path
) -> None:
    """What one node prepares another one waits for, and whichever gets the CSR first has the order."""
    state = f"\n[state]\nurl = {postgres.url_of(postgres.make_database())}\n"
    servers, front_ends = [], []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        settings = ca.before(Settings.of(trusting, folder))
        settings.challenge_port = free_port()
        front_ends.append(AcmeFrontEnd(folder, settings, "https://localhost"))
        settings.auth += state
        servers.append(Acmems(settings))
    proved = threading.Event()
    ca.when(path=CHALLENGE).stall(proved)
    with servers[0], servers[1], front_ends[0].client() as here:
        assert here.register().status == 201
        with front_ends[1].client(here) as there:
            here.order(*names)
            wait_until(lambda: ca.count(path=CHALLENGE) == 2, "validation")
            order = there.order(*names)
            proved.set()
            finalized(there, order, make_csr(*names))
            assert counts(ca)[2] == 1
            # What the other node had waited for in order to prepare it, it has prepared anew by now.
            finalized(here, here.order(*names), make_csr(*names))
    assert counts(ca) == [2, 2, 2]


def test_a_renewal_names_its_predecessor(
    trusting: Pebble, ca: FaultProxy, names: tuple[str, str], tmp_path: Path
) -> None:
    """What a client inside calls the certificate that it replaces is what the CA outside calls it, too."""
    front_end = AcmeFrontEnd(tmp_path, settings := ca.before(Settings.of(trusting, tmp_path)))
    with Acmems(settings), front_end.client() as client:
        assert client.register().status == 201
        first = client.obtain(*names)
        name = certificate_id(first.body)
        assert client.obtain(*names, replaces=name).body != first.body
    placed = [each.payload.get("replaces") for each in ca.seen if each.path == "/order-plz"]
    assert placed == [None, name]


def has_died(acmems: Acmems) -> Callable[[], bool]:
    return lambda: acmems.process.poll() is not None


def finalized(client: Orderer, order: Answer, csr: bytes) -> chains.Chain:
    """Finalize an order, wait for its end, and return the chain."""
    answer = client.finalize(order.json, csr)
    while answer.json["status"] == "processing":
        answer = client.post(order.location)
    assert answer.json["status"] == "valid", answer.json
    return chains.parse(client.post(answer.json["certificate"]).body)


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key in DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
