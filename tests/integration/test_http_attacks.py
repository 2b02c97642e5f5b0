"""What hostile, broken and odd clients get from a whole server, and what they never get."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import AUTHORIZATION, CHALLENGE, NEW_ORDER
from tests.peers import (
    Acmems,
    Pebble,
    Settings,
    curl,
    curl_sign,
    free_port,
    hmac_header,
    make_key_and_csr,
    wait_until,
)
from tests.peers.ca import make_tls_certificate

SECRET = "the shared secret of a test"  # noqa: S105 - a test's own
PROXY = "127.0.0.2"
FAR = "198.51.100.7"
AUTH = f"""
[auth "local"]
ip = 127.0.0.1
domain = *.local.example.org

[auth "far"]
ip = {FAR}
domain = *.far.example.org

[auth "signed"]
hmac_type = sha256
hmac_key = {SECRET}
domain = *.signed.example.org
"""
DIGEST = "ab" * 32


@dataclass
class House:
    """A server, the broken way to its CA, and where the CA looks for challenges."""

    acmems: Acmems
    ca: FaultProxy
    challenge_port: int
    folder: Path

    def connect(self, source: str = "127.0.0.1", port: int | None = None) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port or self.acmems.port), 30, (source, 0))

    def ask(self, data: bytes, source: str = "127.0.0.1", port: int | None = None) -> Reply:
        """Send bytes, and return the answer to them."""
        with self.connect(source, port) as client:
            client.sendall(data)
            return answer(client, data.partition(b" ")[0].decode("latin-1"))


@dataclass
class EncryptedHouse(House):
    """The same server, asked by HTTPS."""

    tls_port: int

    def connect(self, source: str = "127.0.0.1", port: int | None = None) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(super().connect(source, port or self.tls_port))


@dataclass
class Reply:
    """An answer, read strictly."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def answer(client: socket.socket, method: str = "POST") -> Reply:
    response = http.client.HTTPResponse(client, method=method)
    response.begin()
    return Reply(response.status, response.headers, response.read())


@pytest.fixture(scope="module")
def encrypted(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EncryptedHouse]:
    """A server for all tests of this file; none of them may lead it to a bug."""
    with FaultProxy(pebble) as proxy:
        settings = proxy.before(Settings.of(pebble, tmp_path_factory.mktemp("attacks")))
        settings.auth = AUTH
        chain, key, port = settings.folder / "chain.pem", settings.folder / "key.pem", free_port()
        make_tls_certificate(chain, key)
        settings.mgmt = f"trusted-proxy = {PROXY}\nmax-connections = 100\ntls-listener = 127.0.0.1:{port}\n"
        settings.mgmt += f"tls-certificate = {chain}\ntls-key = {key}"
        with Acmems(settings) as acmems:
            yield EncryptedHouse(acmems, proxy, settings.challenge_port, settings.folder, port)
            log = acmems.log
    assert "Traceback" not in log
    assert "a bug" not in log
    assert "status=500" not in log


@pytest.fixture(scope="module")
def house(encrypted: EncryptedHouse) -> House:
    """That server, asked by plain HTTP."""
    return House(encrypted.acmems, encrypted.ca, encrypted.challenge_port, encrypted.folder)


@pytest.fixture(params=["http", "https"])
def way(request: pytest.FixtureRequest, house: House, encrypted: EncryptedHouse) -> House:
    """Each way to ask that server."""
    return encrypted if request.param == "https" else house


def post(
    *fields: str, line: str = "POST /sign HTTP/1.1", length: str | None = "5", body: bytes = b"hello"
) -> bytes:
    lengths = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([line, "Host: a", *lengths, *fields, "", ""]).encode("latin-1") + body


class TestFraming:
    """Requests that are not as RFC 9112 wants them, or not as we do."""

    @pytest.mark.threat(
        "http", "no length", "malformed requests", "long lines, many headers", "other methods and paths"
    )
    @pytest.mark.parametrize(
        ("data", "status"),
        [
            pytest.param(post(length=None), 411, id="no length"),
            pytest.param(post("Transfer-Encoding: chunked", length=None), 400, id="chunked, but no chunk"),
            pytest.param(post("Transfer-Encoding: chunked"), 400, id="chunked and a length"),
            pytest.param(post("Transfer-Encoding: gzip", length=None), 501, id="compressed"),
            *(
                pytest.param(post(length=x), 400, id=f"length {x[:5]}")
                for x in ("-5", "+5", "5_0", "5" * 5000)
            ),
            pytest.param(post("Content-Length: 5"), 400, id="two lengths"),
            pytest.param(post("Content-Length: 6"), 400, id="two differing lengths"),
            pytest.param(post("X : y"), 400, id="space before colon"),
            pytest.param(post("X: y\rZ: z"), 400, id="bare CR"),
            pytest.param(post("X: y\nZ: z"), 400, id="bare LF"),
            pytest.param(post("X: y\r\n z"), 400, id="folded line"),
            pytest.param(post("X: \0"), 400, id="NUL"),
            pytest.param(post("Host: b"), 400, id="two hosts"),
            pytest.param(post(*["X: y"] * 101), 431, id="101 headers"),
            pytest.param(post("X: " + "y" * 70_000), 431, id="a header of 70 kB"),
            pytest.param(post(line=f"POST /{'x' * 70_000} HTTP/1.1"), 414, id="a line of 70 kB"),
            pytest.param(b"POST /" + b"x" * 70_000, 414, id="an endless line"),
            pytest.param(b"GET /sign\r\n", 400, id="HTTP/0.9"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2"),
            pytest.param(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(160), 400, id="TLS"),
            pytest.param(post("Expect: tea"), 417, id="another expectation"),
            pytest.param(post(length="20000"), 413, id="too long"),
            pytest.param(post(line="POST http://a/sign HTTP/1.1"), 404, id="absolute URI"),
            pytest.param(post(line="POST /sign/../sign HTTP/1.1"), 404, id="dots"),
            pytest.param(post(line="POST /%73ign HTTP/1.1"), 404, id="encoded path"),
            pytest.param(post(line="CONNECT a:443 HTTP/1.1", length=None), 404, id="CONNECT"),
            pytest.param(post("Connection: Upgrade", "Upgrade: h2c"), 415, id="upgrade"),
        ],
    )
    def test_malformed_requests_get_their_status(self, way: House, data: bytes, status: int) -> None:
        """Each gets its status and one line that says why; where no body was read, the connection ends."""
        reply = way.ask(data)
        assert reply.status == status
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert reply.body.count(b"\n") == 1
        assert (reply.headers["Connection"] == "close") is (status != 415)

    @pytest.mark.threat("http", "other methods and paths")
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
    def test_other_methods(self, way: House, method: str) -> None:
        """Other methods on /sign are 405, and told what is allowed."""
        reply = way.ask(post(line=f"{method} /sign HTTP/1.1"))
        assert (reply.status, reply.headers["Allow"]) == (405, "POST")

    def test_pipelined_requests_are_answered_in_order(self, way: House) -> None:
        """Pipelined requests are answered in order, on one connection."""
        with way.connect() as client:
            client.sendall(post() + post(body=b"world") + post(line="GET /sign HTTP/1.1"))
            answers = b"".join(iter(lambda: client.recv(65536), b""))
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"415", b"415", b"405"]


class TestBeforeTheBody:
    """What a request's head alone decides; not a byte of these bodies is ever sent."""

    @pytest.mark.threat("http", "a body over max-size")
    @pytest.mark.parametrize("expect", [[], ["Expect: 100-continue"]], ids=["", "Expect"])
    @pytest.mark.parametrize(("source", "status"), [("127.0.0.1", 413), ("127.0.0.9", 403)])
    def test_strangers_get_403_and_only_others_413(
        self, way: House, expect: list[str], source: str, status: int
    ) -> None:
        """A stranger gets 403 whatever the length, and only others hear that a body is too long."""
        assert way.ask(post(*expect, length="999999999", body=b""), source).status == status

    @pytest.mark.threat("http", "clients that wait for 100 Continue")
    def test_a_client_that_waits_for_continue_is_told_to_go_on(self, way: House) -> None:
        """Who may send a body, and waits to be told so, is told."""
        with way.connect() as client:
            client.sendall(post("Expect: 100-continue", body=b""))
            assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"hello")
            assert answer(client).status == 415


class TestAuthentication:
    """The Authentication header, as strangers write it."""

    @pytest.mark.threat("auth", "a malformed Authentication header", "guessing and timing")
    @pytest.mark.parametrize(
        "value",
        [
            "",
            "hmac",
            "hmac name=sha256",
            "hmac name=sha256, hash=",
            f'hmac name="sha256", hash="{DIGEST}"',
            f"hmac name=sha256, hash={DIGEST}, hash={DIGEST}",
            f"hmac  name=sha256, hash={DIGEST}",
            "hmac name=sha256, hash=" + "\xe4" * 64,
            f"basic name=sha256, hash={DIGEST}",
            f"hmac name=md5, hash={'ab' * 16}",
            f"hmac name=shake_128, hash={DIGEST}",
            f"hmac name=__name__, hash={DIGEST}",
            f"hmac name=new, hash={DIGEST}",
            f"hmac name=sha256, hash={DIGEST}",
            f"hmac name=sha256, hash={DIGEST}\r\nAuthentication: hmac name=sha256, hash={DIGEST}",
        ],
    )
    def test_every_bad_claim_gets_the_same_403(self, house: House, value: str) -> None:
        """Malformed, unknown, doubled or simply wrong: the same 403, to the byte, as without a header."""
        plain = house.ask(post(), "127.0.0.9")
        reply = house.ask(post(f"Authentication: {value}"), "127.0.0.9")
        assert (reply.status, reply.body) == (plain.status, plain.body)
        assert plain.status == 403


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A request for a name that one far address may have."""
    _, csr = make_key_and_csr(tmp_path_factory.mktemp("far"), ["a.far.example.org"])
    return csr.read_bytes()


class TestForwardedFor:
    """X-Forwarded-For, from a trusted proxy and from anybody else."""

    @pytest.mark.threat("http", "X-Forwarded-For")
    @pytest.mark.parametrize(
        ("source", "forwarded", "status"),
        [
            ("127.0.0.1", [FAR], 403),
            ("127.0.0.9", [FAR], 403),
            (PROXY, [], 403),
            (PROXY, [FAR], 200),
            (PROXY, [f"::ffff:{FAR}"], 200),
            (PROXY, [f"203.0.113.9, {FAR}"], 200),
            (PROXY, [f"{FAR}, {PROXY}"], 200),
            (PROXY, ["203.0.113.9", FAR], 200),
            (PROXY, [f"{FAR}, 203.0.113.9"], 403),
            (PROXY, [FAR, "203.0.113.9"], 403),
            (PROXY, [f"{FAR}, nonsense"], 403),
            (PROXY, [f"{FAR}:80"], 403),
            (PROXY, [f"{FAR},"], 403),
        ],
        ids=str,
    )
    def test_only_a_trusted_proxy_tells_the_address(
        self, house: House, body: bytes, source: str, forwarded: list[str], status: int
    ) -> None:
        """Only a trusted proxy is believed, and then its rightmost hop that is no trusted proxy itself."""
        fields = [f"X-Forwarded-For: {value}" for value in forwarded]
        assert house.ask(post(*fields, length=str(len(body)), body=body), source).status == status

    @pytest.mark.parametrize(
        ("forwarded", "line", "client"),
        [
            ("203.0.113.77", "POST /sign HTTP/1.1", "client=203.0.113.77 status=403"),
            ("203.0.113.78", "GET /sign HTTP/1.1", "client=203.0.113.78 status=405"),
            (f"203.0.113.79, {PROXY}", "POST /sigh HTTP/1.1", "client=203.0.113.79 status=404"),
            (
                "odd",
                "POST /sign HTTP/1.1",
                f'client="{PROXY} (its X-Forwarded-For is not understood)" status=403',
            ),
        ],
    )
    def test_the_log_tells_the_client_and_not_the_proxy(
        self, house: House, forwarded: str, line: str, client: str
    ) -> None:
        """What is refused before its body is read is logged with the address that the proxy tells."""
        house.ask(post(f"X-Forwarded-For: {forwarded}", line=line), PROXY)
        assert client in house.acmems.log

    def test_the_log_tells_the_names_that_no_block_grants(self, house: House, tmp_path: Path) -> None:
        """What is refused for its names is logged with them, and with the address that the proxy tells."""
        _, csr = make_key_and_csr(tmp_path, ["elsewhere.example.com"])
        body = csr.read_bytes()
        refused = post(f"X-Forwarded-For: {FAR}", length=str(len(body)), body=body)
        assert house.ask(refused, PROXY).status == 403
        assert f"client={FAR} names=elsewhere.example.com status=403" in house.acmems.log


@pytest.fixture(scope="class")
def presented(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Path and answer of a challenge that is presented and not yet validated."""
    _, csr = make_key_and_csr(tmp_path_factory.mktemp("challenge"), ["a.local.example.org"])
    tokens: list[str] = []
    goes_on = threading.Event()

    def note(authorization: dict[str, Any]) -> dict[str, Any]:
        tokens.extend(c["token"] for c in authorization["challenges"] if c["type"] == "http-01")
        return authorization

    before = house.ca.count(path=CHALLENGE)
    house.ca.when(path=AUTHORIZATION, nth=1).edit(note)
    house.ca.when(path=CHALLENGE).stall(goes_on)
    replies = []
    client = threading.Thread(target=lambda: replies.append(curl_sign(house.acmems.sign_url, csr)))
    client.start()
    with contextlib.ExitStack() as stack:
        stack.callback(client.join)
        stack.callback(goes_on.set)
        stack.callback(house.ca.heal)
        wait_until(lambda: house.ca.count(path=CHALLENGE) > before, "the challenge is presented")
        path = f"/.well-known/acme-challenge/{tokens[0]}"
        found = curl(f"http://127.0.0.1:{house.challenge_port}{path}", "-H", "Host: a.local.example.org")
        assert found.status == 200
        yield path, found.text
    assert [reply.status for reply in replies] == [200]
    assert found.text not in house.acmems.log


class TestChallenges:
    """The port on which the CA looks."""

    @pytest.mark.threat("http", "strangers at the CA's port")
    @pytest.mark.parametrize(
        ("line", "hosts", "status"),
        [
            pytest.param("GET {path} HTTP/1.1", ["a.local.example.org"], 200, id="right"),
            pytest.param("GET {path} HTTP/1.1", ["A.LOCAL.example.org:80"], 200, id="port and upper case"),
            pytest.param("GET {path} HTTP/1.1", ["b.local.example.org"], 404, id="wrong host"),
            pytest.param("GET {path} HTTP/1.1", ["local.example.org"], 404, id="parent"),
            pytest.param("GET {path} HTTP/1.1", ["a.local.example.org."], 200, id="dot"),
            pytest.param("GET {path} HTTP/1.1", ["a.local.example.org.."], 404, id="two dots"),
            pytest.param("GET {path} HTTP/1.1", ["127.0.0.1"], 404, id="address"),
            pytest.param("GET {path} HTTP/1.1", [""], 404, id="empty host"),
            pytest.param("GET {path} HTTP/1.0", [], 404, id="no host in HTTP/1.0"),
            pytest.param("GET {path} HTTP/1.1", [], 400, id="no host"),
            pytest.param("GET {path} HTTP/1.1", ["a.local.example.org"] * 2, 400, id="two hosts"),
            pytest.param("GET {path} HTTP/1.1", ["a.local.example.org/x"], 400, id="odd host"),
            pytest.param("GET {path}? HTTP/1.1", ["a.local.example.org"], 404, id="query"),
            pytest.param("GET {path}/ HTTP/1.1", ["a.local.example.org"], 404, id="slash"),
            pytest.param("GET {path}%00 HTTP/1.1", ["a.local.example.org"], 404, id="encoded NUL"),
            pytest.param("GET {path}\0 HTTP/1.1", ["a.local.example.org"], 400, id="NUL"),
            pytest.param("GET /x/..{path} HTTP/1.1", ["a.local.example.org"], 404, id="dots"),
            pytest.param("GET /%2e{path} HTTP/1.1", ["a.local.example.org"], 404, id="encoded dots"),
            pytest.param("GET /{path} HTTP/1.1", ["a.local.example.org"], 404, id="two slashes"),
            pytest.param(
                "GET http://a.local.example.org{path} HTTP/1.1",
                ["b.local.example.org"],
                200,
                id="absolute URI",
            ),
            pytest.param(
                "GET http://b.local.example.org{path} HTTP/1.1",
                ["a.local.example.org"],
                404,
                id="absolute URI of another host",
            ),
            pytest.param(
                "GET /.well-known/acme-challenge/../../../../etc/passwd HTTP/1.1",
                ["a.local.example.org"],
                404,
                id="a file",
            ),
            pytest.param("POST {path} HTTP/1.1", ["a.local.example.org"], 405, id="POST"),
            pytest.param("DELETE {path} HTTP/1.1", ["a.local.example.org"], 405, id="DELETE"),
        ],
    )
    def test_only_the_exact_place_answers(
        self, house: House, presented: tuple[str, str], line: str, hosts: list[str], status: int
    ) -> None:
        """Only the exact host and path get the answer; port, case and dot of the host do not matter."""
        path, proof = presented
        head = [line.format(path=path), *(f"Host: {host}" for host in hosts), "Content-Length: 0", "", ""]
        reply = house.ask("\r\n".join(head).encode(), port=house.challenge_port)
        assert reply.status == status
        assert (proof.encode() in reply.body) is (status == 200)

    def test_the_cas_port_signs_nothing(self, house: House) -> None:
        """Nobody gets a certificate on the CA's port."""
        assert house.ask(post(), port=house.challenge_port).status == 405

    def test_the_clients_port_answers_no_challenges(self, house: House, presented: tuple[str, str]) -> None:
        """No challenge is answered on the clients' port."""
        line = f"GET {presented[0]} HTTP/1.1"
        assert house.ask(post("Host: a.local.example.org", line=line)).status == 400
        assert house.ask(post(line=line)).status == 404


@pytest.mark.threat("http", "line ends in words of others")
def test_the_cas_words_stay_words(house: House, tmp_path: Path) -> None:
    """Line ends and control characters in a CA's error reach neither a header nor a line of the log."""
    _, csr = make_key_and_csr(tmp_path, ["words.local.example.org"])
    words = "first\r\nSet-Cookie: a=b\r\n\r\n<h1>\x1b[31m\x00\u2028" + "2026-01-01T00:00:00Z ERROR forged"
    house.ca.when(path=NEW_ORDER).problem(403, "rejectedIdentifier", words)
    try:
        reply = curl_sign(house.acmems.sign_url, csr)
    finally:
        house.ca.heal()
    assert reply.status == 421
    assert "Set-Cookie" not in reply.headers
    assert "first" in reply.text
    assert reply.text.rstrip("\n").isprintable()
    lines = house.acmems.log.splitlines()
    assert any("forged" in line for line in lines)
    assert all(re.match(r"[0-9TZ:.-]+ (DEBUG|INFO|WARNING|ERROR) \w", line) for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.threat("csr", "anything but one PEM request")
def test_nothing_secret_is_logged(house: House, tmp_path: Path) -> None:
    """Neither secret, nor hash, nor what is in a body, nor the account's key is in the log at level debug."""
    key, csr = make_key_and_csr(tmp_path, ["a.signed.example.org"])
    sign = house.acmems.sign_url
    assert curl_sign(sign, csr, secret=SECRET).status == 200
    assert curl_sign(sign, csr, secret="a guess").status == 403  # noqa: S106 - a wrong one
    assert curl(sign, "--data-binary", f"@{key}").status == 415
    assert curl(sign, "-H", f"Authentication: basic {SECRET}", "--data-binary", f"@{csr}").status == 403
    log = house.acmems.log
    assert "a.signed.example.org" in log
    texts = [path.read_text() for path in (key, csr, house.folder / "account" / "account.pem")]
    lines = [line for text in texts for line in text.splitlines() if len(line) > 20 and "-----" not in line]
    digests = [hmac_header(csr, secret).rpartition("=")[2] for secret in (SECRET, "a guess")]
    assert [secret for secret in (SECRET, "a guess", *digests, *lines) if secret in log] == []


@pytest.mark.threat("http", "crowds")
def test_silent_connections_keep_nobody_out(encrypted: EncryptedHouse, house: House) -> None:
    """Twice as many silent connections as are allowed cost no thread, and a client is served meanwhile."""

    def threads() -> int:
        status = Path(f"/proc/{house.acmems.process.pid}/status").read_text(encoding="utf-8")
        return int(status.partition("Threads:")[2].split()[0])

    before = threads()
    with contextlib.ExitStack() as stack:
        for number in range(200):
            client = stack.enter_context(house.connect("127.0.0.66"))
            client.sendall(b"POST /sign HTTP/1.1\r\nHost: a\r\nX: "[: number % 40])
        for number in range(200):
            client = stack.enter_context(house.connect("127.0.0.66", encrypted.tls_port))
            client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: number % 12])
        assert house.ask(post()).status == 415
        assert encrypted.ask(post()).status == 415
        assert threads() < before + 20  # of 400 connections


@pytest.mark.threat("http", "crowds")
@pytest.mark.parametrize("addresses", [1, 250])
def test_a_herd_is_served(house: House, addresses: int) -> None:
    """Of five times as many clients as places, all connected before the first asks, each gets its answer."""
    with contextlib.ExitStack() as stack:
        herd = [
            stack.enter_context(house.connect(f"127.0.4.{1 + number % addresses}")) for number in range(500)
        ]
        for client in herd:
            client.sendall(post())
        assert [answer(client).status for client in herd] == [403] * 500
