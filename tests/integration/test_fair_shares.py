"""A whole server beside neighbours and strangers that take what they can get."""

from __future__ import annotations

import http.client
import re
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from tests.peers import Acmems, Pebble, Settings, curl_sign, hmac_header, make_key_and_csr, wait_until

PATIENCE = 60.0
SECRET = "a secret of a test"  # noqa: S105 - a test's own
NEIGHBOUR = "127.0.0.66"
STRANGER = "127.0.0.77"
AUTH = f"""
[auth "ours"]
ip = 127.0.0.1
domain = *.ours.example.org

[auth "neighbour"]
ip = {NEIGHBOUR}
domain = *.neighbour.example.org

[auth "signed"]
hmac_type = sha256
hmac_key = {SECRET}
domain = *.signed.example.org
"""
WRONG = (
    b"POST /sign HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
    b"Authentication: hmac name=sha256, hash=" + b"0" * 64 + b"\r\n\r\n"
)


class Confined(Acmems):
    """A server that may have few descriptors."""

    def command(self) -> Sequence[str]:
        limit = [shutil.which("prlimit") or "prlimit", "--nofile=256:256"]
        return [*limit, *super().command()]


def settings_of(pebble: Pebble, folder: Path, mgmt: str = "") -> Settings:
    settings = Settings.of(pebble, folder)
    settings.auth = AUTH
    settings.mgmt = mgmt
    return settings


def request(body: bytes, *fields: str) -> bytes:
    head = ["POST /sign HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(head).encode() + body


def read(client: socket.socket) -> tuple[int, bytes]:
    """Return status and body of an answer."""
    response = http.client.HTTPResponse(client, method="POST")
    response.begin()
    return response.status, response.read()


@contextmanager
def connections(port: int, count: int, source: str) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0)))
            for _ in range(count)
        ]


@contextmanager
def crowding(port: int, count: int, source: str) -> Iterator[None]:
    """Hold so many connections on which nothing is asked, and replace each that is ended."""
    stopping = threading.Event()
    begun = threading.Event()

    def crowd() -> None:
        with ExitStack() as stack:
            held: list[socket.socket] = []
            while not stopping.is_set():
                while len(held) < count and not stopping.is_set():
                    held.append(stack.enter_context(socket.socket()))
                    held[-1].bind((source, 0))
                    held[-1].settimeout(1)
                    with suppress(OSError):
                        held[-1].connect(("127.0.0.1", port))
                begun.set()
                ended, _, _ = select.select(held, [], [], 0.05)
                for client in ended:
                    client.close()
                held = [client for client in held if client not in ended]

    thread = threading.Thread(target=crowd)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield
    finally:
        stopping.set()
        thread.join()


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    return make_key_and_csr(tmp_path, ["www.ours.example.org"])[1]


@pytest.mark.threat("fair shares", "thousands of connections")
def test_one_csr_on_every_connection(pebble: Pebble, tmp_path: Path, csr: Path) -> None:
    """While a neighbour's CSR waits on more connections than there are places, others get their chains."""
    (tmp_path / "theirs").mkdir()
    theirs = make_key_and_csr(tmp_path / "theirs", ["www.neighbour.example.org"])[1].read_bytes()
    with Acmems(settings_of(pebble, tmp_path, "max-connections = 100")) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        with connections(acmems.port, 150, NEIGHBOUR) as many:
            with pebble.paused():
                for client in many:
                    client.sendall(request(theirs))
                wait_until(
                    lambda: acmems.log.count(" requested ") >= 80, "the neighbour's requests are there"
                )
                for _ in range(5):
                    assert curl_sign(acmems.sign_url, csr).status == 200
            answers = [read(client) for client in many]
    assert {status for status, _ in answers} == {200}
    assert len({chain for _, chain in answers}) == 1


@pytest.mark.threat("fair shares", "thousands of connections", "refusals without end")
def test_a_wrong_hmac_ends_its_connection(pebble: Pebble, tmp_path: Path, csr: Path) -> None:
    """Whoever has no secret needs a connection for each guess, and others are served meanwhile."""
    with Acmems(settings_of(pebble, tmp_path, "max-connections = 100")) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        with connections(acmems.port, 200, STRANGER) as strangers:
            for client in strangers:
                client.sendall((WRONG % 5 + b"wrong") * 10)
            for _ in range(5):
                assert curl_sign(acmems.sign_url, csr).status == 200
            for client in strangers[:80]:
                data = b"".join(iter(lambda: client.recv(65536), b""))  # noqa: B023 - called at once
                assert data.count(b"HTTP/1.1 403 ") == 1
                assert b"\r\nConnection: close\r\n" in data


@pytest.mark.threat("fair shares", "refusals without end")
def test_refusals_are_summed_up(pebble: Pebble, tmp_path: Path) -> None:
    """Two thousand connections with one byte each make a few lines, and one that sums them up."""
    with Acmems(settings_of(pebble, tmp_path)) as acmems:
        for _ in range(2000):
            with socket.create_connection(("127.0.0.1", acmems.port), PATIENCE, (STRANGER, 0)) as client:
                client.sendall(b"\0")
                assert client.recv(12) == b"HTTP/1.1 400"
        acmems.stop()
        lines = [line for line in acmems.log.splitlines() if "refused" in line]
    sums = re.compile(
        r'WARNING "?refused without a line each"? count=(\d+) statuses=400:\1 clients=1 most=\1 '
        rf"client={STRANGER}$"
    )
    counts = [int(found[1]) for line in lines if (found := sums.search(line))]
    assert 1 <= len(counts) <= 3  # one more for each minute, on a machine that is so busy
    assert len(lines) <= 11 * len(counts)
    assert sum(counts) + len(lines) - len(counts) == 2000
    assert sums.search(lines[-1])


@pytest.mark.threat("fair shares", "few descriptors")
def test_few_descriptors(pebble: Pebble, tmp_path: Path, csr: Path) -> None:
    """With 256 descriptors and strangers everywhere, chains are stored, delivered and ordered."""
    settings = settings_of(pebble, tmp_path)
    new = make_key_and_csr(tmp_path, ["new.ours.example.org"], stem="new")[1]
    with Confined(settings) as acmems, ExitStack() as stack:
        assert curl_sign(acmems.sign_url, csr).status == 200
        for port in (settings.challenge_port, acmems.port):
            for source in range(80, 84):
                stack.enter_context(crowding(port, 100, f"127.0.0.{source}"))
        assert curl_sign(acmems.sign_url, csr).status == 200
        assert curl_sign(acmems.sign_url, new).status == 200
        assert curl_sign(acmems.sign_url, new).status == 200
        delivered = [line for line in acmems.log.splitlines() if " delivered " in line]
        assert "source=stored" in delivered[-1]
        open_files = len(list(Path(f"/proc/{acmems.process.pid}/fd").iterdir()))
    assert open_files <= 256 - 64
    assert "Too many open files" not in acmems.log


@pytest.mark.threat("fair shares", "bodies that nobody has asked for")
def test_bodies_of_strangers(pebble: Pebble, tmp_path: Path, csr: Path) -> None:
    """A hundred strangers who send megabytes each fill no memory, and get 503; others are served."""
    part = b"x" * (1 << 16)
    refused: list[bytes] = []

    def send(client: socket.socket) -> None:
        try:
            client.sendall(WRONG % (4 << 20))
            for _ in range(60):
                client.sendall(part)
        except OSError:
            return
        client.settimeout(5)
        try:
            refused.append(client.recv(12))
        except OSError:
            return

    with Acmems(settings_of(pebble, tmp_path, "max-size = 4m")) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        before = acmems.peak_memory
        with connections(acmems.port, 100, STRANGER) as strangers:
            threads = [threading.Thread(target=send, args=(client,)) for client in strangers]
            for thread in threads:
                thread.start()
            assert curl_sign(acmems.sign_url, csr).status == 200
            for thread in threads:
                thread.join(PATIENCE)
        assert acmems.peak_memory - before < 100 << 20


@pytest.fixture(scope="module")
def calm(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server that nobody attacks."""
    with Acmems(settings_of(pebble, tmp_path_factory.mktemp("chunks"))) as acmems:
        yield acmems


class TestChunks:
    """Bodies in chunks, as clients send them that do not know the length."""

    @pytest.mark.threat("http", "chunked bodies")
    @pytest.mark.parametrize("signed", [False, True])
    def test_curl_from_a_pipe(self, calm: Acmems, tmp_path: Path, signed: bool) -> None:
        """`curl -T -` sends chunks, and the HMAC is over what is in them."""
        block = "signed" if signed else "ours"
        csr = make_key_and_csr(tmp_path, [f"curl.{block}.example.org"])[1]
        fields = ["-H", hmac_header(csr, SECRET)] if signed else []
        command = ["curl", "-sS", "-X", "POST", "-T", "-", *fields, "-w", "%{http_code}", calm.sign_url]
        done = subprocess.run(
            command, input=csr.read_bytes(), capture_output=True, check=True, timeout=PATIENCE
        )
        assert done.stdout.startswith(b"-----BEGIN CERTIFICATE-----")
        assert done.stdout.endswith(b"200")

    @pytest.mark.threat("http", "chunked bodies")
    def test_too_much_is_refused(self, calm: Acmems) -> None:
        """Chunks beyond `max-size` are not waited for: curl gets 413 in the midst of an endless body."""
        command = ["curl", "-sS", "-X", "POST", "-T", "-", "-w", "%{http_code}", "-o", "/dev/null"]
        with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
            done = subprocess.run(
                [*command, calm.sign_url],
                stdin=endless.stdout,
                stdout=subprocess.PIPE,
                check=False,
                timeout=PATIENCE,
            )
            endless.kill()
        assert int(done.stdout) == 413

    @pytest.mark.threat("http", "chunked bodies")
    def test_python_with_an_iterable(self, calm: Acmems, csr: Path) -> None:
        """A client that sends line by line, each in a chunk of its own, keeps its connection."""
        connection = http.client.HTTPConnection("127.0.0.1", calm.port, timeout=PATIENCE)
        for _ in range(2):
            lines = iter(csr.read_bytes().splitlines(keepends=True))
            connection.request("POST", "/sign", lines, encode_chunked=True)
            response = connection.getresponse()
            assert response.status == 200
            assert response.read().startswith(b"-----BEGIN CERTIFICATE-----")
        connection.close()
