"""Orders of ACME clients with a real CA outside: over crashes, and at several nodes."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.acme_client import AcmeClient, Answer, b64
from tests.acme_front_end import AcmeFrontEnd
from tests.acme_orders import Orderer, make_csr
from tests.fault_proxy import FaultProxy
from tests.faults import CERTIFICATE, FINALIZE
from tests.peers import CALM, Acmems, ChallTestSrv, Pebble, Postgres, Settings, free_port, verify_chain

from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.x509 import chain as chains

NAMES = ("a.example.org", "b.example.org")


def test_a_life_with_a_ca_outside(settings: Settings, pebble: Pebble, tmp_path: Path) -> None:
    """An account, an order, the chain, when to renew it, its successor and its revocation by its key."""
    front_end = AcmeFrontEnd(tmp_path, settings)
    with Acmems(settings) as acmems, front_end.client() as client:
        assert client.register().status == 201
        key = ec.generate_private_key(ec.SECP256R1())
        answer = client.obtain(*NAMES, key=key)
        assert answer.status == 200
        assert not answer.links("alternate")
        verify_chain(answer.body, pebble.root_pem())
        name = certificate_id(answer.body)
        window = client.get(f"{client.directory['renewalInfo']}/{name}").json["suggestedWindow"]
        assert window["start"] < window["end"]
        successor = client.obtain(*NAMES, replaces=name)
        assert chains.fingerprint_of(successor.body) != chains.fingerprint_of(answer.body)
        certificate = chains.leaf_of(answer.body).public_bytes(Encoding.DER)
        trust = ssl.create_default_context(cafile=str(front_end.chain))
        owner = AcmeClient(client.directory_url, key, trust=trust, address=client.address)
        with owner:
            url = owner.directory["revokeCert"]
            wish = {"certificate": b64(certificate), "reason": 4}
            assert owner.post_as_key(url, wish).status == 200
            assert owner.post_as_key(url, wish).problem == "alreadyRevoked"
        serial = f"{chains.leaf_of(answer.body).serial_number:x}"
        assert json.loads(pebble.management(f"/cert-status-by-serial/{serial}"))["Status"] == "Revoked"
        assert "delivered" in acmems.log


@pytest.mark.threat("acme orders", "a kill while an order is processed")
@pytest.mark.parametrize("path", [FINALIZE, CERTIFICATE], ids=["finalize", "certificate"])
def test_a_kill_while_an_order_is_processed(pebble: Pebble, tmp_path: Path, path: str) -> None:
    """After kill -9 the client's next look brings the certificate; the CA has issued one."""
    with FaultProxy(pebble) as proxy:
        settings = proxy.before(Settings.of(pebble, tmp_path))
        front_end = AcmeFrontEnd(tmp_path, settings)
        with Acmems(settings) as acmems, front_end.client() as client:
            assert client.register().status == 201
            order = client.order(*NAMES)

            def kill() -> None:
                acmems.process.kill()
                acmems.process.wait()

            proxy.when(path=path, nth=1).call_after(kill)
            key = ec.generate_private_key(ec.SECP256R1())
            with pytest.raises(OSError):
                client.finalize(order.json, make_csr(*NAMES, key=key))
            client.close()
            proxy.heal()
            acmems.start()
            shown = followed(client, client.post(order.location))
            answer = client.post(shown.json["certificate"])
            assert answer.status == 200
            chain = chains.parse(answer.body)
            assert chain.spki == key.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
        assert proxy.count(path=FINALIZE) == 1


@pytest.fixture
def slow(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA that finds every proof."""
    with Pebble(dns.address, env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}) as ca:
        yield ca


@pytest.mark.threat("acme orders", "two finalizes at once")
def test_two_nodes(slow: Pebble, postgres: Postgres, tmp_path: Path) -> None:
    """Any node answers; of two finalizes one counts; what a dead node was at, another one ends."""
    state = f"\n[state]\nurl = {postgres.url_of(database := postgres.make_database())}\n"
    folders = [tmp_path / each for each in ("one", "two")]
    with FaultProxy(slow) as proxy:
        servers, front_ends = [], []
        for folder in folders:
            folder.mkdir()
            settings = proxy.before(Settings.of(slow, folder))
            settings.challenge_port = free_port()
            front_ends.append(AcmeFrontEnd(folder, settings, "https://localhost"))
            settings.auth += state
            servers.append(Acmems(settings))
        with servers[0], servers[1], front_ends[0].client() as here:
            assert here.register().status == 201
            with front_ends[1].client(here) as there:
                order = here.order(*NAMES)
                csrs = [make_csr(*NAMES), make_csr(*NAMES)]
                clients = zip((here, there), csrs, strict=True)
                with ThreadPoolExecutor(2) as pool:
                    both = pool.map(lambda each: each[0].finalize(order.json, each[1]), clients)
                    done = {each.status: each for each in both}
                assert done.keys() == {200, 403}
                assert done[403].problem == "orderNotReady"
                assert followed(there, there.post(order.location)).json["status"] == "valid"
                chain = there.post(
                    order.json["finalize"].replace("order", "certificate").removesuffix("/finalize")
                )
                verify_chain(chain.body, slow.root_pem())
                # The node that is at an order dies after the CA was told to issue.
                second = here.order("c.example.org")

                def kill() -> None:
                    servers[0].process.kill()
                    servers[0].process.wait()
                    pid = servers[0].process.pid
                    statement = f"UPDATE nodes SET expires = 0 WHERE process = {pid}"  # noqa: S608 - a test's
                    postgres.execute(statement, database)

                proxy.when(path=FINALIZE, nth=1).call_after(kill)
                with pytest.raises(OSError):
                    here.finalize(second.json, make_csr("c.example.org"))
                shown = followed(there, there.post(second.location))
                assert there.post(shown.json["certificate"]).status == 200
        assert proxy.count(path=FINALIZE) == 2


def followed(client: Orderer, answer: Answer) -> Answer:
    """Return the answer that shows how an order has ended."""
    url = answer.location
    while answer.json["status"] == "processing":
        answer = client.post(url)
    assert answer.json["status"] == "valid", answer.json
    return answer
