"""Clients ask by HTTPS: curl, wget, openssl and Python against the server's own TLS."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.client_certificates import ClientAuthority
from tests.peers import (
    Acmems,
    Pebble,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
    run_acmems,
    wait_until,
)
from tests.peers.ca import make_tls_certificate
from tests.peers.process import PeerFailed

PLAIN_ON_TLS = "this port speaks HTTPS, not plain HTTP"


class Https:
    """Where a server listens by TLS, and the files of its certificate."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.port = free_port()
        self.folder = folder
        self.chain, self.key = folder / "tls-chain.pem", folder / "tls-key.pem"
        self.renew()
        settings.mgmt += (
            f"\ntls-listener = 127.0.0.1:{self.port}\ntls-certificate = {self.chain}\ntls-key = {self.key}"
        )

    def renew(self) -> None:
        """Put another certificate there."""
        make_tls_certificate(self.chain, self.key)
        self.key.chmod(0o600)

    @property
    def sign_url(self) -> str:
        return f"https://127.0.0.1:{self.port}/sign"

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.chain)

    def connect(self) -> ssl.SSLSocket:
        raw = socket.create_connection(("127.0.0.1", self.port), 20)
        return self.context().wrap_socket(raw, server_hostname="127.0.0.1")

    def s_client(self, *arguments: str) -> str:
        """Return what `openssl s_client` says of a connection."""
        ended = subprocess.run(
            [*self._client, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return (ended.stdout + ended.stderr).decode(errors="replace")

    def s_client_until_its_end(self, *arguments: str, typed: bytes) -> str:
        """Return what it says where something is typed, and the server ends the connection."""
        with subprocess.Popen(
            [*self._client, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(typed)
            client.stdin.flush()  # and not closed: it would not wait for an answer then
            return client.stdout.read().decode(errors="replace")

    @property
    def _client(self) -> list[str]:
        return ["openssl", "s_client", "-connect", f"127.0.0.1:{self.port}"]


@pytest.fixture
def https(settings: Settings, tmp_path: Path) -> Https:
    """A configuration that serves by TLS as well."""
    return Https(tmp_path, settings)


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[Acmems, Https]]:
    """A server for tests that change nothing of it."""
    pebble = request.getfixturevalue("pebble")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.of(pebble, Path(folder))
        settings.challenge_port = free_port()  # nobody asks there
        made = Https(Path(folder), settings)
        with Acmems(settings) as acmems:
            yield acmems, made


def test_a_csr_becomes_a_chain_by_https(
    settings: Settings, https: Https, tmp_path: Path, pebble: object
) -> None:
    """Curl and wget get their chains, which are the same as without TLS; HTTP/1.1 is agreed on."""
    _, csr = make_key_and_csr(tmp_path, ["one.example.org", "two.example.org"])
    trusting = ("--cacert", https.chain)
    with Acmems(settings) as acmems:
        reply = curl(https.sign_url, *trusting, "--data-binary", f"@{csr}")
        again = curl_sign(acmems.sign_url, csr)
        got = subprocess.run(
            ["wget", "-qO-", f"--ca-certificate={https.chain}", f"--post-file={csr}", https.sign_url],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        said = https.s_client("-alpn", "h2,http/1.1", "-tls1_3")
    assert reply.status == 200
    assert names_of(reply.body) == {"one.example.org", "two.example.org"}
    assert reply.body == again.body == got
    assert "ALPN protocol: http/1.1" in said
    assert "Secure Renegotiation IS NOT supported" in said
    assert "Compression: NONE" in said


def test_connections_are_kept_and_bodies_may_be_large(shared: tuple[Acmems, Https]) -> None:
    """Requests follow each other on one connection, and a body of megabytes is 413."""
    _, https = shared
    connection = http.client.HTTPSConnection("127.0.0.1", https.port, timeout=20, context=https.context())
    places = set()
    for _ in range(3):
        connection.request("POST", "/sign", b"x" * 16_000)
        assert connection.sock is not None
        places.add(connection.sock.getsockname())
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (415, True)
    assert len(places) == 1
    connection.close()
    over = https.folder / "over"
    over.write_bytes(b"x" * 3_000_000)
    assert curl(https.sign_url, "--cacert", https.chain, "--data-binary", f"@{over}").status == 413


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_clients_cannot_ask_for_a_new_handshake(shared: tuple[Acmems, Https], version: str) -> None:
    """A renegotiation ends the connection, and hurts nobody else."""
    _, https = shared
    said = https.s_client_until_its_end(version, typed=b"R\n")
    assert "Verification" in said or "Verify return code" in said
    if version == "-tls1_2":
        assert "no renegotiation" in said
    assert curl(https.sign_url, "--cacert", https.chain).status == 405


def test_old_versions_are_refused(shared: tuple[Acmems, Https]) -> None:
    """TLS 1.1 gets an alert, and the operator hears why."""
    acmems, https = shared
    said = https.s_client("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0")
    assert "protocol version" in said
    wait_until(lambda: "does not speak TLS 1.2 or newer" in acmems.log, "it is logged")


def test_plain_http_is_told_so(shared: tuple[Acmems, Https]) -> None:
    """HTTP at the port of HTTPS is 400 with the reason, and so is HTTPS at the port of HTTP in the log."""
    acmems, https = shared
    reply = curl(https.sign_url.replace("https", "http"))
    assert reply.status == 400
    assert PLAIN_ON_TLS in reply.text
    with pytest.raises(ssl.SSLError):
        https.context().wrap_socket(
            socket.create_connection(("127.0.0.1", acmems.port), 20), server_hostname="127.0.0.1"
        )
    wait_until(lambda: "this port speaks plain HTTP, not TLS" in acmems.log, "it is logged")


def test_half_open_handshakes_keep_nobody_waiting(shared: tuple[Acmems, Https]) -> None:
    """While 200 connections are silent or stop within their handshake, others are answered."""
    _, https = shared
    hello = _client_hello()
    pending = []
    for number in range(200):
        sock = socket.create_connection(("127.0.0.1", https.port), 20)
        sock.sendall(hello[: number * len(hello) // 200])
        pending.append(sock)
    assert curl(https.sign_url, "--cacert", https.chain).status == 405
    for sock in pending:
        sock.close()


def test_two_hundred_connections_at_once(shared: tuple[Acmems, Https]) -> None:
    """Each of 200 clients that are connected together is answered."""
    _, https = shared
    with ThreadPoolExecutor(20) as pool:
        connections = list(pool.map(lambda _: https.connect(), range(200)))
    for connection in connections:
        connection.sendall(b"GET /sign HTTP/1.1\r\nHost: a\r\n\r\n")
    answers = [connection.recv(65536) for connection in connections]
    assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 405 Method Not Allowed"}
    for connection in connections:
        connection.close()


def test_a_certificate_changes_by_a_reload(settings: Settings, https: Https) -> None:
    """After a reload new connections see the new certificate; open ones go on; a bad one changes nothing."""
    with Acmems(settings) as acmems:
        kept = http.client.HTTPSConnection("127.0.0.1", https.port, timeout=20, context=https.context())
        kept.request("POST", "/sign", b"x")
        assert kept.getresponse().read()
        https.renew()
        acmems.reload()
        https.connect().close()
        kept.request("POST", "/sign", b"x")
        assert kept.getresponse().status == 415
        kept.close()
        good = https.key.read_bytes()
        https.key.write_bytes(b"nothing")
        acmems.reload()
        https.connect().close()
        https.key.write_bytes(good)
        assert "the key file holds no private key in PEM" in acmems.log


def test_several_processes_share_the_listener(settings: Settings, https: Https) -> None:
    """With two processes, connections to both listeners are answered."""
    settings.mgmt += "\nprocesses = 2"
    with Acmems(settings) as acmems:
        for _ in range(8):
            assert curl(https.sign_url, "--cacert", https.chain).status == 405
            assert curl(acmems.sign_url).status == 405


def test_mistakes_are_found_before_a_start(settings: Settings, https: Https) -> None:
    """`check` tells of files that do not fit, at the lines that name them, and a server does not start."""
    config = https.folder / "acmems.ini"
    config.write_text(settings.text(), encoding="utf-8")
    assert run_acmems("check", config).returncode == 0
    make_tls_certificate(https.folder / "other", https.key)
    https.key.chmod(0o644)
    ended = run_acmems("check", config)
    assert ended.returncode == 2
    assert re.search(r"acmems\.ini:\d+: tls-certificate: .*the key is not that of", ended.stderr)
    assert "can read the secrets in" in ended.stderr
    assert run_acmems("serve", config).returncode == 2


BLOCKS = """
[auth "tokens"]
token-file = {folder}/tokens
domain = *.token.example.org
[auth "known"]
client-certificate = *.hosts.example.org
domain = *.known.example.org
[auth "covered"]
client-certificate = yes
domain = **.example.org
"""


def test_tokens_and_client_certificates(settings: Settings, https: Https, tmp_path: Path) -> None:
    """A token, a known name and covered names let a client have its chain; nothing else does."""
    authority, stranger = ClientAuthority(), ClientAuthority()
    (tmp_path / "clients.pem").write_bytes(authority.pem)
    (tmp_path / "tokens").write_text(f"{'5c' * 20}\n", encoding="ascii")
    settings.mgmt += f"\ntls-client-ca = {tmp_path}/clients.pem"
    settings.auth = BLOCKS.format(folder=tmp_path)
    shown = {name: tmp_path / f"{name}.client.pem" for name in ("known", "covered", "strange")}
    authority.write(shown["known"], "a.hosts.example.org")
    authority.write(shown["covered"], "a.example.org", "*.b.example.org")
    stranger.write(shown["strange"], "a.hosts.example.org")
    token = ("-H", f"Authorization: Bearer {'5c' * 20}")
    cases: list[tuple[str, tuple[str, ...], int]] = [
        ("a.token.example.org", token, 200),
        ("a.token.example.org", ("-H", f"Authorization: Bearer {'5d' * 20}"), 403),
        ("a.token.example.org", ("--cert", str(shown["known"])), 403),
        ("x.known.example.org", ("--cert", str(shown["known"])), 200),
        ("x.known.example.org", (), 403),
        ("x.known.example.org", ("--cert", str(shown["covered"])), 403),
        ("a.example.org", ("--cert", str(shown["covered"])), 200),
        ("x.b.example.org", ("--cert", str(shown["covered"])), 200),
        ("b.example.org", ("--cert", str(shown["covered"])), 403),
    ]
    with Acmems(settings) as acmems:
        for name, arguments, status in cases:
            _, csr = make_key_and_csr(tmp_path, [name])
            told = curl(https.sign_url, "--cacert", https.chain, *arguments, "--data-binary", f"@{csr}")
            assert told.status == status, (name, arguments, acmems.log)
        with pytest.raises(PeerFailed, match="alert"):
            curl(https.sign_url, "--cacert", https.chain, "--cert", shown["strange"])
        wait_until(lambda: "the client certificate is not accepted" in acmems.log, "it is logged")
        log = acmems.log
    assert "5c5c" not in log
    assert "the client certificate does not cover b.example.org" in log


def test_the_servers_own_name(settings: Settings, pebble: Pebble, tmp_path: Path) -> None:
    """A server gets its own certificate, shows it without a restart, and keeps it for the next one."""
    port = free_port()
    settings.mgmt += f"\ntls-listener = 127.0.0.1:{port}\ntls-name = own.example.org"
    settings.auth = '[auth "own"]\nip = 127.0.0.1\ndomain = own.example.org\n'
    root = tmp_path / "root.pem"
    root.write_text(pebble.root_pem(), encoding="ascii")
    context = ssl.create_default_context(cafile=root)
    serials: set[str] = set()

    def is_trusted() -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 20) as raw,
                context.wrap_socket(raw, server_hostname="own.example.org") as wrapped,
            ):
                found = wrapped.getpeercert() or {}
        except ssl.SSLCertVerificationError:
            return False
        serials.add(str(found["serialNumber"]))
        return True

    with Acmems(settings) as acmems:
        wait_until(is_trusted, "it shows what the CA has issued")
        assert "own.example.org shows a certificate that signs itself" in acmems.log
        wait_until(lambda: "read anew, valid until" in acmems.log, "it is logged")
    files = sorted(path.name for path in (tmp_path / "account").glob("tls-*"))
    assert files == [f"tls-own.example.org.{kind}" for kind in ("csr", "key", "pem")]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "account").glob("tls-*")} == {0o600}
    with Acmems(settings):
        assert is_trusted()
    assert len(serials) == 1


def _client_hello() -> bytes:
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
