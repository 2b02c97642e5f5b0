"""What `contrib/acmems-client` asks, when it asks again, what it takes, and what it says of itself."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import re
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.client_answers import (
    DAY,
    ISSUER_NAME,
    RawAnswer,
    answering,
    certificate,
    issue,
    issued,
    issuer_certificate,
)
from tests.client_machine import Machine
from tests.peers import free_port, make_key_and_csr, names_of, run

from acmems import __version__


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(params=["curl", "wget"])
def asking(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine that does not really sleep, but notes for how long it would."""
    machine = Machine(tmp_path, asks_with=request.param)
    machine.replace("sleep", f'echo "$1" >>{machine.folder}/slept')
    return machine


def slept(machine: Machine) -> list[int]:
    path = machine.folder / "slept"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


class TestRequests:
    """What is sent."""

    def test_the_fresh_hmac_covers_time_and_body(self, machine: Machine) -> None:
        """With `hmac-fresh`, the header has the time, and its HMAC covers a line with it before the CSR."""
        secret = machine.folder / "secret"
        secret.write_text("s3cret\n")
        secret.chmod(0o600)
        machine.replace("sleep", ":")
        with answering(RawAnswer(503), issued()) as server:
            config = machine.configure(
                server.url, hmac_key_file=secret, hmac_type="sha384", hmac_fresh="yes", retry_for=900
            )
            began = int(time.time())
            assert machine.run(config).returncode == 0
        for headers, body in server.requests:
            found = re.fullmatch(
                r"hmac name=sha384, time=(\d+), hash=([0-9a-f]{96})", headers["Authentication"]
            )
            assert found
            assert began <= int(found[1]) <= time.time()
            expected = hmac.new(b"s3cret", found[1].encode() + b"\n" + body, hashlib.sha384)
            assert expected.hexdigest() == found[2]

    def test_a_csr_with_every_kind_of_name(self, machine: Machine) -> None:
        """Wildcards, and addresses of both families, stand in the CSR, in lower case."""
        names = ["*.Example.org", "example.org", "192.0.2.7", "2001:DB8::7"]
        with answering(issued()) as server:
            config = machine.configure(server.url, name=names)
            assert machine.run(config).returncode == 0
            assert machine.run(config).returncode == 0
        csr = x509.load_pem_x509_csr(server.requests[0][1])
        san = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert san.get_values_for_type(x509.DNSName) == ["*.example.org", "example.org"]
        assert san.get_values_for_type(x509.IPAddress) == [
            ipaddress.ip_address("192.0.2.7"),
            ipaddress.ip_address("2001:db8::7"),
        ]
        assert list(csr.subject) == []
        assert server.requests[1][1] == server.requests[0][1], "the CSR is made once"

    @pytest.mark.parametrize("kind", ["ec256", "ec384", "rsa2048", "rsa3072"])
    def test_kinds_of_keys(self, machine: Machine, kind: str) -> None:
        """The new key is of the kind that the configuration names."""
        with answering(RawAnswer(403)) as server:
            machine.run(machine.configure(server.url, key_type=kind))
        public = x509.load_pem_x509_csr(server.requests[0][1]).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
        assert f"{kind[:-3] if kind.startswith('ec') else 'rsa'}{public.key_size}" == kind

    def test_an_existing_key_is_used_as_it_is(self, machine: Machine) -> None:
        """A key that is there gets a CSR and a chain; neither its content nor its mode changes."""
        key, _ = make_key_and_csr(machine.ssl, ["host.example.org"], stem="host")
        key.chmod(0o640)
        before = machine.snapshot()["host.key"]
        with answering(issued()) as server:
            assert machine.run(machine.configure(server.url, rotate_key="yes")).returncode == 0
        assert machine.snapshot()["host.key"] == before

    def test_an_existing_csr_is_sent_as_it_is(self, machine: Machine) -> None:
        """With a CSR of one's own, names and key are those in it, and the private key may be elsewhere."""
        key, csr = make_key_and_csr(machine.folder, ["own.example.org"])
        with answering(issued()) as server:
            config = machine.configure(server.url, name=None, key=None, csr=csr)
            assert machine.run(config).returncode == 0
            assert server.requests[0][1] == csr.read_bytes()
            config = machine.configure(server.url, name=None, key=key, csr=csr, combined=machine.ssl / "both")
            assert machine.run(config).returncode == 0
        assert (machine.ssl / "both").read_bytes().endswith(key.read_bytes())

    def test_a_csr_for_another_key_is_not_sent(self, machine: Machine) -> None:
        """A CSR and a key that do not belong together are told before a certificate is ordered."""
        _, csr = make_key_and_csr(machine.folder, ["own.example.org"])
        key, _ = make_key_and_csr(machine.folder, ["own.example.org"], stem="other")
        with answering(issued()) as server:
            done = machine.run(machine.configure(server.url, name=None, key=key, csr=csr))
            assert server.requests == []
        assert (done.returncode, done.stderr) == (1, f"acmems-client: host: {csr} is not for the key {key}\n")

    def test_new_names_make_a_new_csr(self, machine: Machine) -> None:
        """A name that is added is asked for, with the same key."""
        with answering(issued()) as server:
            machine.run(machine.configure(server.url))
            key = (machine.ssl / "host.key").read_bytes()
            assert (
                machine.run(machine.configure(server.url, name=["a.example.org", "b.example.org"])).returncode
                == 0
            )
        assert (machine.ssl / "host.key").read_bytes() == key
        assert names_of((machine.ssl / "host.pem").read_bytes()) == {"a.example.org", "b.example.org"}

    def test_a_proxy_is_used_only_when_told(self, asking: Machine) -> None:
        """Variables of the environment do not send a CSR through a proxy; the setting does."""
        with answering(issued()) as server, answering(RawAnswer(403)) as proxy:
            address = proxy.url.removesuffix("/sign")
            asking.env = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY"), address)
            assert asking.run(asking.configure(server.url)).returncode == 0
            assert proxy.requests == []
            asking.env = {"no_proxy": "127.0.0.1"}
            assert asking.run(asking.configure(server.url, proxy=address)).returncode == 1
            assert len(proxy.requests) == 1

    def test_settings_of_the_user_do_not_matter(self, asking: Machine) -> None:
        """What root has in `.curlrc` or `.wgetrc` changes nothing."""
        asking.env = {"HOME": str(asking.folder)}
        (asking.folder / ".curlrc").write_text('header = "X-Odd: 1"\n')
        (asking.folder / ".wgetrc").write_text("header = X-Odd: 1\n")
        with answering(issued()) as server:
            assert asking.run(asking.configure(server.url)).returncode == 0
        assert "X-Odd" not in server.requests[0][0]


class TestAskingAgain:
    """When it asks again, and whom."""

    @pytest.mark.parametrize("status", [408, 429, 503, 504])
    def test_retry_after_is_honoured(self, asking: Machine, status: int) -> None:
        """It waits for as long as the server says, and a random time more."""
        with answering(RawAnswer(status, b"busy\n", {"Retry-After": "40"}), issued()) as server:
            done = asking.run(asking.configure(server.url, retry_for=900))
        assert (done.returncode, done.stderr) == (0, "")
        [seconds] = slept(asking)
        assert 40 <= seconds <= 80

    def test_waiting_has_a_bound(self, asking: Machine) -> None:
        """What takes longer than `retry-for` is left to the next run."""
        with answering(RawAnswer(503, b"down\n", {"Retry-After": "901"})) as server:
            done = asking.run(asking.configure(server.url, retry_for=900))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"acmems-client: host: no new certificate: {server.url}: status 503: down\n"
        assert slept(asking) == []

    @pytest.mark.parametrize("value", ["soon", "-1", "99999999999999999999", "Wed, 21 Oct 2037 07:28:00 GMT"])
    def test_a_strange_retry_after_is_none(self, asking: Machine, value: str) -> None:
        """A date or nonsense counts as nothing said."""
        with answering(RawAnswer(503, b"", {"Retry-After": value}), issued()) as server:
            assert asking.run(asking.configure(server.url, retry_for=900)).returncode == 0
        [seconds] = slept(asking)
        assert 2 <= seconds <= 4

    @pytest.mark.parametrize("status", [403, 413, 415, 421])
    def test_a_refusal_is_final(self, asking: Machine, status: int) -> None:
        """What the next server would refuse as well is told at once, in the server's words."""
        with answering(RawAnswer(status, b"because \x1b[31mred\n")) as server, answering(issued()) as other:
            done = asking.run(asking.configure([server.url, other.url], retry_for=900))
        assert done.returncode == 1
        assert done.stderr.startswith(
            f"acmems-client: host: no new certificate: {server.url}: status {status}: because [31mred"
        )
        assert (slept(asking), other.requests) == ([], [])

    def test_servers_take_turns(self, asking: Machine) -> None:
        """Where one does not answer, is broken, or is no acmems, the next one is asked."""
        closed = f"http://127.0.0.1:{free_port()}/sign"
        page = RawAnswer(200, b"<html>")
        with (
            answering(RawAnswer(500)) as broken,
            answering(RawAnswer(302, b"", {"Location": "http://192.0.2.1/"})) as elsewhere,
            answering(page) as login,
            answering(issued()) as good,
        ):
            servers = [closed, broken.url, elsewhere.url, login.url, good.url]
            done = asking.run(asking.configure(servers, retry_for=900))
            assert (done.returncode, done.stderr) == (0, "")
            done = asking.run(asking.configure(servers[:-1]))
        assert slept(asking) == []
        assert done.returncode == 1
        for url, reason in zip(
            servers, ["no answer: ", "status 500; ", "status 302; ", "this is no chain"], strict=False
        ):
            assert f"{url}: {reason}" in done.stderr
        assert done.stderr.count("\n") == 1


class TestChains:
    """What is taken for a chain."""

    @pytest.mark.parametrize("case", ["expired", "not yet", "unsigned", "reversed", "key", "text", "half"])
    def test_what_is_refused(self, machine: Machine, case: str) -> None:
        """Only certificates, valid now, each signed by the next, are installed."""
        stranger = ec.generate_private_key(ec.SECP256R1())

        def answer(csr: bytes) -> RawAnswer:
            chain = issue(csr)
            leaf, end, rest = chain.partition(b"-----END CERTIFICATE-----\n")
            return RawAnswer(
                body={
                    "expired": issue(csr, left=-DAY),
                    "not yet": issue(csr, left=95 * DAY),
                    "unsigned": leaf + end + certificate(stranger.public_key(), ISSUER_NAME, signer=stranger),
                    "reversed": rest + leaf + end,
                    "key": chain + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                    "text": b"Hello\n" + chain,
                    "half": chain[:-100],
                }[case]
            )

        reasons = {
            "expired": "the certificate has expired, or the clock of this machine is wrong",
            "not yet": "the certificates do not belong together: ",
            "unsigned": "the certificates do not belong together: ",
            "reversed": "the certificate is for another key",
        }
        with answering(answer) as server:
            done = machine.run(machine.configure(server.url))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{server.url}: {reasons.get(case, 'this is no chain of certificates')}" in done.stderr
        assert machine.snapshot() == {}

    def test_an_issuer_that_the_machine_trusts(self, machine: Machine) -> None:
        """A chain with a wrong issuer is refused where this machine trusts the right one, too."""
        roots = machine.folder / "roots"
        roots.mkdir()
        machine.env = {"SSL_CERT_DIR": str(roots)}
        (roots / "issuer.pem").write_bytes(issuer_certificate())
        run("openssl", "rehash", ".", folder=roots)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a third CA")])
        other = certificate(ec.generate_private_key(ec.SECP256R1()).public_key(), name)
        end = b"-----END CERTIFICATE-----\n"
        with answering(lambda csr: RawAnswer(body=issue(csr).partition(end)[0] + end + other)) as server:
            done = machine.run(machine.configure(server.url))
        assert (done.returncode, done.stdout) == (1, "")
        assert "the certificates do not belong together: " in done.stderr

    def test_a_leaf_alone_and_foreign_line_ends_are_accepted(self, machine: Machine) -> None:
        """A local CA's root need not be sent; CRLF becomes LF."""
        end = b"-----END CERTIFICATE-----\n"
        with answering(lambda csr: RawAnswer(body=issue(csr).partition(end)[0] + end)) as server:
            assert machine.run(machine.configure(server.url)).returncode == 0
        with answering(lambda csr: RawAnswer(body=issue(csr).replace(b"\n", b"\r\n"))) as server:
            assert machine.run(machine.configure(server.url)).returncode == 0
        assert b"\r" not in (machine.ssl / "host.pem").read_bytes()


class TestRotation:
    """A new key with each new certificate, for those who want it."""

    def answer(self, csr: bytes, age: int) -> RawAnswer:
        headers = {"Cache-Control": "private, max-age=0", "Renew-After": f"{age}"}
        return RawAnswer(body=issue(csr), headers=headers)

    def test_new_key_when_renewal_is_due(self, machine: Machine) -> None:
        """Until the server says that renewal is due the key stays; then key and chain change together."""
        with answering(
            lambda csr: self.answer(csr, 5000),
            lambda csr: self.answer(csr, 0),
            lambda csr: self.answer(csr, 5000),
        ) as server:
            config = machine.configure(server.url, rotate_key="yes")
            keys = []
            for _ in range(4):
                assert machine.run(config).returncode == 0
                keys.append((machine.ssl / "host.key").read_bytes())
        assert keys[0] == keys[1] != keys[2] == keys[3]

    def test_the_old_key_stays_until_there_is_a_chain(self, machine: Machine) -> None:
        """A refusal leaves key and chain; the next try asks for the same new key."""
        with answering(issued(left=20 * DAY), RawAnswer(503), RawAnswer(503), issued()) as server:
            config = machine.configure(server.url, rotate_key="yes")
            assert machine.run(config).returncode == 0
            before = machine.snapshot()
            assert [machine.run(config).returncode for _ in range(2)] == [1, 1]
            assert machine.snapshot() == before
            done = machine.run(config)
        assert done.returncode == 0
        assert f", for a new key in {machine.ssl}/host.key" in done.stdout
        bodies = [body for _, body in server.requests]
        assert bodies[0] != bodies[1] == bodies[2] == bodies[3]

    def test_without_it_the_key_stays(self, machine: Machine) -> None:
        """By default a renewal is for the same key."""
        with answering(issued(left=20 * DAY), issued()) as server:
            config = machine.configure(server.url)
            machine.run(config)
            key = machine.snapshot()["host.key"]
            machine.run(config)
        assert machine.snapshot()["host.key"] == key


class TestMonitoring:
    """`--check`."""

    @pytest.mark.parametrize(
        ("left", "code", "text"),
        [
            (89 * DAY, 0, "OK: host: 98 % of its lifetime left, 88 days"),
            (22 * DAY, 1, "WARNING: host: 24 % of its lifetime left, 21 days"),
            (10 * DAY, 2, "CRITICAL: host: 11 % of its lifetime left, 9 days"),
        ],
    )
    def test_shares_of_the_lifetime(
        self, machine: Machine, left: datetime.timedelta, code: int, text: str
    ) -> None:
        """Warnings go by the share of the lifetime that is left."""
        with answering(
            issued(left=left - datetime.timedelta(minutes=1))
        ) as server:  # the days must not end just now
            config = machine.configure(server.url)
            machine.run(config)
        done = machine.run("--check", config)
        assert (done.returncode, done.stdout.partition("|")[0]) == (code, text)

    def test_limits_are_settings(self, machine: Machine) -> None:
        """Both limits can be changed."""
        with answering(issued(left=44 * DAY)) as server:
            config = machine.configure(server.url, warning=60, critical=50)
            machine.run(config)
        done = machine.run("--check", config)
        assert done.returncode == 2
        assert done.stdout.endswith("|host=48%;60:;50:;0;100\n")

    def test_why_it_is_late(self, machine: Machine) -> None:
        """The reason of the last failure and a failing hook are told, until they are over."""
        hook = machine.hook("broken", "exit 7")
        with answering(issued(left=20 * DAY), RawAnswer(503, b"no CA | today\n"), issued()) as server:
            config = machine.configure(server.url, hook=hook)
            assert machine.run(config).returncode == 3
            assert machine.run(config).returncode == 1
            done = machine.run("--check", config)
            assert done.returncode == 1
            text, _, figures = done.stdout.partition("|")
            assert (
                "; a hook has not succeeded since it changed; the last run failed: no new certificate: "
                in text
            )
            assert "status 503: no CA   today" in text
            assert figures == "host=22%;25:;12:;0;100\n"
            machine.hook("broken", "exit 0")
            assert machine.run(config).returncode == 0
        done = machine.run("--check", config)
        assert done.returncode == 0
        assert "hook" not in done.stdout

    def test_the_worst_comes_first(self, machine: Machine) -> None:
        """Several certificates share a line; a configuration that cannot be read is unknown."""
        with answering(issued(), issued(left=22 * DAY)) as server:
            configs = [machine.configure(server.url, stem) for stem in ("good", "late")]
            machine.run(*configs)
        configs.append(machine.configure(server.url, "odd", colour="red"))
        done = machine.run("--check", *configs)
        assert done.returncode == 3
        assert done.stdout.startswith("UNKNOWN: acmems-client: ")
        assert ", late: 24 % of its lifetime left" in done.stdout
        done = machine.run("--check", *configs[:2])
        assert done.returncode == 1
        assert done.stdout.startswith("WARNING: late: 24 %")

    def test_a_key_that_others_can_read(self, machine: Machine) -> None:
        """A key that everybody can read is worth a warning."""
        with answering(issued()) as server:
            config = machine.configure(server.url)
            machine.run(config)
        (machine.ssl / "host.key").chmod(0o644)
        done = machine.run("--check", config)
        assert done.returncode == 1
        assert f"days; others have access to {machine.ssl}/host.key|" in done.stdout

    def test_what_is_wrong_with_files(self, machine: Machine) -> None:
        """A chain for another key or without a configured name is critical."""
        with answering(issued()) as server:
            config = machine.configure(server.url, name=["host.example.org", "192.0.2.7"])
            machine.run(config)
            assert machine.run("--check", config).returncode == 0
            machine.configure(server.url, name=["host.example.org", "new.example.org"])
            done = machine.run("--check", config)
            assert (done.returncode, "is not for DNS:new.example.org" in done.stdout) == (2, True)
            make_key_and_csr(machine.ssl, ["host.example.org"], stem="host")
            done = machine.run("--check", config)
            assert (done.returncode, "is not for the key" in done.stdout) == (2, True)


def test_version(machine: Machine) -> None:
    """The client has the version of the release that it comes with."""
    assert machine.run("--version").stdout == f"acmems-client {__version__}\n"
