"""Reloading by SIGHUP: nothing is lost, and a bad configuration changes nothing."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.message
import dns.query
import pytest
from tests.clients import Clients
from tests.fault_proxy import FaultProxy
from tests.faults import CHALLENGE
from tests.peers import (
    CALM,
    Acmems,
    Bind,
    ChallTestSrv,
    Pebble,
    Resolver,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    wait_until,
)

NOBODY = """
[auth "somebody else"]
ip = 192.0.2.1
domain = **
"""
OTHER = """
[verification "other"]
type = http01
listener = 127.0.0.1:{port}
"""
TLS = """
[verification "tls"]
type = tls-alpn01
listener = 127.0.0.1:{port}
"""
UPDATES = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {server}
"""
ZONE = """
[verification "dns"]
type = dns01-server
zone = acme.example.net
ns = ns.example.org
listener = 127.0.0.1:{port}
"""


@contextlib.contextmanager
def proving(proxy: FaultProxy) -> Iterator[None]:
    """Hold the word for the CA to come, of the order that is made meanwhile, until all is done.

    A CA that has been told so has little patience with whoever is slow to answer.
    """
    go = threading.Event()
    proxy.when(path=CHALLENGE, nth=1).stall(go)
    try:
        yield
    finally:
        go.set()


def wait_for_proof(proxy: FaultProxy) -> None:
    """Wait until it is presented, and the CA about to be told."""
    wait_until(lambda: proxy.count(path=CHALLENGE) >= 1, "the CA is told to come")


def test_nothing_is_lost(settings: Settings, tmp_path: Path) -> None:
    """While the configuration changes twenty times, every request on every connection is answered."""
    _, csr = make_key_and_csr(tmp_path, ["loop.example.org"])
    others = [free_port(), free_port()]
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        clients = Clients(acmems.port, csr)
        with clients.asking(kept=3, new=3):
            for number in range(20):
                # A further listener comes and goes; limits and blocks change.
                settings.mgmt = f"max-connections = {100 + number}"
                if number % 2:
                    settings.mgmt += f"\nlistener = 127.0.0.1:{others[0]}"
                settings.auth = settings.auth.replace('"anyone"', '"anyone at all"', number % 3)
                acmems.reload(settings)
                clients.answered(20)
        assert curl_sign(f"http://127.0.0.1:{others[0]}/sign", csr).status == 200
        log = acmems.log
    assert clients.errors == []
    assert set(clients.statuses) == {200}
    assert log.count("reloaded, listening on ") == 20


def test_a_new_policy_counts_at_once(settings: Settings, tmp_path: Path) -> None:
    """A block that is taken away grants nothing any more, on connections that are open as well."""
    _, csr = make_key_and_csr(tmp_path, ["policy.example.org"])
    with Acmems(settings) as acmems:
        connection = http.client.HTTPConnection("127.0.0.1", acmems.port, timeout=60)

        def ask() -> int:
            connection.request("POST", "/sign", csr.read_bytes())
            answer = connection.getresponse()
            answer.read()
            return answer.status

        assert ask() == 200
        allowed = settings.auth
        settings.auth = NOBODY
        acmems.reload(settings)
        assert ask() == 403
        connection.close()
        settings.auth = allowed
        acmems.reload(settings)
        assert ask() == 200
        connection.close()


def test_a_running_order_survives(proxy: FaultProxy, settings: Settings, tmp_path: Path) -> None:
    """An order ends as it has begun, though its verification and its storage are gone from the configuration.

    The CA finds its proof where it was, and only then is the listener closed.
    """
    _, csr = make_key_and_csr(tmp_path, ["running.example.org"])
    settings = proxy.before(settings)
    with Acmems(settings) as acmems, ThreadPoolExecutor() as pool:
        before = settings.text()
        with proving(proxy):
            reply = pool.submit(curl_sign, acmems.sign_url, csr)
            wait_for_proof(proxy)
            settings.verification = OTHER.format(port=free_port())
            settings.storage = '[storage "memory"]\ntype = none\n'
            acmems.reload(settings)
            assert "reloaded" in acmems.log
        assert reply.result().status == 200
        wait_until(lambda: not is_open(settings.challenge_port), "the listener is closed")
        acmems.reload(before)
        assert is_open(settings.challenge_port)
        stored = curl_sign(acmems.sign_url, csr)
        assert stored.body == reply.result().body
        assert acmems.log.count(" issued ") == 1


def test_a_handshake_is_made_after_a_reload(dns: ChallTestSrv, tmp_path: Path) -> None:
    """What a tls-alpn01 section presented is shown where it listens, after that has changed, too."""
    _, csr = make_key_and_csr(tmp_path, ["tls.example.org"])
    with Pebble(dns.address, env=CALM) as ca, FaultProxy(ca) as proxy:
        settings = proxy.before(Settings.of(ca, tmp_path))
        settings.verification = TLS.format(port=ca.tls_port)
        with Acmems(settings) as acmems, ThreadPoolExecutor() as pool:
            with proving(proxy):
                reply = pool.submit(curl_sign, acmems.sign_url, csr)
                wait_for_proof(proxy)
                settings.verification += f"listener = 127.0.0.1:{free_port()}\n"
                acmems.reload(settings)
                assert "reloaded" in acmems.log
            assert reply.result().status == 200, reply.result().text


def test_a_record_is_found_after_a_reload(tmp_path: Path) -> None:
    """What a dns01-server section presented is in its zone after its name servers have changed, too."""
    port = free_port()
    _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
    cname = "_acme-challenge.www CNAME www.example.org.acme.example.net."
    with (
        Resolver(port, cname) as resolver,
        Pebble(resolver.address, env=CALM) as ca,
        FaultProxy(ca) as proxy,
    ):
        settings = proxy.before(Settings.of(ca, tmp_path))
        settings.verification = ZONE.format(port=port)
        with Acmems(settings) as acmems, ThreadPoolExecutor() as pool:
            with proving(proxy):
                reply = pool.submit(curl_sign, acmems.sign_url, csr)
                wait_for_proof(proxy)
                settings.verification += "ns = ns2.example.org\nrate-limit = 100\n"
                acmems.reload(settings)
                assert "reloaded" in acmems.log
            assert reply.result().status == 200, reply.result().text
            shown = dns.query.udp(dns.message.make_query("acme.example.net", "NS"), "127.0.0.1", 30, port)
            assert "ns2.example.org." in shown.to_text()
            settings.verification = settings.verification.replace("acme.example.net", "other.example.net")
            acmems.reload(settings)
            assert "'zone' cannot be changed by a reload" in acmems.log


def test_records_are_withdrawn_by_whoever_presented_them(
    proxy: FaultProxy, settings: Settings, tmp_path: Path
) -> None:
    """A record that a section has put into a zone is removed at the end, though the section is gone."""
    _, csr = make_key_and_csr(tmp_path, ["www.example.org"])
    record = "_acme-challenge.www.example.org"
    settings = proxy.before(settings)
    http01 = settings.verification
    with Bind("example.org") as bind:
        settings.verification = UPDATES.format(server=bind.address)
        with Acmems(settings) as acmems, ThreadPoolExecutor() as pool:
            with proving(proxy):
                reply = pool.submit(curl_sign, acmems.sign_url, csr)
                wait_for_proof(proxy)
                settings.verification = http01
                acmems.reload(settings)
                assert "reloaded" in acmems.log
                assert len(bind.texts(record)) == 1
            assert reply.result().status == 421  # the CA asks another server
            assert bind.texts(record) == set()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("max-size = 4k", "max-sise = 4k", "acmems.ini:11: [mgmt] knows no 'max-sise'"),
        ("{folder}/storage", "{folder}/elsewhere", "there is no directory"),
        (
            "acme-server = https://",
            "acme-server = https://other.",
            "'acme-server' cannot be changed by a reload",
        ),
        ("dir = {folder}/account", "dir = {folder}/storage", "'dir' cannot be changed by a reload"),
        ("level = debug", "level = debug\ndestination = {folder}/none/log", "the directory of the log file"),
        ("level = debug", "level = debug\ndestination = {folder}/storage/.", "is a directory"),
        (
            "max-size = 4k",
            "listener = 127.0.0.1:{taken}",
            "acmems.ini:11: 127.0.0.1:{taken} is in use by",
        ),
        (
            "max-size = 4k",
            "listener = 192.0.2.13:1313",
            "acmems.ini:11: 192.0.2.13:1313: this machine does not have",
        ),
    ],
    ids=["key", "storage", "ca", "account", "log folder", "log", "taken", "elsewhere"],
)
def test_a_bad_configuration_changes_nothing(
    settings: Settings, tmp_path: Path, old: str, new: str, told: str
) -> None:
    """What cannot be done is told with file and line where there is one, and all stays as it was."""
    _, csr = make_key_and_csr(tmp_path, ["bad.example.org"])
    settings.mgmt = "max-size = 4k"
    with socket.create_server(("127.0.0.1", 0)) as taken, Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        known = {"folder": tmp_path, "taken": taken.getsockname()[1]}
        # Beside the mistake there is a good change, which must not be made either.
        settings.auth = NOBODY
        text = settings.text()
        changed = text.replace(old.format_map(known), new.format_map(known))
        assert changed != text
        acmems.reload(changed)
        assert told.format_map(known) in acmems.log
        assert "not reloaded, all stays as it was" in acmems.log
        assert curl_sign(acmems.sign_url, csr).status == 200
        acmems.reload(text)
        assert curl_sign(acmems.sign_url, csr).status == 403


def test_an_address_moves(settings: Settings, tmp_path: Path) -> None:
    """A listener moves from one address to all of its port and back, and addresses change hands."""
    _, csr = make_key_and_csr(tmp_path, ["moves.example.org"])
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        text = settings.text()
        clients = Clients(acmems.port, csr)
        with clients.asking(kept=0, new=2):
            for address in ("0.0.0.0", "localhost", "127.0.0.1"):  # noqa: S104 - a test's own
                acmems.reload(text.replace(f"127.0.0.1:{acmems.port}", f"{address}:{acmems.port}"))
                assert "not reloaded" not in acmems.log
                clients.answered(5)
        assert clients.errors == []
        assert set(clients.statuses) == {200}
        mgmt, challenges = acmems.port, settings.challenge_port
        swapped = text.replace(f":{mgmt}\n", ":0\n").replace(f":{challenges}\n", f":{mgmt}\n")
        acmems.reload(swapped.replace(":0\n", f":{challenges}\n"))
        assert curl_sign(f"http://127.0.0.1:{challenges}/sign", csr).status == 200
        assert curl(f"http://127.0.0.1:{mgmt}/.well-known/acme-challenge/x").status == 404


def test_logs_move_and_rotate(settings: Settings, tmp_path: Path) -> None:
    """The log goes to another file, and a file that was moved away is begun anew."""
    _, csr = make_key_and_csr(tmp_path, ["logs.example.org"])
    logs = tmp_path / "logs"
    logs.mkdir()
    with Acmems(settings) as acmems:
        settings.logging = f"destination = {logs}/acmems.log\nformat = json"
        acmems.reload(settings)
        log = logs / "acmems.log"
        assert '"reloaded, listening on ' in log.read_text()
        shutil.move(log, logs / "acmems.log.1")
        acmems.reload()
        assert curl_sign(acmems.sign_url, csr).status == 200
        assert '"delivered"' in log.read_text()


def test_terms_that_are_accepted_later(dns: ChallTestSrv, settings: Settings, tmp_path: Path) -> None:
    """New terms of service are accepted by a reload, and orders go on without a restart."""
    _, csr = make_key_and_csr(tmp_path, ["terms.example.org"])
    accepted = settings.text()
    with Acmems(settings):
        pass
    changed = accepted.replace(
        "accept-terms-of-service = yes", "accept-terms-of-service = https://ca.example/terms/of/last/year"
    )
    with Acmems(changed) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 503
        acmems.reload(accepted)
        assert curl_sign(acmems.sign_url, csr).status == 200


def is_open(port: int) -> bool:
    """Tell whether somebody listens on a port of loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return False
    return True
