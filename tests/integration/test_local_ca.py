"""A local CA, and machines with openssl and curl."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests.peers import (
    Acmems,
    PeerFailed,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    run_acmems,
    verify_chain,
    wait_until,
)

TEXT = """
[local-ca "office"]
dir = {folder}/ca
permit = internal.example
permit = printer
permit = 10.0.0.0/8
crl-url = http://127.0.0.1:{port}/ca/office.crl

[mgmt]
listener = 127.0.0.1:{port}

[storage "state"]
type = sql

[auth "machines"]
all = yes
domain = **
address = 0.0.0.0/0
"""
NAMES = ["printer", "a.internal.example", "*.b.internal.example"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with nothing but a local CA, which was made."""
    path = tmp_path / "acmems.ini"
    path.write_text(TEXT.format(folder=tmp_path, port=free_port()))
    made = run_acmems("ca", "init", path)
    assert made.returncode == 0, made.stderr
    return path


@pytest.fixture
def acmems(config: Path) -> Iterator[Acmems]:
    with Acmems(config.read_text()) as running:
        yield running


def crl(acmems: Acmems) -> x509.CertificateRevocationList:
    reply = curl(acmems.sign_url.replace("/sign", "/ca/office.crl"))
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/pkix-crl")
    return x509.load_der_x509_crl(reply.body)


def test_a_certificate_from_request_to_revocation(acmems: Acmems, config: Path, tmp_path: Path) -> None:
    """Names that no public CA issues are certified, trusted by the root, renewed, revoked and listed."""
    _, csr = make_key_and_csr(tmp_path, NAMES, addresses=["10.1.2.3"])
    reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 200, reply.text
    root = run_acmems("ca", "root", config).stdout
    assert curl(acmems.sign_url.replace("/sign", "/ca/office.pem")).text == root
    assert verify_chain(reply.body, root).endswith("OK")
    assert curl_sign(acmems.sign_url, csr).body == reply.body
    (listed,) = json.loads(run_acmems("list", "--json", config).stdout)["certificates"]
    assert (listed["issuer"], listed["state"]) == ("local:office", "fresh")
    renewed = run_acmems("renew", config, "printer")
    assert renewed.returncode == 0, renewed.stderr
    again = curl_sign(acmems.sign_url, csr)
    assert again.body != reply.body
    before = crl(acmems)
    assert len(before) == 0
    revoked = run_acmems("revoke", "--yes", config, "printer", "--reason", "superseded")
    assert revoked.returncode == 0, revoked.stderr
    (entry,) = crl(acmems)
    assert entry.serial_number == x509.load_pem_x509_certificate(again.body).serial_number
    assert number_of(crl(acmems)) > number_of(before)
    assert curl_sign(acmems.sign_url, csr).body not in {reply.body, again.body}


def number_of(revoked: x509.CertificateRevocationList) -> int:
    return revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_what_is_not_permitted(acmems: Acmems, config: Path, tmp_path: Path) -> None:
    """A name outside is refused, and `explain` says why; nothing is signed for the others of the request."""
    _, csr = make_key_and_csr(tmp_path, ["printer", "www.example.com"])
    assert curl_sign(acmems.sign_url, csr).status == 403
    explained = run_acmems("explain", config, "--address", "192.0.2.1", "--csr", csr)
    assert explained.returncode == 1
    assert "no 'permit' of [local-ca \"office\"] covers www.example.com" in explained.stdout


def test_a_restart(config: Path, tmp_path: Path) -> None:
    """What was issued and revoked is known after it, and the number of the list has grown."""
    _, csr = make_key_and_csr(tmp_path, ["printer"])
    with Acmems(config.read_text()) as acmems:
        chain = curl_sign(acmems.sign_url, csr).body
        assert run_acmems("revoke", "--yes", config, "printer").returncode == 0
        before = crl(acmems)
        again = curl_sign(acmems.sign_url, csr).body
    with Acmems(config.read_text()) as acmems:
        assert [each.serial_number for each in crl(acmems)] == [each.serial_number for each in before]
        assert number_of(crl(acmems)) > number_of(before)
        assert curl_sign(acmems.sign_url, csr).body == again != chain


def test_another_ca_of_the_same_name(config: Path, tmp_path: Path) -> None:
    """Its root is another one, so what the former has issued is not delivered as its own."""
    _, csr = make_key_and_csr(tmp_path, ["printer"])
    with Acmems(config.read_text()) as acmems:
        chain = curl_sign(acmems.sign_url, csr).body
    for name in ("root.pem", "root-key.pem", "intermediate.pem", "intermediate-key.pem"):
        (tmp_path / "ca" / name).unlink()
    assert run_acmems("ca", "init", config).returncode == 0
    with Acmems(config.read_text()) as acmems:
        assert curl_sign(acmems.sign_url, csr).body != chain


def test_renewal_ahead(config: Path, tmp_path: Path) -> None:
    """What is due is renewed before its machine asks, without a question to anybody."""
    _, csr = make_key_and_csr(tmp_path, ["printer"])
    with Acmems(config.read_text()) as acmems:
        curl_sign(acmems.sign_url, csr)
        wait_until(lambda: bool(rows(tmp_path, "SELECT 1 FROM renewals")), "the renewal is planned", 60)
    change(tmp_path, "UPDATE renewals SET due = 0, next_try = 0")
    with Acmems(config.read_text()):
        wait_until(lambda: len(rows(tmp_path, "SELECT 1 FROM chains")) == 2, "the certificate is renewed", 60)


def rows(folder: Path, statement: str) -> list[object]:
    with sqlite3.connect(folder / "ca" / "state.sqlite") as database:
        return database.execute(statement).fetchall()


def change(folder: Path, statement: str) -> None:
    with sqlite3.connect(folder / "ca" / "state.sqlite") as database:
        database.execute(statement)


def test_nothing_else_is_published(acmems: Acmems) -> None:
    """Other paths are 404, other methods 405."""
    url = acmems.sign_url.removesuffix("/sign")
    for path in ("", "lab.crl", "office.key", "../ca/office.pem", "office.pem?x", "office", ".pem"):
        assert curl(f"{url}/ca/{path}", "--path-as-is").status == 404
    assert curl(f"{url}/ca/office.pem", "-d", "x").status == 405


def test_no_ca_was_made(tmp_path: Path) -> None:
    """The server does not start, and says what to do."""
    path = tmp_path / "acmems.ini"
    path.write_text(TEXT.format(folder=tmp_path, port=free_port()))
    with pytest.raises(PeerFailed, match="'acmems ca init' with this configuration makes it"):
        Acmems(path.read_text()).__enter__()
