"""A machine asks with curl, and the whole house answers: the rules of `POST /sign` against a real CA."""

from __future__ import annotations

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.peers import (
    Acmems,
    ChallTestSrv,
    Nginx,
    Pebble,
    Settings,
    curl,
    curl_sign,
    free_port,
    hmac_header,
    make_key_and_csr,
    names_of,
    verify_chain,
    wait_until,
)

SECRET = "a shared secret with ümlaut"  # noqa: S105 - a test's own
BLOCKS = f"""
[auth "web"]
ip = 127.0.0.1
domain = *.web.example.org

[auth "mail"]
hmac_type = sha256
hmac_key = {SECRET}
domain = mail.example.org
domain = *.mail.example.org

[auth "both"]
ip = 192.0.2.0/24
hmac_type = sha256
hmac_key = another secret
domain = both.example.org
"""


def test_a_csr_becomes_a_chain_that_openssl_verifies(
    settings: Settings, pebble: Pebble, tmp_path: Path
) -> None:
    """The answer to a CSR is a chain with exactly its names, which leads to the CA's root."""
    _, csr = make_key_and_csr(tmp_path, ["one.example.org", "two.example.org"])
    with Acmems(settings) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 200
    assert names_of(reply.body) == {"one.example.org", "two.example.org"}
    assert verify_chain(reply.body, pebble.root_pem()).endswith("OK")


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa"])
def test_every_usual_kind_of_key_is_served(settings: Settings, tmp_path: Path, kind: str) -> None:
    """RSA, P-256 and P-384 keys get their certificates."""
    _, csr = make_key_and_csr(tmp_path, [f"{kind}.example.org"], kind=kind)
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200


def test_a_hundred_names_fit_into_one_certificate(settings: Settings, tmp_path: Path) -> None:
    """A CSR with 100 names is one order, proved in parallel."""
    names = [f"host{number}.example.org" for number in range(100)]
    _, csr = make_key_and_csr(tmp_path, names)
    with Acmems(settings) as acmems:
        reply = curl_sign(acmems.sign_url, csr)
    assert reply.status == 200
    assert names_of(reply.body) == set(names)


def test_a_chain_that_the_client_has_is_not_sent_again(settings: Settings, tmp_path: Path) -> None:
    """A client that sends the ETag of the current chain gets 304 without a body."""
    _, csr = make_key_and_csr(tmp_path, ["tagged.example.org"])
    with Acmems(settings) as acmems:
        first = curl_sign(acmems.sign_url, csr)
        tag = first.headers["ETag"]
        for known in (tag, f'"other", W/{tag}'):
            again = curl(acmems.sign_url, "-H", f"If-None-Match: {known}", "--data-binary", f"@{csr}")
            assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
            assert "Content-Length" not in again.headers
            assert "Connection" not in again.headers
        delivered = [line for line in acmems.log.splitlines() if " delivered " in line]
        assert "status=304" in delivered[-1]
        for unknown in ('"other"', "*", tag.strip('"'), f'"x{tag[1:]}'):
            again = curl(acmems.sign_url, "-H", f"If-None-Match: {unknown}", "--data-binary", f"@{csr}")
            assert (again.status, again.body) == (200, first.body)


def test_an_etag_opens_no_door(settings: Settings, tmp_path: Path) -> None:
    """Policy decides first: whoever may not have a chain does not learn whether its ETag is right."""
    _, csr = make_key_and_csr(tmp_path, ["mail.example.org"])
    settings.auth = BLOCKS
    with Acmems(settings) as acmems:
        tag = curl_sign(acmems.sign_url, csr, secret=SECRET).headers["ETag"]
        asked = ("-H", f"If-None-Match: {tag}", "--data-binary", f"@{csr}")
        assert curl(acmems.sign_url, *asked).status == 403
        assert curl(acmems.sign_url, *asked, "-H", hmac_header(csr, SECRET)).status == 304


def test_a_stored_chain_comes_back(settings: Settings, tmp_path: Path) -> None:
    """The same CSR gets the same chain, also after a restart, and another CSR of the same key too."""
    key, csr = make_key_and_csr(tmp_path, ["kept.example.org"])
    _, other = make_key_and_csr(tmp_path, ["kept.example.org"], key=key, stem="other")
    with Acmems(settings) as acmems:
        first = curl_sign(acmems.sign_url, csr)
        assert curl_sign(acmems.sign_url, csr).body == first.body
        assert curl_sign(acmems.sign_url, other).body == first.body
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).body == first.body


@pytest.mark.parametrize(("storage", "is_new"), [("", False), ('[storage "n"]\ntype = none\n', True)])
def test_without_a_storage_only_those_who_say_so_order_each_time(
    settings: Settings, tmp_path: Path, storage: str, is_new: bool
) -> None:
    """Where no storage is configured, the chain is kept in memory until it is due; `none` keeps nothing."""
    settings.storage = storage
    _, csr = make_key_and_csr(tmp_path, ["unkept.example.org"])
    with Acmems(settings) as acmems:
        first, second = (curl_sign(acmems.sign_url, csr).body for _ in range(2))
        assert (first != second) is is_new
        # Memory does not outlive the process.
        acmems.restart()
        assert curl_sign(acmems.sign_url, csr).body not in {first, second}


def test_fifty_at_once_share_one_issuance(settings: Settings, tmp_path: Path) -> None:
    """Requests for the same key and names while one runs get that one's chain: one order, not fifty."""
    _, csr = make_key_and_csr(tmp_path, ["shared.example.org"])
    with Acmems(settings) as acmems, ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: curl_sign(acmems.sign_url, csr), range(50)))
        log = acmems.log
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert log.count(" issued ") == 1


@pytest.mark.timeout(300)
def test_every_machine_of_two_hundred_gets_its_certificate(settings: Settings, tmp_path: Path) -> None:
    """Two hundred different CSRs, sent at once, are all answered with 200."""
    settings.mgmt = "request-timeout = 200"  # so many orders take a while where the machine is busy
    csrs = [
        make_key_and_csr(tmp_path, [f"machine{number}.example.org"], stem=f"machine{number}")[1]
        for number in range(200)
    ]
    with Acmems(settings) as acmems:
        processes = [
            subprocess.Popen(
                [
                    "curl",
                    "-sS",
                    "-o",
                    f"{csr}.pem",
                    "-w",
                    "%{http_code}",
                    "--data-binary",
                    f"@{csr}",
                    acmems.sign_url,
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for csr in csrs
        ]
        statuses = {process.communicate()[0] for process in processes}
    assert statuses == {"200"}


class TestPolicy:
    """Who may have which names."""

    @pytest.fixture
    def acmems(self, settings: Settings) -> Acmems:
        """A server with three auth blocks."""
        settings.auth = BLOCKS
        return Acmems(settings)

    @pytest.mark.threat("auth", "the hash of one block, names of another")
    @pytest.mark.threat("csr", "wildcards")
    @pytest.mark.parametrize(
        ("names", "secret", "status"),
        [
            (["a.web.example.org"], None, 200),
            (["a.b.web.example.org"], None, 403),
            (["mail.example.org"], None, 403),
            (["mail.example.org"], SECRET, 200),
            (["mail.example.org"], "another secret", 403),
            (["both.example.org"], "another secret", 403),
            (["a.web.example.org", "mail.example.org"], SECRET, 403),
            (["*.mail.example.org"], SECRET, 403),
        ],
        ids=str,
    )
    def test_one_block_must_accept_everything(
        self, acmems: Acmems, tmp_path: Path, names: list[str], secret: str | None, status: int
    ) -> None:
        """Address, HMAC and every name must be granted by one and the same block."""
        _, csr = make_key_and_csr(tmp_path, names)
        with acmems:
            assert curl_sign(acmems.sign_url, csr, secret=secret).status == status

    @pytest.mark.threat("auth", "guessing and timing")
    def test_refusals_look_alike(self, acmems: Acmems, tmp_path: Path) -> None:
        """Wrong name, wrong hash and wrong address get the same body; the log tells them apart."""
        _, csr = make_key_and_csr(tmp_path, ["mail.example.org"])
        _, wrong = make_key_and_csr(tmp_path, ["elsewhere.example.net"], stem="wrong")
        with acmems:
            replies = [
                curl_sign(acmems.sign_url, csr, secret="no"),  # noqa: S106 - a wrong one
                curl_sign(acmems.sign_url, wrong, secret=SECRET),
                curl_sign(acmems.sign_url, wrong),
            ]
            log = acmems.log
        assert {reply.status for reply in replies} == {403}
        assert len({reply.body for reply in replies}) == 1
        assert "elsewhere.example.net matches no domain" in log
        assert SECRET not in log


class TestRefusals:
    """Each refusal tells the client what to do, and none is a 500."""

    @pytest.mark.threat("http", "other methods and paths")
    @pytest.mark.parametrize(
        ("arguments", "path", "status"),
        [
            (["-d", "garbage"], "/sign", 415),
            (["-X", "GET"], "/sign", 405),
            (["-X", "PUT", "-d", "x"], "/sign", 405),
            (["-I"], "/sign", 405),
            (["-d", "x"], "//sign", 404),
            (["-d", "x"], "/sign?x", 404),
            (["-d", "x"], "/", 404),
            (["-d", "x" * 20_000], "/sign", 413),
            (["-H", "Transfer-Encoding: chunked", "-d", "x"], "/sign", 415),
            (["-H", "Transfer-Encoding: gzip", "-H", "Content-Length:", "-d", "x"], "/sign", 501),
            (["-H", "Transfer-Encoding: chunked", "-d", "x" * 20_000], "/sign", 413),
            (["-X", "POST"], "/sign", 411),
        ],
        ids=str,
    )
    def test_statuses(self, settings: Settings, arguments: list[str], path: str, status: int) -> None:
        """What is not a CSR posted to /sign gets the status of the documentation."""
        with Acmems(settings) as acmems:
            reply = curl(f"http://127.0.0.1:{acmems.port}{path}", *arguments)
        assert reply.status == status
        if status == 405:
            assert reply.headers["Allow"] == "POST"

    def test_line_ends_that_curl_took_away(self, settings: Settings, tmp_path: Path) -> None:
        """`curl -d` is told by name: to the client, and where the HMAC is wrong by it, in the log."""
        _, csr = make_key_and_csr(tmp_path, ["lines.example.org"])
        with Acmems(settings) as acmems:
            refused = curl(acmems.sign_url, "-d", f"@{csr}")
        assert refused.status == 415
        assert "--data-binary @host.csr, not by -d" in refused.text
        settings.auth = f'[auth "any"]\nhmac_key = {SECRET}\ndomain = **'
        with Acmems(settings) as acmems:
            denied = curl(acmems.sign_url, "-H", hmac_header(csr, SECRET), "-d", f"@{csr}")
            log = acmems.log
        assert denied.status == 403
        assert "data-binary" not in denied.text
        assert "the body is PEM whose line ends are lost" in log

    def test_problem_documents_for_those_who_ask(self, settings: Settings) -> None:
        """A client that accepts JSON gets the reason as a problem document (RFC 9457)."""
        with Acmems(settings) as acmems:
            reply = curl(acmems.sign_url, "-H", "Accept: application/problem+json", "-d", "garbage")
        assert reply.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(reply.body)
        assert problem["status"] == 415
        assert "PEM" in problem["detail"]

    @pytest.mark.threat("ca", "a name that cannot be validated")
    def test_a_name_that_cannot_be_proved(self, settings: Settings, tmp_path: Path) -> None:
        """Where the CA cannot validate a name its reason is passed on, and it is not asked again at once."""
        settings.challenge_port = free_port()  # not where the CA looks
        _, csr = make_key_and_csr(tmp_path, ["lost.example.org"])
        with Acmems(settings) as acmems:
            first = curl_sign(acmems.sign_url, csr)
            second = curl_sign(acmems.sign_url, csr)
            log = acmems.log
        assert first.status == second.status == 421
        assert "lost.example.org" in first.text
        assert int(second.headers["Retry-After"]) >= 1
        assert log.count("/order-plz: ") == 1

    @pytest.mark.threat("csr", "the account's own key")
    def test_the_accounts_own_key_is_no_key_for_a_certificate(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        """A CSR for the key of the ACME account is refused."""
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(
                tmp_path, ["own.example.org"], key=settings.folder / "account" / "account.pem"
            )
            reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 415
        assert "account" in reply.text


def test_a_hung_up_client_finds_its_certificate_later(dns: ChallTestSrv, tmp_path: Path) -> None:
    """A client that goes away does not stop its issuance, even where nothing is stored."""
    _, csr = make_key_and_csr(tmp_path, ["patient.example.org"])
    body = csr.read_bytes()
    with Pebble(dns.address, options={"retryAfter": {"authz": 2, "order": 0}}) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.storage = '[storage "nothing"]\ntype = none\n'
        with Acmems(settings) as acmems:
            with socket.create_connection(("127.0.0.1", acmems.port)) as client:
                head = f"POST /sign HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
                wait_until(lambda: "/order-plz: " in acmems.log, "the order")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            wait_until(lambda: " issued " in acmems.log, "the certificate")
            reply = curl_sign(acmems.sign_url, csr)
            log = acmems.log
    assert reply.status == 200
    assert log.count(" issued ") == 1


def test_a_web_server_forwards_challenges(dns: ChallTestSrv, tmp_path: Path) -> None:
    """Behind nginx, which forwards /.well-known/acme-challenge, names are proved all the same."""
    port = free_port()
    _, csr = make_key_and_csr(tmp_path, ["behind.example.org"])
    with Nginx(free_port(), port) as nginx, Pebble(dns.address, http_port=nginx.port) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.challenge_port = port
        with Acmems(settings) as acmems:
            assert curl_sign(acmems.sign_url, csr).status == 200
