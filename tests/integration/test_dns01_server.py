"""acmems as a name server: a delegated zone, CNAMEs at BIND, and a CA that resolves through it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.peers import (
    CALM,
    Acmems,
    Pebble,
    Resolver,
    Settings,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
    run_acmems,
)

from acmems.challenges.txt import account_label as label_of
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError

DNS = """
[verification "dns"]
type = dns01-server
zone = acme.example.net
ns = ns.example.org
listener = 127.0.0.1:{port}
label = {label}
"""
AUTH = """
[auth "anyone"]
all = yes
domain = **
domain = *.www.example.org
"""


def account_label(acmems: Acmems) -> str:
    shown = run_acmems("account", "show", acmems.folder / "acmems.ini").stdout
    (url,) = [line.split()[1] for line in shown.splitlines() if line.startswith("account ")]
    return label_of(url)


def test_a_name_and_its_wildcard(settings: Settings, tmp_path: Path) -> None:
    """With one CNAME, a name and its wildcard are proved, nobody's DNS changed, and the log is quiet."""
    port = free_port()
    cname = "_acme-challenge.www CNAME www.example.org.acme.example.net."
    settings.auth = AUTH
    with Resolver(port, cname) as resolver, Pebble(resolver.address, env=CALM) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS.format(port=port, label="plain")
        with Acmems(settings) as acmems:
            for names in (["www.example.org", "*.www.example.org"], ["www.example.org"]):
                _, csr = make_key_and_csr(tmp_path, names)
                reply = curl_sign(acmems.sign_url, csr)
                assert reply.status == 200, reply.text
                assert names_of(reply.body) == set(names)
            assert "WARNING" not in acmems.log


def test_a_missing_cname(settings: Settings, tmp_path: Path) -> None:
    """Without the CNAME the CA finds nothing, and the client hears so."""
    port = free_port()
    with Resolver(port) as resolver, Pebble(resolver.address) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS.format(port=port, label="plain")
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 421
            assert "www.example.org" in reply.text


def test_a_label_of_the_account(settings: Settings, tmp_path: Path) -> None:
    """By dns-account-01 the name has the account's label in front, and its CNAME leads to the same place."""
    port = free_port()
    with Resolver(port) as resolver, Pebble(resolver.address) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS.format(port=port, label="account")
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
            assert curl_sign(acmems.sign_url, csr).status == 421
            label = account_label(acmems)
            resolver.add(f"{label}._acme-challenge.www.example.org", "www.example.org.acme.example.net.")
            _, csr = make_key_and_csr(tmp_path, ["other.example.org"])
            resolver.add(f"{label}._acme-challenge.other.example.org", "other.example.org.acme.example.net.")
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, reply.text


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("ns = ns.example.org", "needs 'zone"),
        ("zone = acme.example.net", "needs 'ns"),
        ("zone = acme.example.net\nns = ns.acme.example.net", "addresses must stand behind it"),
        ("zone = acme.example.net\nns =", "not a DNS name"),
        ("zone = acme..net\nns = ns.example.org", "not a DNS name"),
        ("zone = acme.example.net\nns = ns.example.org 192.0.2.300", "192.0.2.300"),
    ],
)
def test_a_bad_section_is_told_by_check(lines: str, words: str) -> None:
    """What is wrong with the section is told by `acmems check`, not by a resolver at night."""
    text = f'[account]\ndir = x\n[verification "dns"]\ntype = dns01-server\n{lines}\n'
    with pytest.raises(ConfigurationError, match=words):
        Configuration.from_text(text)
