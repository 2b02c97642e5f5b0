"""Which chain a certificate comes with, and what becomes of it where the clocks differ, at a real CA."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from tests.chains import make_request
from tests.peers import Acmems, ChallTestSrv, Pebble, Settings, curl_sign, make_key_and_csr, verify_chain

from acmems.app import Server
from acmems.config import Configuration
from acmems.exceptions import ClocksDiffer
from acmems.issuing.requests import AcceptedRequest
from acmems.system.clock import Clock


def root_name(pem: str) -> str:
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(
        x509.NameOID.COMMON_NAME
    )
    return str(name.value)


def test_preferred_chain(dns: ChallTestSrv, tmp_path: Path) -> None:
    """Of the chains that a CA offers, the one that ends in the preferred root is delivered."""
    with Pebble(dns.address, env={"PEBBLE_ALTERNATE_ROOTS": "2", "PEBBLE_CHAIN_LENGTH": "2"}) as ca:
        roots = [ca.management(f"/roots/{number}").decode() for number in range(3)]
        assert len(set(map(root_name, roots))) == 3
        for number, root in enumerate(roots):
            folder = tmp_path / str(number)
            folder.mkdir()
            settings = Settings.of(ca, folder)
            settings.account = f"preferred-chain = {root_name(root)}"
            _, csr = make_key_and_csr(folder, ["chosen.example.org"])
            with Acmems(settings) as acmems:
                reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, reply.text
            verify_chain(reply.body, root)


@pytest.mark.threat("ca", "a wrong clock")
@pytest.mark.parametrize("days", [-3, 3, 4000])
def test_a_wrong_clock_orders_nothing(settings: Settings, pebble: Pebble, days: int) -> None:
    """By a clock that is days off nothing is ordered; as soon as it is right, orders go on."""
    wrong = datetime.timedelta(days=days)
    clock = Clock(now=lambda: datetime.datetime.now(datetime.UTC) + wrong)
    server = Server(Configuration.from_text(settings.text()), clock)
    server.start()
    try:
        block = server.config.auth.blocks[0]
        request = make_request("clock.example.org")
        accepted = AcceptedRequest(request, block.validators, block.storage)
        before = pebble.log.count("Added order")
        with pytest.raises(ClocksDiffer):
            server.issuances.issue(accepted).result(60)
        assert pebble.log.count("Added order") == before
        wrong = datetime.timedelta()
        assert server.issuances.issue(accepted).result(60).source == "issued"
    finally:
        server.stop()
