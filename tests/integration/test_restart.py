"""Starts that wait for nobody, and restarts that refuse nobody, by sockets that outlive the server."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.message
import dns.query
import pytest
from tests.peers import (
    Acmems,
    Pebble,
    Settings,
    curl,
    curl_sign,
    environment,
    free_port,
    make_key_and_csr,
    program,
    run_acmems,
    wait_until,
)

DNS = """
[verification "dns"]
type = dns01-server
zone = acme.example.net
ns = ns.example.org
listener = 127.0.0.1:{dns_port}
"""


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A CA that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def listening(port: int) -> socket.socket:
    """Open a socket as systemd does."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(4096)
    return sock


class TestInheritedSockets:
    def test_a_restart_refuses_nobody(self, settings: Settings, tmp_path: Path) -> None:
        """While the server is restarted thrice, every client gets its chain; none is refused or reset."""
        _, csr = make_key_and_csr(tmp_path, ["restart.example.org"])
        statuses: list[int] = []
        errors: list[Exception] = []
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", settings.port, timeout=60)
                try:
                    connection.request("POST", "/sign", csr.read_bytes())
                    answer = connection.getresponse()
                    answer.read()
                    statuses.append(answer.status)
                except (OSError, http.client.HTTPException) as error:
                    errors.append(error)
                connection.close()

        with contextlib.ExitStack() as stack:
            mgmt = stack.enter_context(listening(settings.port))
            challenges = stack.enter_context(listening(settings.challenge_port))
            sockets = [("acmems.socket", mgmt), ("acmems.socket", challenges)]
            acmems = stack.enter_context(Acmems(settings, sockets=sockets))
            assert curl_sign(acmems.sign_url, csr).status == 200
            pool = stack.enter_context(ThreadPoolExecutor(4))
            futures = [pool.submit(keep_asking) for _ in range(4)]
            stack.callback(stop.set)
            for _ in range(3):
                goal = len(statuses) + 20
                wait_until(lambda goal=goal: len(statuses) >= goal or bool(errors), "they are answered")  # type: ignore[misc] # mypy does not infer a lambda with a default
                acmems.restart()
            stop.set()
            for future in futures:
                future.result()
            log = acmems.log
        assert errors == []
        assert set(statuses) == {200}
        assert "no listener is configured" not in log

    def test_datagrams_too(self, settings: Settings) -> None:
        """A name server takes both of its sockets, and answers queries that came while nobody was there."""
        port = free_port()
        settings.verification = DNS.replace("{dns_port}", str(port))
        query = dns.message.make_query("acme.example.net", "SOA")
        with (
            listening(port) as stream,
            socket.socket(type=socket.SOCK_DGRAM) as datagrams,
            socket.socket(type=socket.SOCK_DGRAM) as client,
        ):
            datagrams.bind(("127.0.0.1", port))
            client.settimeout(30)
            with Acmems(settings, sockets=[("dns", datagrams), ("dns", stream)]) as acmems:
                assert dns.query.udp(query, "127.0.0.1", 30, port).answer
                assert dns.query.tcp(query, "127.0.0.1", 30, port).answer
                acmems.stop(signal.SIGTERM)
                client.sendto(query.to_wire(), ("127.0.0.1", port))
                acmems.start()
                assert dns.message.from_wire(client.recv(4096)).id == query.id

    def test_one_socket_for_both_families(self, settings: Settings) -> None:
        """A socket for IPv6 and IPv4, as systemd opens by default, is both `0.0.0.0` and `[::]`."""
        text = settings.text().replace(
            f"listener = 127.0.0.1:{settings.port}",
            f"listener = 0.0.0.0:{settings.port}\nlistener = [::]:{settings.port}",
        )
        place = ("::", settings.port)
        both = socket.create_server(place, family=socket.AF_INET6, dualstack_ipv6=True)
        with both, Acmems(text, sockets=[("acmems.socket", both)]) as acmems:
            for host in ("127.0.0.1", "[::1]"):
                assert curl(f"http://{host}:{settings.port}/").status == 404
            acmems.reload()
            assert "not reloaded" not in acmems.log
            assert curl(f"http://127.0.0.1:{settings.port}/").status == 404

    def test_unused_sockets_are_told_of(self, settings: Settings, tmp_path: Path) -> None:
        """A socket for which no listener is configured is told of, until a reload gives it one."""
        port = free_port()
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(str(tmp_path / "unix"))
        with unix, listening(port) as unused, listening(settings.port) as used:
            sockets = [("web", unused), ("unix", unix), ("acmems", used)]
            with Acmems(settings, sockets=sockets) as acmems:
                told = re.findall(r"systemd has opened the socket (\S+) at (\S+),", acmems.log)
                assert told == [("web", f"127.0.0.1:{port}"), ("unix", str(tmp_path / "unix"))]
                settings.mgmt = f"listener = 127.0.0.1:{port}"
                acmems.reload(settings)
                assert curl(f"http://127.0.0.1:{port}/").status == 404
                # It stays systemd's where it is not needed any more, and can be had again.
                settings.mgmt = ""
                acmems.reload(settings)
                settings.mgmt = f"listener = 127.0.0.1:{port}"
                acmems.reload(settings)
                assert curl(f"http://127.0.0.1:{port}/").status == 404

    def test_systemd_hands_them_over(self, settings: Settings, tmp_path: Path) -> None:
        """A program of systemd, for trying it out, starts the server with the first connection."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        addresses = [f"127.0.0.1:{settings.port}", f"127.0.0.1:{settings.challenge_port}"]
        listen = [word for address in addresses for word in ("--listen", address)]
        env = environment()
        with (tmp_path / "output").open("wb") as output:
            process = subprocess.Popen(
                [
                    program("systemd-socket-activate"),
                    *listen,
                    "--fdname=mgmt:web",
                    f"--setenv=LD_LIBRARY_PATH={env['LD_LIBRARY_PATH']}",
                    *(sys.executable, "-m", "acmems", "serve", str(config)),
                ],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: b"Listening on" in (tmp_path / "output").read_bytes(), "it listens")
            assert curl(f"http://127.0.0.1:{settings.port}/").status == 404
            wait_until(lambda: b"ready, listening on" in (tmp_path / "output").read_bytes(), "it is ready")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
        log = (tmp_path / "output").read_text()
        assert f"ready, listening on mgmt {addresses[0]}, http01 http {addresses[1]}" in log


class TestStart:
    def test_a_hanging_ca_delays_nothing(
        self, settings: Settings, silent: socket.socket, tmp_path: Path
    ) -> None:
        """With a known account the server is ready, and delivers what is stored, before the CA answers."""
        _, csr = make_key_and_csr(tmp_path, ["stored.example.org"])
        with Acmems(settings) as acmems:
            first = curl_sign(acmems.sign_url, csr)
        assert first.status == 200
        hanging = settings.text().replace(
            settings.directory_url, f"https://127.0.0.1:{silent.getsockname()[1]}/dir"
        )
        # The chain is that of the CA by another name, as 0.5 has kept it.
        for description in (tmp_path / "storage").rglob("acmems.json"):
            description.unlink()
        with Acmems(hanging) as acmems:
            held, _ = silent.accept()
            assert curl_sign(acmems.sign_url, csr).body == first.body
            assert "stored chains are delivered, but" not in acmems.log
            silent.close()
            held.close()
            wait_until(lambda: "stored chains are delivered, but" in acmems.log, "the account is told of")

    def test_who_connects_while_the_account_is_made_waits(
        self, settings: Settings, silent: socket.socket, tmp_path: Path
    ) -> None:
        """Addresses are taken before there is an account; ready is who can serve."""
        text = settings.text().replace(
            settings.directory_url, f"https://127.0.0.1:{silent.getsockname()[1]}/dir"
        )
        config = tmp_path / "acmems.ini"
        config.write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-m", "acmems", "serve", config],
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        held, _ = silent.accept()
        with held, socket.create_connection(("127.0.0.1", settings.port), 30):
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "ready" not in errors

    @pytest.mark.parametrize("place", ["port", "challenge_port"])
    def test_an_address_in_use_leaves_no_account(
        self, pebble: Pebble, settings: Settings, tmp_path: Path, place: str
    ) -> None:
        """Where an address is taken, neither a key nor an account at the CA is left behind."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        before = pebble.log.count("accounts in memory")
        if place == "challenge_port":
            text = settings.text()
            other = free_port()
            config.write_text(text.replace(f":{settings.challenge_port}", f":{other}"))
            taken = other
        else:
            taken = settings.port
        with socket.create_server(("127.0.0.1", taken)):
            done = run_acmems("serve", config)
        assert done.returncode == 1
        assert f"127.0.0.1:{taken} is in use by " in done.stderr
        assert list((tmp_path / "account").glob("account.pem")) == []
        assert list((tmp_path / "account").glob("registration.json")) == []
        assert pebble.log.count("accounts in memory") == before
