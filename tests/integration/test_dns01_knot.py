"""The dns-01 validator against a real Knot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dns.name
import pytest
from tests.peers import Acmems, Key, Knot, Pebble, Settings, curl_sign, make_key_and_csr

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.txt import txt_value
from acmems.dns.client.tsig import TsigKey
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.text import Secret
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"
KEY = Key()
OTHER_SECRET = "b3RoZXIgc2VjcmV0"  # noqa: S105 - no secret at all


@pytest.fixture(scope="module")
def knot() -> Iterator[Knot]:
    """A name server where a key may change TXT records."""
    with Knot("example.org", "sub.example.org", key=KEY) as server:
        yield server


def made(knot: Knot, key: TsigKey | None) -> DnsUpdate:
    return DnsUpdate("dns", [Address("127.0.0.1", knot.port)], timeout=30, key=key)


def tsig(name: str = KEY.name, secret: str = KEY.secret, algorithm: str = KEY.algorithm) -> TsigKey:
    return TsigKey(dns.name.from_text(name), Secret(secret), algorithm=algorithm)


def proof(name: str, token: str) -> Proof:
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)


def values(*tokens: str) -> set[str]:
    return {txt_value(f"{token}.thumbprint") for token in tokens}


def test_values_come_and_go_one_by_one(knot: Knot) -> None:
    """Values of two zones are added beside others, and taken away without them."""
    validator = made(knot, tsig())
    proofs = [proof("www.example.org", "a"), proof("www.example.org", "b"), proof("x.sub.example.org", "c")]
    validator.present(proofs)
    assert knot.texts(RECORD) == values("a", "b")
    assert knot.texts("_acme-challenge.x.sub.example.org") == values("c")
    validator.withdraw(proofs[1:])
    assert knot.texts(RECORD) == values("a")
    made(knot, tsig()).withdraw(proofs)
    assert knot.texts(RECORD) == knot.texts("_acme-challenge.x.sub.example.org") == set()


def test_fifty_names_with_wildcards_are_one_update(knot: Knot) -> None:
    """A hundred values of one zone come by one message, and go by one."""
    validator = made(knot, tsig())
    proofs = [proof(f"n{number}.example.org", token) for number in range(50) for token in ("a", "b")]
    before = knot.serial("example.org")
    validator.present(proofs)
    assert knot.serial("example.org") == before + 1
    assert knot.texts("_acme-challenge.n49.example.org") == values("a", "b")
    validator.withdraw(proofs)
    assert knot.serial("example.org") == before + 2
    assert knot.texts("_acme-challenge.n49.example.org") == set()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (None, "refused to add it: "),
        (tsig("other"), "does not know the TSIG key other (BADKEY)"),
        (tsig(secret=OTHER_SECRET), "has another secret for the TSIG key acmems (BADSIG)"),
        (tsig(algorithm="hmac-sha512"), "does not know the TSIG key acmems (BADKEY)"),
    ],
)
def test_a_wrong_key_is_told(knot: Knot, key: TsigKey | None, reason: str) -> None:
    """A key that is missing or wrong in any part is an error that says which part; nothing is added."""
    with pytest.raises(ValidatorUnavailable) as caught:
        made(knot, key).present([proof("www.example.org", "token")])
    assert str(caught.value).startswith(f"TXT record {RECORD}: DNS server 127.0.0.1:{knot.port} {reason}")
    assert caught.value.advice
    assert knot.texts(RECORD) == set()


VERIFICATION = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = 127.0.0.1:{dns_port}
tsig-key-file = {key_file}
propagation = authoritative
nameserver = 127.0.0.1:{dns_port}
"""


def test_a_ca_that_resolves_through_knot(knot: Knot, tmp_path: Path) -> None:
    """A name and its wildcard are certified by a CA that asks Knot, and nothing stays there."""
    (tmp_path / "acmems.key").write_text(KEY.file(), encoding="utf-8")
    with Pebble(knot.address) as pebble:
        settings = Settings.of(pebble, tmp_path)
        settings.verification = VERIFICATION.format(dns_port=knot.port, key_file=tmp_path / "acmems.key")
        settings.auth = '[auth "all"]\nall = yes\ndomain = www.example.org\ndomain = *.www.example.org\n'
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, ["www.example.org", "*.www.example.org"])
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, (reply, acmems.log)
            assert KEY.secret not in acmems.log
    assert knot.texts(RECORD) == set()
