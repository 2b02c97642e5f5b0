"""Which verification proves what: by wildcards, by addresses, by what the CA offers, end to end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.peers import CALM, Acmems, Bind, Pebble, Settings, curl_sign, make_key_and_csr, run, verify_chain

BOTH = """
[verification "http"]
type = http01
listener = 127.0.0.1:{challenge_port}

[verification "dns"]
type = dns01-dnsUpdate
dns-server = DNS
"""
AUTH = """
[auth "anyone"]
all = yes
domain = **
domain = *.example.org
address = 127.0.0.0/8
address = ::1
verification = {order}
"""
BY_HTTP = "validate w/ HTTP: http://{}:"


def san(chain: bytes) -> str:
    return run("openssl", "x509", "-noout", "-ext", "subjectAltName", stdin=chain).decode()


class TestAddresses:
    """IP addresses are names, too (RFC 8738)."""

    @pytest.fixture
    def acmems(self, settings: Settings) -> Acmems:
        settings.auth = AUTH.format(order="http")
        return Acmems(settings)

    def test_by_http01(self, acmems: Acmems, pebble: Pebble, tmp_path: Path) -> None:
        """A granted address is proved by http-01, alone and beside a name, and stands in the certificate."""
        with acmems:
            for names in ([], ["beside.example.org"]):
                _, csr = make_key_and_csr(tmp_path, names, addresses=["127.0.0.1"])
                reply = curl_sign(acmems.sign_url, csr)
                assert reply.status == 200, reply.text
                verify_chain(reply.body, pebble.root_pem())
                assert "IP Address:127.0.0.1" in san(reply.body)

    def test_an_address_that_is_not_granted_is_403(self, acmems: Acmems, tmp_path: Path) -> None:
        """An address outside the block's networks is refused, and no glob grants one."""
        with acmems:
            _, csr = make_key_and_csr(tmp_path, [], addresses=["192.0.2.7"])
            assert curl_sign(acmems.sign_url, csr).status == 403
            assert "192.0.2.7 matches no address of it" in acmems.log


class TestPicking:
    """`verification = http, dns` is a list, best first."""

    @pytest.mark.parametrize("order", ["http, dns", "dns, http"])
    def test_each_name_is_proved_by_the_first_validator_that_can(
        self, settings: Settings, tmp_path: Path, order: str
    ) -> None:
        """Wildcards are proved by DNS and addresses by HTTP, in one request; the first proves the rest."""
        with Bind("example.org") as bind, Pebble(bind.address, env=CALM) as ca:
            settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
            settings.challenge_port = ca.http_port
            settings.verification = BOTH.replace("DNS", bind.address)
            settings.auth = AUTH.format(order=order)
            with Acmems(settings) as acmems:
                _, csr = make_key_and_csr(
                    tmp_path,
                    ["example.org", "*.example.org", "plain.example.org"],
                    addresses=["127.0.0.1"],
                )
                reply = curl_sign(acmems.sign_url, csr)
                assert reply.status == 200, reply.text
                verify_chain(reply.body, ca.root_pem())
            assert bind.texts("_acme-challenge.example.org") == set()
            either = {"example.org", "plain.example.org"}
            by_http = {name for name in {*either, "127.0.0.1"} if BY_HTTP.format(name) in ca.log}
            by_dns = set(re.findall(r"adding an RR at '_acme-challenge\.(\S+)' TXT", bind.log))
            assert by_http == ({*either, "127.0.0.1"} if order == "http, dns" else {"127.0.0.1"})
            assert by_dns == ({"example.org"} if order == "http, dns" else either)


def test_several_servers_with_one_name(settings: Settings, tmp_path: Path) -> None:
    """With `label = account` the record has the account's label in front, and is gone afterwards."""
    with Bind("example.org") as bind, Pebble(bind.address, env=CALM) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = f'[verification "dns"]\ntype = dns01-dnsUpdate\ndns-server = {bind.address}\n'
        settings.verification += "label = account\npropagation = authoritative\n"
        settings.verification += f"nameserver = {bind.address}\n"
        settings.auth = AUTH.format(order="dns")
        with Acmems(settings) as acmems:
            before = bind.serial("example.org")
            _, csr = make_key_and_csr(tmp_path, ["example.org", "*.example.org"])
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, reply.text
            assert bind.serial("example.org") == before + 2  # one message to add, one to delete
            assert re.search(r"adding an RR at '_[a-z2-7]{16}\._acme-challenge\.example\.org' TXT", bind.log)
