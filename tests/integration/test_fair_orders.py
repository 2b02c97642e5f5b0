"""A hostile or clumsy neighbour: what one auth block's clients do is not what another's wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.abandoned import HOLE, BlackHole, ask_and_hang_up, csr_for
from tests.fault_proxy import FaultProxy
from tests.faults import FINALIZE, NEW_ORDER, Rule
from tests.peers import (
    CALM,
    Acmems,
    Bind,
    ChallTestSrv,
    Pebble,
    Settings,
    curl_sign,
    free_port,
    make_key_and_csr,
    wait_until,
)

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

    def server(self, flood: str = "", blocks: str = BLOCKS) -> Acmems:
        """Return a server.

        Args:
            flood: further lines of the block whose names cannot be proved.
            blocks: the auth blocks.
        """
        self.settings.auth = blocks.replace("{flood}", flood)
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

    @pytest.mark.threat("issuing", "requests that hang and are abandoned")
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

    @pytest.mark.threat("issuing", "requests that hang and are abandoned")
    def test_another_client_of_the_block(self, site: Site, tmp_path: Path) -> None:
        """One client takes neither all places of its block nor all of its queue."""
        flooding = [csr_for(f"{number}.flood.example.org") for number in range(FLOOD)]
        _, csr = make_key_and_csr(tmp_path, ["0.example.org"])
        site.settings.mgmt = "max-waiting = 100"
        with site.server(blocks='[auth "all"]\nall = yes\ndomain = **\n') as acmems:
            ask_and_hang_up(acmems.port, flooding, "127.0.0.3")
            assert curl_sign(acmems.sign_url, csr).status == 200
            wait_until(lambda: "refused because too many wait" in acmems.log, "a line of log")
            assert orders(site.proxy)["flood.example.org"] <= 64
            assert acmems.log.count("status=429") == 0  # those are told in sums

    @pytest.mark.threat("issuing", "requests that hang and are abandoned")
    def test_a_full_queue(self, site: Site, tmp_path: Path) -> None:
        """Who comes to a full queue gets 429, whose turn does not come in time 504, both with Retry-After."""
        csrs = [tmp_path / f"{number}.csr" for number in range(6)]
        for path in csrs:
            path.write_bytes(csr_for(f"{path.stem}.flood.example.org"))
        site.settings.mgmt = "max-orders = 1\nmax-waiting = 2\nrequest-timeout = 5"
        with (
            site.server(blocks='[auth "all"]\nall = yes\ndomain = **\n') as acmems,
            ThreadPoolExecutor(6) as pool,
        ):
            replies = list(pool.map(lambda path: curl_sign(acmems.sign_url, path), csrs))
            assert Counter(reply.status for reply in replies) == {429: 3, 504: 3}
            assert all(int(reply.headers["Retry-After"]) > 0 for reply in replies)
            assert sum("its turn has not come" in reply.text for reply in replies) == 2
            assert orders(site.proxy)["flood.example.org"] == 1

    def test_a_server_that_stops(self, site: Site) -> None:
        """It does not wait for orders that nobody waits for."""
        with site.server() as acmems:
            ask_and_hang_up(acmems.port, [csr_for("0.flood.example.org")], "127.0.0.3")
            wait_until(lambda: orders(site.proxy)["flood.example.org"] == 1, "the order")
            assert acmems.stop() == 0
            assert "some requests were not finished in time" not in acmems.log

    def test_a_server_that_stops_in_the_midst(self, site: Site) -> None:
        """Those who were about to be read count as well."""
        flooding = [csr_for(f"{number}.flood.example.org") for number in range(FLOOD)]
        with site.server() as acmems:
            ask_and_hang_up(acmems.port, flooding, "127.0.0.3")
            assert acmems.stop() == 0
            assert "could not validate" not in acmems.log


DNS = """
[verification "never"]
type = dns01-dnsUpdate
dns-server = {bind}
propagation = authoritative
nameserver = 127.0.0.1:{nowhere}
propagation-timeout = 600

[verification "dns"]
type = dns01-dnsUpdate
dns-server = {bind}
propagation = authoritative
nameserver = {bind}
"""


@pytest.mark.threat("issuing", "requests that hang and are abandoned")
def test_records_that_never_show(tmp_path: Path) -> None:
    """While many orders of one block wait for DNS in vain, those of another are proved by DNS as usual."""
    flooding = [csr_for(f"{number}.flood.example.org") for number in range(200)]
    _, csr = make_key_and_csr(tmp_path, ["0.example.org"])
    with Bind("example.org") as bind, Pebble(bind.address, env=CALM) as ca, FaultProxy(ca) as proxy:
        settings = proxy.before(Settings.of(ca, tmp_path))
        settings.verification = DNS.format(bind=bind.address, nowhere=free_port())
        settings.auth = BLOCKS.replace("{flood}", "verification = never") + "verification = dns\n"
        with Acmems(settings) as acmems:
            ask_and_hang_up(acmems.port, flooding, "127.0.0.3")
            records = [f"_acme-challenge.{number}.flood.example.org" for number in range(64)]
            wait_until(lambda: all(map(bind.texts, records)), "records that are waited for", 60)
            assert curl_sign(acmems.sign_url, csr).status == 200
            assert orders(proxy) == {"flood.example.org": 64, "example.org": 1}


class TestRefused:
    """A fleet whose CSRs the CA refuses."""

    @pytest.mark.parametrize(
        "refuse",
        [
            lambda rule: rule.problem(400, "badCSR"),
            lambda rule: rule.problem(403, "unauthorized"),
            lambda rule: rule.set(
                status="invalid",
                error={"type": "urn:ietf:params:acme:error:unauthorized", "detail": "not these names"},
            ),
        ],
        ids=["badCSR", "unauthorized", "in an invalid order"],
    )
    @pytest.mark.threat("issuing", "mistakes of others")
    def test_all_at_once(
        self, proxy: FaultProxy, settings: Settings, tmp_path: Path, refuse: Callable[[Rule], None]
    ) -> None:
        """Thirty refused CSRs with keys of their own cost three orders; other names cost one, as ever."""
        refuse(proxy.when(path=FINALIZE, nth=range(1, 4)))
        csrs = [tmp_path / f"{number}.csr" for number in range(30)]
        for path in csrs:
            path.write_bytes(csr_for("same.example.org"))
        _, other = make_key_and_csr(tmp_path, ["other.example.org"])
        with Acmems(proxy.before(settings)) as acmems, ThreadPoolExecutor(30) as pool:
            replies = list(pool.map(lambda path: curl_sign(acmems.sign_url, path), csrs))
            assert Counter(reply.status for reply in replies) == {415: 3, 429: 27}
            assert all("Retry-After" in reply.headers for reply in replies if reply.status == 429)
            assert curl_sign(acmems.sign_url, other).status == 200
            assert orders(proxy)["example.org"] == 4
