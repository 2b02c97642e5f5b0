"""kill -9 in the middle of an order: the next start finishes it, and the CA issues once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CERTIFICATE, CHALLENGE, FINALIZE, NEW_ORDER, ORDER
from tests.peers import Acmems, Pebble, Settings, curl_sign, make_key_and_csr, verify_chain
from tests.peers.process import PeerFailed, wait_until

NAME = "killed.example.org"
POINTS = {
    "new order": NEW_ORDER,
    "authorization": AUTHORIZATION,
    "challenge": CHALLENGE,
    "finalize": FINALIZE,
    "order": ORDER,
    "certificate": CERTIFICATE,
}


def issued(pebble: Pebble) -> int:
    """Return how many certificates the CA has issued for the name."""
    return pebble.log.count("Issued certificate serial")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill(
    proxy: FaultProxy, pebble: Pebble, settings: Settings, tmp_path: Path, point: str, when: str
) -> None:
    """Whatever the CA had seen, the client gets a certificate after the restart, and the CA made one."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    with Acmems(proxy.before(settings)) as acmems:
        process = acmems.process
        before = issued(pebble)
        rule = proxy.when(path=POINTS[point], nth=1)

        def kill() -> None:
            process.kill()
            process.wait()

        (rule.call_before if when == "before" else rule.call_after)(kill)
        with pytest.raises(PeerFailed):
            curl_sign(acmems.sign_url, csr)
        assert process.wait() == -signal.SIGKILL
        proxy.heal()
        orders = proxy.count(path=NEW_ORDER)
        acmems.restart()
        if proxy.count(path=FINALIZE):
            wait_until(lambda: any((settings.folder / "storage").rglob("cert.pem")), "the order is finished")
        reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 200, reply.text
        verify_chain(reply.body, pebble.root_pem())
        assert issued(pebble) == before + 1
        # Where the CA comes for a proof that nobody presents any more, the order is lost with its validation.
        is_lost = point == "new order" or (point == "challenge" and when == "after")
        assert orders <= proxy.count(path=NEW_ORDER) <= orders + is_lost
