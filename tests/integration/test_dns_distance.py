"""Many names at a DNS server that is far away, with the settings that acmems has by default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distant_dns import DistantDns
from tests.peers import Acmems, Bind, Pebble, Settings, curl_sign, make_key_and_csr, names_of

from acmems.challenges import DnsUpdate, Proof
from acmems.dns.client.propagation import Propagation
from acmems.net.address import Address
from acmems.x509.identifiers import Identifier

NAMES = [f"n{number}.example.org" for number in range(100)]
UPDATE = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {address}
nameserver = {address}
propagation = authoritative
"""
BLOCK = '[auth "all"]\nall = yes\ndomain = *.example.org\n'


ZONES = [f"zone{number}.test" for number in range(10)]


@pytest.fixture
def bind() -> Iterator[Bind]:
    """A name server for example.org."""
    with Bind("example.org") as server:
        yield server


def test_a_hundred_names(bind: Bind, tmp_path: Path) -> None:
    """A hundred names at a server 60 ms away: asked for side by side, added by one update, removed by one."""
    with DistantDns(bind.port, 0.06) as distant, Pebble(bind.address) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.verification = UPDATE.format(address=distant.address)
        settings.auth = BLOCK
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, NAMES)
            before = bind.serial("example.org")
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, (reply, acmems.log)
            assert names_of(reply.body) == set(NAMES)
            assert bind.serial("example.org") == before + 2
    assert distant.most["CNAME"] > 4
    assert distant.most["TXT"] > 4
    assert distant.streams == 2


def test_many_zones() -> None:
    """Zones are changed side by side, each by one message."""
    proofs = [
        Proof(Identifier.dns(f"{host}.{zone}"), "token", "token.thumbprint", lambda: None)
        for zone in ZONES
        for host in ("a", "b")
    ]
    with Bind(*ZONES) as bind, DistantDns(bind.port, 0.06) as distant:
        address = Address("127.0.0.1", distant.port)
        validator = DnsUpdate("dns", [address], propagation=Propagation(resolvers=[address]))
        before = [bind.serial(zone) for zone in ZONES]
        validator.present(proofs)
        assert [bind.serial(zone) for zone in ZONES] == [serial + 1 for serial in before]
        assert distant.most["SOA"] > 2  # what an update asks for in its first section
        validator.withdraw(proofs)
        assert [bind.serial(zone) for zone in ZONES] == [serial + 2 for serial in before]
