"""Many names at a DNS server that is far away, with the settings that acmems has by default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distant_dns import DistantDns
from tests.peers import Acmems, Bind, Pebble, Settings, curl_sign, make_key_and_csr, names_of

NAMES = [f"n{number}.example.org" for number in range(100)]
UPDATE = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {address}
nameserver = {address}
propagation = authoritative
"""
BLOCK = '[auth "all"]\nall = yes\ndomain = *.example.org\n'


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
