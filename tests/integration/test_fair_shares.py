"""A hostile or clumsy neighbour: what one auth block's clients do is not what another's wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.abandoned import HOLE, BlackHole, ask_and_hang_up, csr_for
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import CALM, Acmems, ChallTestSrv, Pebble, Settings, curl_sign, make_key_and_csr, wait_until

FLOOD = 1000
BLOCKS = """
[auth "flood"]
ip = 127.0.0.3
domain = *.flood.example.org
{flood}

[auth "neighbour"]
ip = 127.0.0.1
domain = *.example.org
"""


def orders(proxy: FaultProxy) -> Counter[str]:
    """Return how many orders have reached the CA, by the domain that their names are in."""
    placed = [seen.payload for seen in proxy.seen if NEW_ORDER.strip("^$") == seen.path]
    return Counter(each["identifiers"][0]["value"].partition(".")[2] for each in placed)


class Site:
    """A CA that waits in vain for the proofs of one auth block, and finds those of the other.

    Attributes:
        proxy: counts what reaches the CA.
        settings: those of a server.
    """

    def __init__(self, proxy: FaultProxy, settings: Settings) -> None:
        self.proxy = proxy
        self.settings = settings

    def server(self, flood: str = "") -> Acmems:
        """Return a server.

        Args:
            flood: further lines of the block whose names cannot be proved.
        """
        self.settings.auth = BLOCKS.replace("{flood}", flood)
        return Acmems(self.proxy.before(self.settings))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site in whose DNS all names lead into a black hole, but for those of the neighbour."""
    with ChallTestSrv() as dns, Pebble(dns.address, env=CALM) as ca, BlackHole(ca.http_port):
        dns.post("set-default-ipv4", ip=HOLE)
        for number in range(10):
            dns.post("add-a", host=f"{number}.example.org", addresses=["127.0.0.1"])
        settings = Settings.of(ca, tmp_path)
        with FaultProxy(ca) as proxy:
            yield Site(proxy, settings)


class TestAbandoned:
    """Requests in thousands that nobody waits for any more."""

    @pytest.mark.parametrize(("flood", "most"), [("", 64), ("max-orders = 8", 4)], ids=["default", "8"])
    def test_another_blocks_order(self, site: Site, tmp_path: Path, flood: str, most: int) -> None:
        """The other block's order is made meanwhile, and most of the abandoned ones never reach the CA."""
        flooding = [csr_for(f"{number}.flood.example.org") for number in range(FLOOD)]
        csrs = [make_key_and_csr(tmp_path, [f"{n}.example.org"], stem=f"{n}")[1] for n in range(3)]
        with site.server(flood) as acmems:
            ask_and_hang_up(acmems.port, flooding, "127.0.0.3")
            assert [curl_sign(acmems.sign_url, csr).status for csr in csrs] == [200, 200, 200]
            wait_until(lambda: "given up because their clients had hung up" in acmems.log, "a line of log")
            placed = orders(site.proxy)
            assert placed["flood.example.org"] <= most
            assert placed["example.org"] == 3
            assert curl_sign(acmems.sign_url, csrs[0]).status == 200
