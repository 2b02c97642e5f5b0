"""`acmems explain`: what each block says and why, the exit code, and the three ways of printing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request

from acmems.auth import Block
from acmems.commands import main as cli
from acmems.issuing.limits.accounting import account_of
from acmems.issuing.limits.charges import Renewal
from acmems.issuing.limits.ledger import Ledger
from acmems.issuing.limits.limit import LETSENCRYPT
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.limits.buckets import BucketRecords
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

CONFIG = """
[account]
dir = {folder}/account
[verification "http"]
type = http01
[verification "dns"]
type = dns01-dnsUpdate
dns-server = 192.0.2.53
[storage "disk"]
type = file
directory = {folder}/chains
[mgmt]
default-verification = http, dns
default-storage = disk
[auth "web servers"]
ip = 192.0.2.0/24
domain = www.example.org
domain = *.web.example.org
address = 192.0.2.80
[auth "mail"]
ip = 198.51.100.25
hmac_key = 4c1f5b2d9e7a80364c0b
hmac-fresh = 300
domain = mail.example.org
verification = http
storage = none
[auth "wildcard"]
hmac_type = sha384
hmac_key = e08b63f1c2d74a95e10f
domain = **.example.org
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with three blocks; nothing that it names has to exist."""
    path = tmp_path / "acmems.ini"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def asked(capsys: pytest.CaptureFixture[str], config: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON document."""
    code = cli.main(["explain", str(config), "--json", *options])
    told = capsys.readouterr()
    assert told.err == ""
    document = json.loads(told.out)
    assert isinstance(document, dict)
    return code, document


def printed(capsys: pytest.CaptureFixture[str], config: Path, *options: str) -> list[str]:
    cli.main(["explain", str(config), *options])
    return capsys.readouterr().out.splitlines()


def csr(*names: str, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


class TestAnswers:
    """What is said, as the JSON document has it."""

    def test_granted(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """The document says which block grants, what would prove each name, and where the chain is kept."""
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--name", "www.example.org")
        assert code == 0
        assert document == {
            "granted": True,
            "status": None,
            "address": "192.0.2.7",
            "methods": [],
            "names": ["www.example.org"],
            "csr": None,
            "block": "web servers",
            "verifications": {"www.example.org": ["http", "dns"]},
            "storage": "disk",
            "blocks": [
                {"block": "web servers", "granted": True, "reasons": []},
                {
                    "block": "mail",
                    "granted": False,
                    "reasons": [
                        "the address 192.0.2.7 is not in its ip (198.51.100.25)",
                        "it requires an HMAC with sha256",
                        "www.example.org matches no domain of it",
                    ],
                },
                {"block": "wildcard", "granted": False, "reasons": ["it requires an HMAC with sha384"]},
            ],
            "limits": None,
            "dns": None,
        }

    def test_every_reason_of_a_refusal(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Each block says all that stands in the way: the address, the HMAC, and each name."""
        code, document = asked(
            capsys, config, "--address", "203.0.113.1", "--name", "b.example.com", "--name", "a.example.com"
        )
        assert (code, document["granted"], document["status"], document["block"]) == (1, False, 403, None)
        assert (document["verifications"], document["storage"]) == ({}, None)
        assert document["blocks"][1]["reasons"] == [
            "the address 203.0.113.1 is not in its ip (198.51.100.25)",
            "it requires an HMAC with sha256",
            "a.example.com matches no domain of it",
            "b.example.com matches no domain of it",
        ]

    @pytest.mark.parametrize(
        ("options", "block", "storage"),
        [
            (("--address", "198.51.100.25", "--name", "mail.example.org"), "mail", "none"),
            (("--address", "203.0.113.1", "--name", "mail.example.org"), "wildcard", "disk"),
        ],
    )
    def test_the_method_hmac(
        self,
        capsys: pytest.CaptureFixture[str],
        config: Path,
        options: tuple[str, ...],
        block: str,
        storage: str,
    ) -> None:
        """It stands for the right HMAC of each block, with its hash function and a fresh time."""
        assert asked(capsys, config, *options)[0] == 1
        code, document = asked(capsys, config, *options, "--method", "hmac")
        assert (code, document["block"], document["storage"]) == (0, block, storage)
        assert document["methods"] == ["hmac"]

    def test_wildcards(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """A wildcard is proved by DNS alone, and refused where there is none."""
        name = ("--name", "*.example.org", "--method", "hmac")
        code, document = asked(capsys, config, "--address", "203.0.113.1", *name)
        assert (code, document["verifications"]) == (0, {"*.example.org": ["dns"]})
        config.write_text(config.read_text() + "verification = http\n")
        code, document = asked(capsys, config, "--address", "203.0.113.1", *name)
        assert (code, document["status"]) == (1, 403)
        assert document["blocks"][2]["reasons"] == ["*.example.org needs a verification by DNS"]

    def test_addresses_as_names(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """An IP address is proved by http-01, in the block that grants it."""
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--name", "192.0.2.80")
        assert (code, document["names"]) == (0, ["192.0.2.80"])
        assert document["verifications"] == {"192.0.2.80": ["http"]}
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--name", "192.0.2.81")
        assert (code, document["blocks"][0]["reasons"]) == (1, ["192.0.2.81 matches no address of it"])

    def test_each_name_has_its_own(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Of one request, a wildcard may be proved by DNS and another name by http-01."""
        names = ("--name", "*.example.org", "--name", "www.example.org", "--method", "hmac")
        code, document = asked(capsys, config, "--address", "203.0.113.1", *names)
        assert code == 0
        assert document["verifications"] == {"*.example.org": ["dns"], "www.example.org": ["http", "dns"]}

    def test_the_address_alone(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Without names, the answer is which blocks take the client."""
        code, document = asked(capsys, config, "--address", "192.0.2.7")
        assert (code, document["granted"], document["block"]) == (0, True, None)
        assert [each["granted"] for each in document["blocks"]] == [True, False, False]
        code, document = asked(capsys, config, "--address", "203.0.113.1")
        assert (code, document["granted"], document["status"]) == (1, False, 403)

    def test_the_policy_is_the_servers(
        self, capsys: pytest.CaptureFixture[str], config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What blocks say when the server asks them is what is printed."""
        monkeypatch.setattr(Block, "refusal", lambda *_: "it is a Thursday")
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--name", "www.example.org")
        assert (code, document["blocks"][0]["reasons"]) == (1, ["it is a Thursday"])
        monkeypatch.undo()
        monkeypatch.setattr(Block, "may_accept", lambda *_: False)
        assert asked(capsys, config, "--address", "192.0.2.7", "--name", "www.example.org")[0] == 1

    def test_no_block(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """Without any block, everything is refused."""
        path = tmp_path / "none.ini"
        path.write_text("[account]\ndir = /nowhere\n")
        assert cli.main(["explain", str(path), "--address", "192.0.2.7", "--name", "a.example.org"]) == 1
        assert capsys.readouterr().out == "refused with 403: there is no auth block\n"


class TestRequests:
    """A CSR is examined as the server does."""

    def test_a_good_one(self, capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path) -> None:
        """Its names are those that are asked for."""
        file = tmp_path / "host.csr"
        file.write_bytes(csr("www.example.org", "a.web.example.org"))
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--csr", str(file))
        assert (code, document["names"]) == (0, ["a.web.example.org", "www.example.org"])

    def test_from_standard_input(
        self, capsys: pytest.CaptureFixture[str], config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A hyphen stands for standard input."""
        stdin = io.TextIOWrapper(io.BytesIO(csr("www.example.org")))
        monkeypatch.setattr(sys, "stdin", stdin)
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--csr", "-")
        assert (code, document["names"]) == (0, ["www.example.org"])

    @pytest.mark.parametrize(
        ("address", "status", "reason"),
        [
            ("192.0.2.7", 415, "it accepts the client, but not the CSR"),
            ("203.0.113.1", 403, "the address 203.0.113.1 is not in its ip (192.0.2.0/24)"),
        ],
    )
    def test_a_bad_one(
        self,
        capsys: pytest.CaptureFixture[str],
        config: Path,
        tmp_path: Path,
        address: str,
        status: int,
        reason: str,
    ) -> None:
        """What is wrong with it is said even where the client would only hear 403."""
        file = tmp_path / "host.csr"
        file.write_bytes(b"no CSR")
        code, document = asked(capsys, config, "--address", address, "--csr", str(file))
        assert (code, document["status"], document["names"]) == (1, status, [])
        assert "it is not PEM" in document["csr"]
        assert document["blocks"][0]["reasons"] == [reason]

    def test_one_that_is_too_large(
        self, capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
    ) -> None:
        """`max-size` counts."""
        file = tmp_path / "host.csr"
        file.write_bytes(b"\n" * 20_000 + csr("www.example.org"))
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--csr", str(file))
        assert (code, document["status"]) == (1, 413)
        assert "16384" in document["csr"]

    def test_too_many_names(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """The CSR that is made for `--name` has to hold as well."""
        names = [word for number in range(101) for word in ("--name", f"n{number}.web.example.org")]
        code, document = asked(capsys, config, "--address", "192.0.2.7", *names)
        assert (code, document["status"]) == (1, 415)

    def test_the_key_of_the_account(
        self, capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
    ) -> None:
        """A CSR for the account's own key is refused, though a block grants its names."""
        key = ec.generate_private_key(ec.SECP256R1())
        (tmp_path / "account").mkdir(mode=0o700)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (tmp_path / "account" / "account.pem").touch(mode=0o600)
        (tmp_path / "account" / "account.pem").write_bytes(pem)
        file = tmp_path / "host.csr"
        file.write_bytes(csr("www.example.org", key=key))
        code, document = asked(capsys, config, "--address", "192.0.2.7", "--csr", str(file))
        assert (code, document["granted"], document["status"]) == (1, False, 415)
        assert "public key of the ACME account" in document["csr"]
        assert document["blocks"][0]["granted"] is True


class TestUsage:
    """What is no answer is exit code 2."""

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--name", "www.example.org"), "required: --address"),
            (("--address", "nowhere"), "'nowhere' does not appear to be an IPv4 or IPv6 address"),
            (("--address", "192.0.2.7", "--name", "foo_bar"), "only letters, digits and hyphens"),
            (("--address", "192.0.2.7", "--name", "a.example", "--csr", "x"), "not allowed with"),
            (("--address", "192.0.2.7", "--method", "password"), "invalid choice: 'password'"),
        ],
    )
    def test_wrong_options(
        self, capsys: pytest.CaptureFixture[str], config: Path, options: tuple[str, ...], words: str
    ) -> None:
        """The message says which option, and why."""
        with pytest.raises(SystemExit) as caught:
            cli.main(["explain", str(config), *options])
        assert caught.value.code == 2
        assert words in capsys.readouterr().err

    def test_a_csr_that_cannot_be_read(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """A script must not take a missing file for a refusal."""
        assert cli.main(["explain", str(config), "--address", "192.0.2.7", "--csr", "/nowhere"]) == 2
        assert capsys.readouterr().err == "acmems: /nowhere: No such file or directory\n"


class TestPrinting:
    """Lines for a pipe, a table for a person."""

    def test_lines(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Each line stands for itself."""
        told = printed(
            capsys, config, "--address", "198.51.100.25", "--name", "mail.example.org", "--method", "hmac"
        )
        address = "the address 198.51.100.25 is not in its ip (192.0.2.0/24)"
        assert told == [
            'granted: block "mail"',
            f'block "web servers" refuses: {address}; mail.example.org matches no domain of it',
            'block "mail" grants',
            'block "wildcard" grants: but an earlier block decides',
            "name mail.example.org: verification http (http-01)",
            "storage none",
        ]

    def test_lines_of_a_refusal(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """The first line has the status."""
        told = printed(capsys, config, "--address", "203.0.113.1", "--name", "a.example.org")
        assert told[0] == "refused with 403: no auth block grants the request"
        assert printed(capsys, config, "--address", "203.0.113.1")[0].endswith(
            "no auth block accepts the client"
        )

    def test_what_a_client_may_ask_for(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Without names, each block that takes the client says what it grants."""
        told = printed(capsys, config, "--address", "192.0.2.7")
        assert told[0] == "accepted: the client, for the names that its blocks grant"
        assert told[1] == (
            'block "web servers" accepts: for www.example.org, *.web.example.org, 192.0.2.80/32'
        )

    def test_nothing_but_what_the_ca_knows(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """A block without a verification says so."""
        config.write_text(
            config.read_text().replace("default-verification = http, dns", "default-verification =")
        )
        told = printed(capsys, config, "--address", "192.0.2.7", "--name", "www.example.org")
        assert (
            "name www.example.org: verification none: only if the CA has validated the name already" in told
        )

    @pytest.mark.parametrize("colour", [True, False])
    def test_table(self, config: Path, monkeypatch: pytest.MonkeyPatch, colour: bool) -> None:
        """At a terminal, columns are aligned, and answers are coloured unless NO_COLOR is set."""
        monkeypatch.setenv("NO_COLOR", "" if colour else "1")
        options = ["--address", "192.0.2.7", "--name", "www.example.org", "--name", "x.web.example.org"]
        told = at_a_terminal(["explain", str(config), *options])
        assert ("\x1b[32m" in told) is ("\x1b[31m" in told) is colour
        reasons = [
            "the address 192.0.2.7 is not in its ip (198.51.100.25)",
            "it requires an HMAC with sha256",
            "www.example.org matches no domain of it",
            "x.web.example.org matches no domain of it",
        ]
        assert re.sub(r"\x1b\[\d+m", "", told).splitlines() == [
            'granted: block "web servers"',
            "",
            "web servers  grants",
            f"mail         refuses  {reasons[0]}",
            *(f"{'':22}{reason}" for reason in reasons[1:]),
            "wildcard     refuses  it requires an HMAC with sha384",
            "",
            "www.example.org    http (http-01), else dns (dns-01)",
            "x.web.example.org  http (http-01), else dns (dns-01)",
            "storage            disk",
        ]

    def test_a_secret_is_not_printed(self, capsys: pytest.CaptureFixture[str], config: Path) -> None:
        """Neither the secret of a block nor an HMAC made with it is in any output."""
        config.write_text(
            config.read_text().replace(
                "hmac_key = e08b63f1c2d74a95e10f", "hmac_key = a-secret-of-mine-5f81c2"
            )
        )
        for more in ((), ("--json",)):
            options = ("--address", "203.0.113.1", "--name", "a.example.org", "--method", "hmac", *more)
            told = "\n".join(printed(capsys, config, *options))
            assert "a-secret-of-mine-5f81c2" not in told
            assert not re.search("[0-9a-f]{64}", told)


def at_a_terminal(arguments: list[str]) -> str:
    """Return what a command prints where standard output is a terminal."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, contextlib.redirect_stdout(terminal):
        cli.main(arguments)
    read = b""
    with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as file:
        while chunk := file.read(65536):
            read += chunk
    return read.decode().replace("\r\n", "\n")


class TestLimits:
    """What a request would take of the limits of the CA."""

    URL = "https://ca.example/account/1"
    DIRECTORY = "https://ca.example/directory"

    @pytest.fixture
    def database(self, config: Path) -> Iterator[SqliteDatabase]:
        """The state of a server whose account has the limits of Let's Encrypt."""
        account = config.parent / "account"
        account.mkdir(mode=0o700)
        text = f"[account]\nacme-server = {self.DIRECTORY}\nlimits = letsencrypt\n"
        config.write_text(config.read_text().replace("[account]\n", text, 1))
        (account / "registration.json").write_text(json.dumps({"uri": self.URL, "body": {}}))
        database = SqliteDatabase.open(account / "state.sqlite")
        yield database
        database.close()

    def use(self, database: SqliteDatabase, *names: str) -> None:
        """Reserve what an order needs."""
        ledger = Ledger(LETSENCRYPT, account_of(self.DIRECTORY, self.URL), BucketRecords(database), SYSTEM)
        ledger.reserve([Identifier.dns(each) for each in names], Renewal(), "web").result(20)

    def explained(
        self, capsys: pytest.CaptureFixture[str], config: Path
    ) -> dict[str, tuple[int, int, int, bool, str | None]]:
        """Return of each limit what is used, taken, left, whether it refuses, why it is not counted."""
        _, document = asked(capsys, config, "--address", "192.0.2.7", "--name", "www.example.org")
        return {
            each["counts"]: (
                *(each["used"], each["takes"], each["left"]),
                *(each["until"] is not None, each["exempt"]),
            )
            for each in document["limits"]
        }

    def test_a_new_certificate(
        self, capsys: pytest.CaptureFixture[str], config: Path, database: SqliteDatabase
    ) -> None:
        """It takes a place for the account, the domain and the names, and none for failures."""
        self.use(database, "mail.example.org")
        assert self.explained(capsys, config) == {
            "orders": (1, 1, 298, False, None),
            "certificates-per-domain": (1, 1, 48, False, None),
            "certificates-per-names": (0, 1, 4, False, None),
            "failures-per-name": (0, 0, 5, False, None),
        }
        assert {each.instant > 0 for each in BucketRecords(database).all()} == {True}, "nothing is taken"

    def test_a_renewal_of_names_that_are_used_up(
        self, capsys: pytest.CaptureFixture[str], config: Path, database: SqliteDatabase
    ) -> None:
        """What exempts renewals counts nothing; what is full says until when."""
        request = make_request("www.example.org")
        record = ChainRecord.of(
            make_chain(request), identity="1", directory=self.DIRECTORY, profile=None, issued=SYSTEM.now()
        )
        ChainRecords(database).add(record).result(20)
        for _ in range(5):
            self.use(database, "www.example.org")
        found = self.explained(capsys, config)
        assert found["orders"] == (5, 0, 295, False, "renewal")
        assert found["certificates-per-names"] == (5, 0, 0, True, None)
        cli.main(["explain", str(config), "--address", "192.0.2.7", "--name", "www.example.org"])
        lines = capsys.readouterr().out.splitlines()
        assert (
            "limit new orders per account: not counted, because these names had a certificate lately" in lines
        )
        (full,) = [each for each in lines if "exact set" in each]
        assert re.search(r": refused until 20\S+Z: 5 of 5 used$", full)

    def test_a_request_that_is_refused(
        self, capsys: pytest.CaptureFixture[str], config: Path, database: SqliteDatabase
    ) -> None:
        """It costs nothing."""
        _, document = asked(capsys, config, "--address", "192.0.2.7", "--name", "elsewhere.example")
        assert document["limits"] is None
