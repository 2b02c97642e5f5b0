"""A machine that does not want to hold a connection: `Prefer: respond-async`, and a real CA that is slow."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import FINALIZE, NEW_ORDER
from tests.peers import (
    Acmems,
    Pebble,
    Postgres,
    Settings,
    curl,
    environment,
    free_port,
    hmac_header,
    make_key_and_csr,
    names_of,
    run_acmems,
    wait_until,
)
from tests.peers.client import Reply

SECRET = "a shared secret of some length"  # noqa: S105 - a test's own
NAME = "www.example.org"
SOMEWHERE = ("--interface", "127.0.0.9")  # an address that no block knows
BLOCKS = f"""
[auth "web"]
ip = 127.0.0.1
domain = *.example.org

[auth "other"]
ip = 127.0.0.2
domain = *.example.com

[auth "neighbour"]
ip = 127.0.0.3
domain = *.example.org

[auth "secret"]
hmac_type = sha256
hmac_key = {SECRET}
domain = *.example.net

[auth "fresh"]
hmac_type = sha512
hmac_key = {SECRET}
hmac-fresh = 60
domain = *.example.net
"""


class SlowCA:
    """A CA that says nothing to some requests until it is told to go on."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.gate = threading.Event()

    def hold(self, path: str) -> None:
        self.proxy.when(path=path).stall(self.gate)

    def go(self) -> None:
        self.proxy.heal()
        self.gate.set()


@pytest.fixture
def slow(proxy: FaultProxy) -> Iterator[SlowCA]:
    made = SlowCA(proxy)
    yield made
    made.go()


@pytest.fixture
def settings(settings: Settings, proxy: FaultProxy) -> Settings:
    return proxy.before(settings)


def ask(acmems: Acmems, csr: Path, *arguments: str, wait: int | None = 0) -> Reply:
    """Ask for a chain without holding a connection."""
    preference = "respond-async" if wait is None else f"respond-async, wait={wait}"
    return curl(acmems.sign_url, "-H", f"Prefer: {preference}", *arguments, "--data-binary", f"@{csr}")


def fetch(acmems: Acmems, place: Reply | str, *arguments: str) -> Reply:
    """Ask for the answer to such a request."""
    path = place if isinstance(place, str) else place.headers["Location"]
    return curl(f"http://127.0.0.1:{acmems.port}{path}", *arguments)


def fetch_when_there(acmems: Acmems, place: Reply, *arguments: str) -> Reply:
    """Ask for it, as a client does that waits for it, until it is there."""
    replies: list[Reply] = []

    def is_there() -> bool:
        replies.append(fetch(acmems, place, "-H", "Prefer: wait=10", *arguments))
        return replies[-1].status != 202

    wait_until(is_there, "the answer is there")
    return replies[-1]


def covered(text: str, algorithm: str = "sha256") -> str:
    """Return the HMAC of a text."""
    return hmac.new(SECRET.encode(), text.encode(), algorithm).hexdigest()


def test_a_chain_is_fetched_later(
    settings: Settings, slow: SlowCA, proxy: FaultProxy, tmp_path: Path
) -> None:
    """202 says where it will be; there it is once the CA has issued it, as `/sign` sends it."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    slow.hold(FINALIZE)
    with Acmems(settings) as acmems:
        place = ask(acmems, csr)
        assert place.status == 202
        assert re.fullmatch(r"/requests/[A-Za-z0-9_-]{32}", place.headers["Location"])
        assert place.headers["Preference-Applied"] == "respond-async"
        assert int(place.headers["Retry-After"]) > 0
        assert place.headers["Location"].encode() in place.body
        waiting = fetch(acmems, place)
        assert (waiting.status, waiting.headers["Location"]) == (202, place.headers["Location"])
        assert ask(acmems, csr).headers["Location"] == place.headers["Location"], "the same has one answer"
        slow.go()
        reply = fetch_when_there(acmems, place)
        assert (reply.status, names_of(reply.body)) == (200, {NAME})
        assert reply.headers["Content-Type"] == "application/pem-certificate-chain"
        assert reply.headers["Cache-Control"] == "private, max-age=86400"
        tag = reply.headers["ETag"]
        again = fetch(acmems, place, "-H", f"If-None-Match: {tag}")
        assert (again.status, again.body) == (304, b"")
        signed = ask(acmems, csr)
        assert (signed.status, signed.body, signed.headers["ETag"]) == (200, reply.body, tag)
        assert "Preference-Applied" not in signed.headers
        assert proxy.count(path=NEW_ORDER) == 1
        assert re.search(r"deferred ref=\w+ client=127.0.0.1 names=www.example.org .*status=202", acmems.log)
    (tmp_path / "acmems.ini").write_text(settings.text())
    listed = run_acmems("events", tmp_path / "acmems.ini", "--json")
    words = [each["event"] for each in json.loads(listed.stdout)["events"]]
    assert "deferred" in words


def test_what_comes_soon_is_sent_at_once(settings: Settings, tmp_path: Path) -> None:
    """A client that gives the CA a moment needs no second request."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    with Acmems(settings) as acmems:
        reply = ask(acmems, csr, wait=60)
    assert (reply.status, names_of(reply.body)) == (200, {NAME})


def test_for_programs(settings: Settings, slow: SlowCA, tmp_path: Path) -> None:
    """Whoever accepts JSON gets it."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    slow.hold(NEW_ORDER)
    with Acmems(settings) as acmems:
        place = ask(acmems, csr, "-H", "Accept: application/json")
        document = json.loads(place.body)
        assert document["location"] == place.headers["Location"]
        assert str(document["retry_after"]) == place.headers["Retry-After"]
        unknown = fetch(acmems, f"/requests/{'x' * 32}", "-H", "Accept: application/json")
        assert json.loads(unknown.body)["status"] == 404
        assert fetch(acmems, place, "-X", "POST", "-d", "x").status == 405


class TestFailures:
    def test_what_the_ca_could_not_validate(self, settings: Settings, slow: SlowCA, tmp_path: Path) -> None:
        """The answer is the error, with the CA's reason; asking `/sign` again is another try."""
        settings.challenge_port = free_port()  # nothing of acmems is where the CA looks
        _, csr = make_key_and_csr(tmp_path, [NAME])
        slow.hold(NEW_ORDER)
        with Acmems(settings) as acmems:
            place = ask(acmems, csr)
            assert place.status == 202
            slow.go()
            reply = fetch_when_there(acmems, place)
            assert reply.status == 421
            assert NAME.encode() in reply.body
            again = fetch(acmems, place)
            assert (again.status, again.body) == (reply.status, reply.body)
            assert "stage=deferred" in acmems.log
            paused = ask(acmems, csr, wait=60)
            assert (paused.status, bool(paused.headers["Retry-After"])) == (421, True)

    def test_a_restart_forgets_no_error(self, settings: Settings, slow: SlowCA, tmp_path: Path) -> None:
        """It is in the state."""
        settings.challenge_port = free_port()
        _, csr = make_key_and_csr(tmp_path, [NAME])
        slow.hold(NEW_ORDER)
        with Acmems(settings) as acmems:
            place = ask(acmems, csr)
            slow.go()
            reply = fetch_when_there(acmems, place)
            assert reply.status == 421
        with Acmems(settings) as acmems:
            again = fetch(acmems, place)
            assert (again.status, again.body) == (421, reply.body)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "stop"])
@pytest.mark.parametrize("path", [NEW_ORDER, FINALIZE], ids=["not placed", "placed"])
def test_a_restart_before_the_chain_is_there(
    settings: Settings, slow: SlowCA, proxy: FaultProxy, tmp_path: Path, path: str, end: signal.Signals
) -> None:
    """Whether the CA has the order or not, the next process has an answer."""
    _, csr = make_key_and_csr(tmp_path, [NAME])
    slow.hold(path)
    with Acmems(settings) as acmems:
        place = ask(acmems, csr)
        assert place.status == 202
        wait_until(lambda: bool(proxy.count(path=path)), "the CA was asked")
        acmems.process.send_signal(end)
        acmems.process.wait(60)
        if end is signal.SIGTERM:
            assert "were not finished in time" not in acmems.log, "nobody is connected"
    slow.go()
    with Acmems(settings) as acmems:
        reply = fetch_when_there(acmems, place)
    assert (reply.status, names_of(reply.body)) == (200, {NAME})


@pytest.mark.parametrize("storage", ['[storage "n"]\ntype = none\n', ""], ids=["none", "memory"])
def test_where_nothing_is_stored(
    settings: Settings, slow: SlowCA, proxy: FaultProxy, tmp_path: Path, storage: str
) -> None:
    """The answer is there all the same, as often as it is fetched, also after a restart."""
    settings.storage = storage
    _, csr = make_key_and_csr(tmp_path, [NAME])
    slow.hold(FINALIZE)
    with Acmems(settings) as acmems:
        place = ask(acmems, csr)
        slow.go()
        first = fetch_when_there(acmems, place)
        assert first.status == 200
        assert fetch(acmems, place).body == first.body
    with Acmems(settings) as acmems:
        assert fetch(acmems, place).body == first.body
    assert proxy.count(path=NEW_ORDER) == 1


@pytest.mark.threat("auth", "the answer to another one's request")
class TestWhoMayFetch:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        settings.auth = BLOCKS
        return settings

    def test_by_address(self, settings: Settings, slow: SlowCA, tmp_path: Path) -> None:
        """Whoever may ask for these names; all others learn what they learn of one that is not there."""
        _, csr = make_key_and_csr(tmp_path, [NAME])
        slow.hold(FINALIZE)
        with Acmems(settings) as acmems:
            place = ask(acmems, csr)
            assert place.status == 202
            unknown = fetch(acmems, f"/requests/{'x' * 32}")
            assert (unknown.status, unknown.headers["Cache-Control"]) == (404, "no-store")
            for address in ("127.0.0.2", "127.0.0.9"):
                hidden = fetch(acmems, place, "--interface", address)
                assert (hidden.status, hidden.body) == (404, unknown.body)
                same = {*hidden.headers} - {"Date"}
                assert same == {*unknown.headers} - {"Date"}
            assert fetch(acmems, place, "--interface", "127.0.0.3").status == 202
            slow.go()
            assert fetch_when_there(acmems, place).status == 200
            assert fetch(acmems, place, "--interface", "127.0.0.2").status == 404
            assert fetch(acmems, place, "--interface", "127.0.0.3").status == 200
            assert "matches no domain of it" in acmems.log

    def test_by_hmac(self, settings: Settings, slow: SlowCA, tmp_path: Path) -> None:
        """It covers the path; that of the CSR opens nothing here, nor does that of another path."""
        _, csr = make_key_and_csr(tmp_path, ["www.example.net"])
        slow.hold(FINALIZE)
        with Acmems(settings) as acmems:
            place = ask(acmems, csr, *SOMEWHERE, "-H", hmac_header(csr, SECRET))
            path = place.headers["Location"]
            right = f"Authentication: hmac name=sha256, hash={covered(path)}"
            assert fetch(acmems, place, *SOMEWHERE, "-H", right).status == 202
            wrong = [
                hmac_header(csr, SECRET),
                f"Authentication: hmac name=sha256, hash={covered('')}",
                f"Authentication: hmac name=sha256, hash={covered(path[:-1])}",
                f"Authentication: hmac name=sha256, hash={hashlib.sha256(path.encode()).hexdigest()}",
                "X-Nothing: 1",
            ]
            assert {fetch(acmems, place, *SOMEWHERE, "-H", each).status for each in wrong} == {404}
            assert "the HMAC is not that of this path" in acmems.log
            slow.go()
            assert fetch_when_there(acmems, place, *SOMEWHERE, "-H", right).status == 200

    def test_by_a_fresh_hmac(self, settings: Settings, slow: SlowCA, tmp_path: Path) -> None:
        """It covers the time as well, and works from one address only."""
        _, csr = make_key_and_csr(tmp_path, ["www.example.net"])
        slow.hold(FINALIZE)
        with Acmems(settings) as acmems:
            place = ask(acmems, csr, *SOMEWHERE, "-H", hmac_header(csr, SECRET))
            path = place.headers["Location"]

            def header(at: int) -> str:
                hmac_of_all = covered(f"{at}\n{path}", "sha512")
                return f"Authentication: hmac name=sha512, time={at}, hash={hmac_of_all}"

            now = int(time.time())
            assert fetch(acmems, place, *SOMEWHERE, "-H", header(now)).status == 202
            assert fetch(acmems, place, "--interface", "127.0.0.2", "-H", header(now)).status == 404
            assert fetch(acmems, place, *SOMEWHERE, "-H", header(now - 600)).status == 404
            plain = f"Authentication: hmac name=sha512, hash={covered(path, 'sha512')}"
            assert fetch(acmems, place, *SOMEWHERE, "-H", plain).status == 404

    @pytest.mark.threat("fair shares", "refusals without end")
    def test_guessing(self, settings: Settings, tmp_path: Path) -> None:
        """Each guess costs a connection; what is no id, and whatever its bytes, is one as well."""
        with Acmems(settings) as acmems:
            guesses = ("", "x", "y" * 32, "..%2fsign", "é", "y" * 33)
            for path in [f"/requests/{guess}" for guess in guesses]:
                reply = fetch(acmems, path, "--path-as-is")
                assert (reply.status, reply.headers["Connection"]) == (404, "close")
            assert "a bug" not in acmems.log


def test_any_process_answers(settings: Settings, slow: SlowCA, proxy: FaultProxy, tmp_path: Path) -> None:
    """Of several that serve."""
    settings.mgmt += "\nprocesses = 2\n"
    _, csr = make_key_and_csr(tmp_path, [NAME])
    slow.hold(FINALIZE)
    with Acmems(settings) as acmems:
        place = ask(acmems, csr)
        with ThreadPoolExecutor(16) as pool:
            assert {*pool.map(lambda _: fetch(acmems, place).status, range(32))} == {202}
            slow.go()
            first = fetch_when_there(acmems, place)
            replies = [*pool.map(lambda _: fetch(acmems, place), range(32))]
        assert {(each.status, each.body) for each in replies} == {(200, first.body)}
    assert proxy.count(path=NEW_ORDER) == 1


def test_any_server_answers(
    settings: Settings, slow: SlowCA, proxy: FaultProxy, postgres: Postgres, pebble: Pebble, tmp_path: Path
) -> None:
    """Of several with one state: one orders, another one answers, also when the first one is gone."""
    database = postgres.make_database()
    _, csr = make_key_and_csr(tmp_path, [NAME])
    slow.hold(FINALIZE)
    with ExitStack() as stack:
        servers = []
        for number in range(2):
            folder = tmp_path / f"node{number}"
            folder.mkdir()
            mine = dataclasses.replace(Settings.of(pebble, folder), auth=settings.auth)
            mine.challenge_port = settings.challenge_port if number == 0 else free_port()
            mine.storage = '[storage "state"]\ntype = sql\n'
            mine.account += f"\n[state]\nurl = {postgres.url_of(database)}\n"
            servers.append(stack.enter_context(Acmems(proxy.before(mine))))
        place = ask(servers[0], csr)
        assert fetch(servers[1], place).status == 202
        slow.go()
        reply = fetch_when_there(servers[1], place)
        assert (reply.status, names_of(reply.body)) == (200, {NAME})
        servers[0].process.kill()
        assert fetch(servers[1], place).body == reply.body
    assert proxy.count(path=NEW_ORDER) == 1


def test_the_documented_command(settings: Settings, slow: SlowCA, proxy: FaultProxy, tmp_path: Path) -> None:
    """It asks, comes back until the chain is there, and installs that."""
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
    found = re.search(r"(?ms)^### Without waiting$.*?^```sh\n(.*?)^```$", page)
    assert found
    key, csr = make_key_and_csr(tmp_path, [NAME])
    key.rename(tmp_path / "host.key")
    csr.rename(tmp_path / "host.csr")
    slow.hold(FINALIZE)
    with Acmems(settings) as acmems:
        script = found[1].replace("/etc/ssl/acmems", str(tmp_path))
        script = script.replace("http://acmems.example.org:1313/sign", acmems.sign_url)
        with subprocess.Popen(["sh", "-c", script], env=environment()) as client:
            wait_until(lambda: "deferred ref=" in acmems.log, "it was told to come back")
            slow.go()
            assert client.wait(100) == 0
    assert names_of((tmp_path / "host.pem").read_bytes()) == {NAME}
    assert not (tmp_path / "host.answer").exists()
