"""The peers themselves: they start, serve, start again and end."""

from __future__ import annotations

import contextlib
import http.server
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import dns.query
import dns.rcode
import dns.update
import psycopg
import pytest
from tests.peers import (
    Acmems,
    Bind,
    ChallTestSrv,
    Nginx,
    Pebble,
    PeerFailed,
    Postgres,
    Settings,
    curl,
    environment,
    free_port,
    make_key_and_csr,
    run,
    run_acmems,
)
from tests.peers.acmems_processes import Forking
from tests.peers.process import ROOT, Process, ports_of
from tests.relay import Relay


def test_pebble_serves_a_directory(pebble: Pebble) -> None:
    """Pebble answers over HTTPS that its own certificate file vouches for."""
    reply = curl(pebble.directory_url, "--cacert", pebble.ca_file)
    assert reply.status == 200
    assert b"newOrder" in reply.body
    assert pebble.root_pem().startswith("-----BEGIN CERTIFICATE-----")


def test_pebble_starts_again_where_it_was(dns: ChallTestSrv) -> None:
    """A CA that was restarted serves the same URL, with another root: it forgets everything."""
    with Pebble(dns.address) as ca:
        url, root = ca.directory_url, ca.root_pem()
        ca.restart()
        assert ca.directory_url == url
        assert ca.root_pem() != root


def test_a_port_belongs_to_whoever_asked_first() -> None:
    """Nobody else gets it, in this process or in another worker, although nobody listens there yet."""
    given = [free_port() for _ in range(1000)]
    assert len(set(given)) == 1000
    shares = [set(islice(ports_of(number, 3), 22_000)) for number in range(3)]
    assert len(set.union(*shares)) == sum(map(len, shares)) == 22_000


def facts_of(process: Process) -> dict[str, object]:
    """Return what others see of a process that is no other by chance."""
    place = Path(f"/proc/{process.pid}")
    status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
    return {
        "command": tuple(filter(None, (place / "cmdline").read_bytes().split(b"\0"))),
        "folder": (place / "cwd").readlink(),
        "session": os.getsid(process.pid) == process.pid,
        "files": sorted(str((place / "fd" / number).readlink()) for number in ("0", "1", "2")),
        "signals": [status[each] for each in ("SigBlk", "SigIgn", "SigCgt")],
        "umask": status["Umask"],
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_forked_server(
    pebble: Pebble, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks and ends like one that is started."""
    facts, ends = [], []
    acmems = Acmems(Settings.of(pebble, tmp_path), {"NO_COLOR": "1"})
    with acmems:
        for forks in (True, False):
            monkeypatch.setattr(Forking, "is_on", forks)
            acmems.restart()
            assert isinstance(acmems.process, subprocess.Popen) is not forks
            facts.append(facts_of(acmems.process))
            ends.append(acmems.stop(number))
            acmems.start()
    assert facts[0] == facts[1]
    assert ends[0] == ends[1]


def test_threads_that_wait_for_a_forked_server(pebble: Pebble, tmp_path: Path) -> None:
    """All of them hear how it has ended."""
    with Acmems(Settings.of(pebble, tmp_path)) as acmems, ThreadPoolExecutor(8) as threads:
        process = acmems.process
        waiting = [threads.submit(process.wait, 30) for _ in range(8)]
        process.kill()
        assert {each.result() for each in waiting} == {-signal.SIGKILL}


def test_a_forked_server_beside_many_files(pebble: Pebble, tmp_path: Path) -> None:
    """A test that has more than a thousand files open can wait for its end, too."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Acmems(Settings.of(pebble, tmp_path)) as acmems, contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        for _ in range(1024):
            stack.enter_context(Path(os.devnull).open("rb"))
        with pytest.raises(subprocess.TimeoutExpired):
            acmems.process.wait(0.01)
        acmems.process.terminate()
        assert acmems.process.wait(30) == 0


def test_a_forked_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints, complains and ends like one that is started."""
    (tmp_path / "wrong.ini").write_text("[mgmt]\nlistener = nowhere\nmax-siz = 1\n")
    monkeypatch.chdir(tmp_path)
    for words in (["check", "wrong.ini"], ["--version"], ["serve", "--help"], ["check", "nowhere.ini"]):
        outcomes = []
        for forks in (True, False):
            monkeypatch.setattr(Forking, "is_on", forks)
            done = run_acmems(*words)
            outcomes.append((done.returncode, done.stdout, done.stderr))
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("key", ["LD_PRELOAD", "SSL_CERT_FILE", "TZ", "PYTHONWARNINGS"])
def test_an_environment_that_cannot_be_forked(pebble: Pebble, tmp_path: Path, key: str) -> None:
    """Where libraries look at a variable when a process starts, it is started."""
    with Acmems(Settings.of(pebble, tmp_path), {key: ""}) as acmems:
        assert isinstance(acmems.process, subprocess.Popen)


LOCKED_UP = """
import pytest
from tests.peers import Pebble

runs = []

@pytest.fixture(scope="module")
def shared():
    with Pebble() as pebble:
        yield pebble

def test_with_a_shared_one(shared):
    runs.append(shared)
    if len(runs) == 1:
        shared.process.send_signal({signal})
        assert False
    assert shared is not runs[0]

def test_after_it(shared):
    assert shared is runs[-1]
    assert shared.root_pem()
    runs.clear()

def test_with_its_own():
    with Pebble() as own:
        runs.append(own)
        if len(runs) == 1:
            own.process.send_signal({signal})
            assert False
"""


@pytest.mark.parametrize(
    ("number", "outcomes"),
    [(signal.SIGSTOP, {"passed": 3, "warnings": 2}), (signal.SIGCONT, {"passed": 1, "failed": 2})],
    ids=["locked up", "running"],
)
def test_a_pebble_that_locks_itself_up(
    pytester: pytest.Pytester, number: signal.Signals, outcomes: dict[str, int]
) -> None:
    """The test that has met it is run once more, with another one; no other failing test is."""
    pytester.makepyfile(LOCKED_UP.format(signal=int(number)))
    done = pytester.runpytest_subprocess(f"--override-ini=pythonpath={ROOT}", "-p", "tests.lockups")
    done.assert_outcomes(**outcomes)


def test_a_failed_start_shows_the_output() -> None:
    """A peer that cannot start says why, in its own words."""
    with pytest.raises(PeerFailed, match="none such"), Pebble(options={"keyAlgorithm": "none such"}):
        pass


def test_bind_takes_updates() -> None:
    """A record that is sent to BIND by dynamic update can be asked for."""
    with Bind("example.org", "example.net") as server:
        update = dns.update.UpdateMessage("example.net")
        update.add("_acme-challenge.www", 60, "TXT", "proof")
        answer = dns.query.tcp(update, "127.0.0.1", timeout=30, port=server.port)
        assert answer.rcode() == dns.rcode.NOERROR
        assert server.texts("_acme-challenge.www.example.net") == {"proof"}
        assert server.texts("_acme-challenge.www.example.org") == set()


@pytest.fixture
def upstream() -> Iterator[int]:
    """The port of a web server that answers with path and host of a request."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{self.path} at {self.headers['Host']}".encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_nginx_forwards_challenges(upstream: int) -> None:
    """Nginx passes challenges on, with their host, and nothing else."""
    with Nginx(free_port(), upstream) as web:
        root = f"http://127.0.0.1:{web.port}"
        reply = curl(f"{root}/.well-known/acme-challenge/token", "-H", "Host: www.example.org")
        assert reply.text == "/.well-known/acme-challenge/token at www.example.org"
        assert curl(f"{root}/other").status == 404


@pytest.mark.parametrize("kind", ["ec", "ec384", "rsa"])
def test_requests_carry_names_as_told(tmp_path: Path, kind: str) -> None:
    """Openssl writes the names where a test wants them: subject, subjectAltName, or both."""
    text = ("openssl", "req", "-noout", "-verify", "-text", "-in")
    _, csr = make_key_and_csr(tmp_path, ["a.example.org", "b.example.org"], kind=kind)
    assert b"DNS:a.example.org, DNS:b.example.org" in run(*text, csr)
    assert b"CN = " not in run(*text, csr)
    _, csr = make_key_and_csr(tmp_path, ["a.example.org"], kind=kind, san=False)
    assert b"CN = a.example.org" in run(*text, csr)
    assert b"DNS:" not in run(*text, csr)


def rows(postgres: Postgres, database: str) -> list[tuple[int]]:
    return postgres.execute("SELECT number FROM noted ORDER BY number", database)


def test_postgresql_keeps_what_is_written(postgres: Postgres) -> None:
    """A database of a test is empty, wants the password, and is another one than that of the next test."""
    first, second = postgres.make_database(), postgres.make_database()
    postgres.execute("CREATE TABLE noted (number int)", first)
    assert rows(postgres, first) == []
    with pytest.raises(psycopg.errors.UndefinedTable):
        rows(postgres, second)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url, password="wrong")  # noqa: S106 - it is none


def test_postgresql_is_stopped_killed_and_held() -> None:
    """What was committed is there after each of these; what is held does not answer."""
    with Postgres() as server:
        name = server.make_database()
        server.execute("CREATE TABLE noted (number int)", name)
        for number, end in enumerate((signal.SIGINT, signal.SIGKILL)):
            server.execute(f"INSERT INTO noted VALUES ({number})", name)  # noqa: S608 - a number
            with psycopg.connect(server.url_of(name)):  # does not keep it from ending
                server.restart(end)
        assert rows(server, name) == [(0,), (1,)]
        with server.paused(), pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.url, connect_timeout=2)
        assert rows(server, name) == [(0,), (1,)]
        data = server.data
        server.stop()
        with Postgres(copy_of=data) as standby:
            assert rows(standby, name) == [(0,), (1,)]
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                standby.execute("INSERT INTO noted VALUES (2)", name)


def test_a_relay_stalls_cuts_and_loses_an_answer(postgres: Postgres) -> None:
    """The server hears what it is to hear, and the client what it is to hear."""
    name = postgres.make_database()
    with Relay(postgres.port) as relay:
        url = postgres.url_of(name, port=relay.port)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE noted (number int)")
            relay.lose_answer_to(b"VALUES (1)")
            with pytest.raises(psycopg.OperationalError):
                connection.execute("INSERT INTO noted VALUES (1)")
        assert rows(postgres, name) == [(1,)]
        for hold, heal in ((relay.stall, relay.heal), (relay.cut, relay.heal)):
            with psycopg.connect(url, autocommit=True) as connection:
                hold()
                if hold == relay.cut:
                    with pytest.raises(psycopg.OperationalError):
                        connection.execute("SELECT 1")
                with pytest.raises(psycopg.OperationalError):
                    psycopg.connect(url, connect_timeout=2)
                heal()
        assert relay.connections >= 4


def test_modules_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is to be written beside the sources, what peers compile is kept elsewhere."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    found = environment()
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert Path(found["PYTHONPYCACHEPREFIX"]).is_relative_to(Path(__file__).parents[2] / ".cache")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE")
    assert "PYTHONPYCACHEPREFIX" not in environment()
