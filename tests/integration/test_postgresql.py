"""A server whose state is in PostgreSQL, and what becomes of requests while that is away."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import FINALIZE, NEW_ORDER
from tests.peers import (
    Acmems,
    Postgres,
    Reply,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    names_of,
    run_acmems,
    wait_until,
)
from tests.relay import Relay

from acmems.state.chains import ChainRecords
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.text import Secret

STATE = """
[state]
url-file = {file}

[metrics]
listener = 127.0.0.1:{metrics}
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A database server that is killed and held, and well again after each test."""
    with Postgres() as server:
        yield server


@pytest.fixture
def relay(database: Postgres) -> Iterator[Relay]:
    """The way to it."""
    with Relay(database.port) as running:
        yield running


@pytest.fixture
def metrics() -> int:
    """The port of the listener for monitoring."""
    return free_port()


@pytest.fixture
def stateful(
    settings: Settings, database: Postgres, relay: Relay, proxy: FaultProxy, metrics: int
) -> Settings:
    """A configuration with an empty database, by way of the relay."""
    file = settings.folder / "state-url"
    url = database.url_of(database.make_database(), port=relay.port)
    file.write_text(f"{url}?connect_timeout=5\n", encoding="utf-8")
    file.chmod(0o600)
    settings.storage += STATE.format(file=file, metrics=metrics)
    return proxy.before(settings)


@pytest.fixture
def acmems(stateful: Settings) -> Iterator[Acmems]:
    with Acmems(stateful) as running:
        yield running


@pytest.fixture
def csr(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a signing request for a name."""
    numbers = iter(range(1000))

    def make(name: str) -> Path:
        folder = tmp_path / f"client-{next(numbers)}"
        folder.mkdir()
        return make_key_and_csr(folder, [name])[1]

    return make


CSR = Callable[[str], Path]
Away = Callable[[Postgres, Relay], AbstractContextManager[None]]


@contextlib.contextmanager
def killed(database: Postgres, relay: Relay) -> Iterator[None]:
    database.stop(signal.SIGKILL)
    yield
    database.start()


@contextlib.contextmanager
def held(database: Postgres, relay: Relay) -> Iterator[None]:
    with database.paused():
        yield


@contextlib.contextmanager
def cut_off(database: Postgres, relay: Relay) -> Iterator[None]:
    relay.cut()
    yield
    relay.heal()


def are_placed(proxy: FaultProxy, orders: int) -> bool:
    return proxy.count(path=NEW_ORDER) >= orders


def readiness(metrics: int) -> Reply:
    return curl(f"http://127.0.0.1:{metrics}/readyz")


@pytest.mark.parametrize("away", [killed, held, cut_off])
def test_a_database_that_is_away(
    acmems: Acmems, database: Postgres, relay: Relay, proxy: FaultProxy, metrics: int, csr: CSR, away: Away
) -> None:
    """What is stored is delivered, new orders are refused with words, and all is well again by itself."""
    stored, new = csr("stored.example.org"), csr("new.example.org")
    first = curl_sign(acmems.sign_url, stored)
    assert first.status == 200
    wait_until(lambda: readiness(metrics).status == 200, "it is ready")
    with away(database, relay):
        reply = curl_sign(acmems.sign_url, new)
        assert reply.status == 503
        assert int(reply.headers["Retry-After"]) >= 1
        assert "cannot note its orders at the moment" in reply.text
        assert curl_sign(acmems.sign_url, stored).body == first.body
        assert "the state cannot be written: nothing is ordered" in readiness(metrics).text
        assert "nothing is ordered until this is mended: the state postgresql://127.0.0.1" in acmems.log
        assert curl_sign(acmems.sign_url, new).status == 503
    wait_until(lambda: curl_sign(acmems.sign_url, new).status == 200, "orders are placed again")
    wait_until(lambda: readiness(metrics).text == "ready\n", "it is ready again")
    wait_until(lambda: "the state can be written again" in acmems.log, "it is told")
    assert proxy.count(path=NEW_ORDER) == 2  # what had been placed as it went away was gone on with
    assert database.password not in acmems.log
    assert database.password.replace(" ", "%20") not in acmems.log


@pytest.fixture
def in_state(stateful: Settings) -> Settings:
    """The same, with the chains in the database, too."""
    stateful.storage = stateful.storage.replace("type = file\ndirectory = {folder}/storage", "type = sql")
    return stateful


@pytest.mark.parametrize("away", [killed, held, cut_off])
def test_chains_in_a_database_that_is_away(
    in_state: Settings, database: Postgres, relay: Relay, csr: CSR, away: Away
) -> None:
    """What this server has delivered lately it delivers; of other chains it cannot tell, and says so."""
    stored, new = csr("stored.example.org"), csr("new.example.org")
    with Acmems(in_state) as acmems:
        first = curl_sign(acmems.sign_url, stored)
        assert first.status == 200
        with away(database, relay):
            assert curl_sign(acmems.sign_url, stored).body == first.body
            assert curl_sign(acmems.sign_url, new).status == 503
        wait_until(lambda: curl_sign(acmems.sign_url, new).status == 200, "orders are placed again")
        assert curl_sign(acmems.sign_url, stored).body == first.body


def test_chains_of_several_servers(
    in_state: Settings, database: Postgres, proxy: FaultProxy, csr: CSR
) -> None:
    """One delivers what the other has got, and neither delivers what somebody else has revoked."""
    request = csr("shared.example.org")
    url = (in_state.folder / "state-url").read_text(encoding="utf-8").strip()
    other = dataclasses.replace(
        in_state,
        port=free_port(),
        verification='[verification "http"]\ntype = http01\nlistener =\n',
        storage=in_state.storage.partition("[metrics]")[0],
    )
    with Acmems(in_state) as one, Acmems(other) as two:
        first = curl_sign(one.sign_url, request)
        assert curl_sign(two.sign_url, request).body == curl_sign(one.sign_url, request).body == first.body
        assert proxy.count(path=NEW_ORDER) == 1
        with contextlib.closing(PostgresDatabase.open(Secret(url))) as opened:
            records = ChainRecords(opened)
            (record,) = records.find("shared.example.org")
            records.revoking(record.fingerprint, "superseded").result(30)
        second = curl_sign(one.sign_url, request)
        assert second.status == 200
        assert second.body != first.body
        assert curl_sign(two.sign_url, request).body == second.body
    assert proxy.count(path=NEW_ORDER) == 2


def test_a_database_that_is_killed_during_requests(
    acmems: Acmems, database: Postgres, proxy: FaultProxy, csr: CSR
) -> None:
    """Whoever asks again gets a chain, and nothing is ordered twice."""
    names = [f"host-{number}.example.org" for number in range(6)]
    requests = [csr(name) for name in names]
    is_over = threading.Event()

    def ask(request: Path) -> Reply:
        replies = [curl_sign(acmems.sign_url, request)]
        while replies[-1].status == 503 and not is_over.wait(0.1):
            replies.append(curl_sign(acmems.sign_url, request))
        return replies[-1]

    with ThreadPoolExecutor(len(requests)) as clients:
        asked = [clients.submit(ask, request) for request in requests]
        for orders in (1, 3):
            wait_until(functools.partial(are_placed, proxy, orders), "orders are placed")
            database.restart(signal.SIGKILL)
        try:
            found = [each.result(90) for each in asked]
        finally:
            is_over.set()
    assert [names_of(each.body) for each in found] == [{name} for name in names]
    assert proxy.count(path=NEW_ORDER) == len(names)


def test_an_order_of_a_server_that_was_killed(stateful: Settings, proxy: FaultProxy, csr: CSR) -> None:
    """The next server finds it in the database, and goes on with it."""
    request = csr("killed.example.org")
    proxy.when(path=FINALIZE, nth=1).stall()
    with Acmems(stateful) as acmems, ThreadPoolExecutor(1) as client:
        asked = client.submit(curl_sign, acmems.sign_url, request)
        wait_until(lambda: proxy.count(path=FINALIZE) == 1, "the order is finalized")
        acmems.stop(signal.SIGKILL)
        assert asked.exception() is not None or asked.result().status != 200
        acmems.start()
        wait_until(lambda: "going on with the order that was left" in acmems.log, "it goes on", 60)
        assert curl_sign(acmems.sign_url, request).status == 200
    assert proxy.count(path=NEW_ORDER) == 1


def test_a_start_without_the_database(stateful: Settings, relay: Relay, database: Postgres) -> None:
    """It is told why, without the password and without a traceback; `check` does not connect."""
    file = stateful.folder / "acmems.ini"
    file.write_text(stateful.text(), encoding="utf-8")
    file.chmod(0o600)
    relay.cut()
    done = run_acmems("serve", file)
    assert done.returncode == 1
    assert f"the state postgresql://127.0.0.1:{relay.port}/acmems" in done.stderr
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.password.split()[0] not in done.stderr
    before = relay.connections
    assert "state" not in run_acmems("check", file).stderr
    assert relay.connections == before
