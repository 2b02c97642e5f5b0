"""tls-alpn-01 against a real CA, alone and behind what forwards to it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    Settings,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
    verify_chain,
)

VERIFICATION = """
[verification "tls"]
type = tls-alpn01
listener = 127.0.0.1:{port}
"""
ADDRESSES = """
[auth "addresses"]
all = yes
domain = **
address = 127.0.0.0/8
"""
NAME = "www.example.org"


@pytest.fixture(scope="module")
def ca(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA that nothing answers over http-01."""
    with Pebble(dns.address, env=CALM) as ca:
        yield ca


def proving_by_tls(ca: Pebble, folder: Path, port: int | None = None) -> Settings:
    """Return a configuration that proves names by tls-alpn-01 alone, where the CA looks or on a port."""
    settings = Settings.of(ca, folder)
    settings.verification = VERIFICATION.format(port=port or ca.tls_port)
    return settings


def test_a_name_is_proved(ca: Pebble, tmp_path: Path) -> None:
    """A CSR becomes a chain, with a handshake as the only proof."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    with Acmems(proving_by_tls(ca, tmp_path)) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 200, reply.text
    assert names_of(reply.body) == {NAME}
    assert verify_chain(reply.body, ca.root_pem()).endswith("OK")


def test_fifty_names_are_proved_at_once(ca: Pebble, tmp_path: Path) -> None:
    """One order with fifty names gets its fifty handshakes."""
    names = [f"host{number}.example.org" for number in range(50)]
    _, csr = make_key_and_csr(tmp_path, names)
    with Acmems(proving_by_tls(ca, tmp_path)) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 200, reply.text
    assert names_of(reply.body) == set(names)


def test_machines_with_one_name_do_not_fail_each_other(ca: Pebble, tmp_path: Path) -> None:
    """Two machines that ask for one name at the same time, each with a key of its own, both get a chain."""
    rounds = 5
    with Acmems(proving_by_tls(ca, tmp_path)) as acmems, ThreadPoolExecutor(2) as machines:
        for number in range(rounds):
            name = f"shared{number}.example.org"
            csrs = [make_key_and_csr(tmp_path, [name], stem=f"{number}-{machine}")[1] for machine in "ab"]
            replies = list(machines.map(lambda csr: curl_sign(acmems.sign_url, csr), csrs))
            assert [reply.status for reply in replies] == [200, 200], [reply.text for reply in replies]
            assert replies[0].body != replies[1].body


def test_an_address_is_proved(ca: Pebble, tmp_path: Path) -> None:
    """An IP address gets its certificate, by a handshake for its reverse name (RFC 8738)."""
    _, csr = make_key_and_csr(tmp_path, [], addresses=["127.0.0.1"])
    settings = proving_by_tls(ca, tmp_path)
    settings.auth = ADDRESSES
    with Acmems(settings) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 200, reply.text
    leaf = x509.load_pem_x509_certificate(reply.body)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_a_ca_that_is_not_answered_is_told_to_the_client(ca: Pebble, tmp_path: Path) -> None:
    """With nothing where the CA looks, the client is told that the challenge has failed."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    with Acmems(proving_by_tls(ca, tmp_path, free_port())) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 421, reply.text
    assert NAME in reply.text


def test_a_wildcard_is_not_tried(ca: Pebble, tmp_path: Path) -> None:
    """A wildcard name, which this type cannot prove, is refused without asking the CA to try."""
    _, csr = make_key_and_csr(tmp_path, ["*.example.org"])
    settings = proving_by_tls(ca, tmp_path)
    settings.auth = '[auth "anyone"]\nall = yes\ndomain = *.example.org\n'
    with Acmems(settings) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status in {403, 421}, reply.text
