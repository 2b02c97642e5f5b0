"""A server of several processes: a supervisor, and workers that share its sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
from tests.clients import Clients
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    Settings,
    curl,
    curl_sign,
    environment,
    free_port,
    make_key_and_csr,
    run_acmems,
    wait_until,
)
from tests.processes import connections, has_ended, wait_for_workers, workers

METRICS = "[metrics]\nlistener = 127.0.0.1:{port}\n"
ISSUED = 'outcome="issued"'


@pytest.fixture(scope="module")
def trusting(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA that finds every proof, wherever it was presented."""
    with Pebble(dns.address, env={**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}) as ca:
        yield ca


@pytest.fixture
def settings(trusting: Pebble, tmp_path: Path) -> Settings:
    """A configuration with two processes."""
    made = Settings.of(trusting, tmp_path)
    made.challenge_port = free_port()
    made.mgmt = "processes = 2"
    return made


def counted(port: int, name: str, *labels: str) -> float:
    """Return the sum of the samples of a metric that have all of these labels."""
    lines = curl(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(f"{name}{{") and all(each in line for each in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_a_burst_is_shared(settings: Settings, tmp_path: Path) -> None:
    """Forty machines at once all get certificates, and both processes have about as many connections."""
    csrs = [make_key_and_csr(tmp_path, [f"h{n}.example.org"], stem=f"h{n}")[1] for n in range(40)]
    with Acmems(settings) as acmems, ThreadPoolExecutor(40) as pool:
        replies = list(pool.map(lambda csr: curl_sign(acmems.sign_url, csr), csrs))
        assert [reply.status for reply in replies] == [200] * 40
        pids = workers(acmems)
        assert len(pids) == 2

        def is_shared() -> bool:
            """Tell whether each has about as many; one that the machine holds up leaves them to the other."""
            with ExitStack() as stack:
                for _ in range(50):
                    stack.enter_context(socket.create_connection(("127.0.0.1", acmems.port)))
                wait_until(
                    lambda: sum(connections(pid, acmems.port) for pid in pids) == 50, "all are accepted"
                )
                held = [connections(pid, acmems.port) for pid in pids]
            wait_until(lambda: sum(connections(pid, acmems.port) for pid in pids) == 0, "all have gone")
            return min(held) >= 15

        wait_until(is_shared, "connections are shared")
        assert "another server uses" not in acmems.log


def test_a_process_that_is_held_up_holds_up_nobody(settings: Settings, tmp_path: Path) -> None:
    """While one process is stopped, the other one accepts all who come."""
    _, csr = make_key_and_csr(tmp_path, ["held.example.org"])
    with Acmems(settings) as acmems:
        curl_sign(acmems.sign_url, csr)
        stopped = workers(acmems)[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(20) as pool:
                replies = list(pool.map(lambda _: curl_sign(acmems.sign_url, csr), range(40)))
        finally:
            os.kill(stopped, signal.SIGCONT)
    assert [reply.status for reply in replies] == [200] * 40


def test_a_process_that_is_killed_is_replaced(settings: Settings, tmp_path: Path) -> None:
    """Whoever asks goes on to be answered when processes are killed, and what was counted stays counted."""
    port = free_port()
    settings.logging = METRICS.format(port=port)
    _, csr = make_key_and_csr(tmp_path, ["loop.example.org"])
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).status == 200
        clients = Clients(acmems.port, csr)
        before = 0.0
        with clients.asking(kept=0, new=4):
            for _ in range(4):
                clients.statuses.clear()
                wait_until(lambda: len(clients.statuses) > 20, "they are answered")
                now = counted(port, "acmems_requests_total", 'front_end="sign"')
                assert now >= before
                before = now
                killed = workers(acmems)[0]
                os.kill(killed, signal.SIGKILL)
                wait_for_workers(acmems, 2, without=killed)
        assert set(clients.statuses) == {200}
        # Requests that the killed process had begun end with their connection; no other connection suffers.
        assert not [each for each in clients.errors if isinstance(each, ConnectionRefusedError)]
        assert len(clients.errors) <= 4 * 4
        assert acmems.log.count("was killed by SIGKILL; another one is started") == 4
        assert before > 60
        assert acmems.stop() == 0


def test_health_and_metrics_are_those_of_all(settings: Settings, tmp_path: Path) -> None:
    """Whichever process is asked, `/metrics`, `/healthz` and `/readyz` speak for all of them."""
    port = free_port()
    settings.logging = METRICS.format(port=port)
    csrs = [make_key_and_csr(tmp_path, [f"m{n}.example.org"], stem=f"m{n}")[1] for n in range(8)]
    with Acmems(settings) as acmems:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda csr: curl_sign(acmems.sign_url, csr), csrs))
        assert [reply.status for reply in replies] == [200] * 8
        wait_until(lambda: curl(f"http://127.0.0.1:{port}/readyz").text == "ready\n", "both are ready")
        assert curl(f"http://127.0.0.1:{port}/healthz").text == "ok\n"
        wait_until(lambda: counted(port, "acmems_orders_total", ISSUED) == 8, "all orders are counted")
        assert counted(port, "acmems_connections_limit", 'listener="mgmt"') == 2000
        assert counted(port, "acmems_storage_writable") == 1


class TestReload:
    """SIGHUP: other processes take the places of those that serve."""

    def test_nothing_is_lost(self, settings: Settings, tmp_path: Path) -> None:
        """While the configuration changes, every request is answered, and no connection is refused."""
        _, csr = make_key_and_csr(tmp_path, ["loop.example.org"])
        with Acmems(settings) as acmems:
            assert curl_sign(acmems.sign_url, csr).status == 200
            clients = Clients(acmems.port, csr)
            with clients.asking(kept=3, new=3):
                for number in range(4):
                    settings.mgmt = f"processes = 2\nmax-orders = {10 + number}"
                    acmems.reload(settings)
                    clients.answered(20)
            assert clients.errors == []
            assert set(clients.statuses) == {200}
            assert "not reloaded" not in acmems.log
            wait_for_workers(acmems, 2)

    def test_a_changed_listener(self, settings: Settings, tmp_path: Path) -> None:
        """A new address is listened on, one that is gone is not, and one that comes back is again."""
        _, csr = make_key_and_csr(tmp_path, ["moved.example.org"])
        first, second = settings.port, free_port()
        with Acmems(settings) as acmems:
            assert curl_sign(acmems.sign_url, csr).status == 200
            settings.port = second
            acmems.reload(settings)
            assert curl_sign(f"http://127.0.0.1:{second}/sign", csr).status == 200
            wait_for_workers(acmems, 2)
            wait_until(lambda: _is_refused(first), "the former address is not listened on")
            settings.port = first
            acmems.reload(settings)
            assert curl_sign(f"http://127.0.0.1:{first}/sign", csr).status == 200

    def test_a_broken_configuration(self, settings: Settings, tmp_path: Path) -> None:
        """An error, and an address in use, are told in the log, and change nothing."""
        _, csr = make_key_and_csr(tmp_path, ["safe.example.org"])
        with Acmems(settings) as acmems:
            before = workers(acmems)
            acmems.reload(settings.text() + "colour = red\n")
            assert "not reloaded, all stays as it was: the configuration has errors" in acmems.log
            with socket.create_server(("127.0.0.1", 0)) as taken:
                settings.verification += (
                    f'[verification "b"]\ntype = http01\nlistener = 127.0.0.1:{taken.getsockname()[1]}\n'
                    '[verification "c"]\ntype = http01\nlistener =\n'
                )
                settings.mgmt += "\ndefault-verification = http"
                acmems.reload(settings)
            assert acmems.log.count("not reloaded, all stays as it was") == 2
            assert wait_for_workers(acmems, 2) == before
            assert curl_sign(acmems.sign_url, csr).status == 200

    def test_a_configuration_with_which_nothing_can_start(self, settings: Settings, tmp_path: Path) -> None:
        """What a new process fails at is told in the log; the former ones go on."""
        _, csr = make_key_and_csr(tmp_path, ["safe.example.org"])
        with Acmems(settings) as acmems:
            before = workers(acmems)
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "identities").write_text("where a directory should be")
            settings.storage = '[storage "file"]\ntype = file\ndirectory = {folder}/other\n'
            acmems.reload(settings)
            assert "not reloaded, all stays as it was: storage 'file' is not writable" in acmems.log
            assert wait_for_workers(acmems, 2) == before
            assert curl_sign(acmems.sign_url, csr).status == 200

    def test_the_number_of_processes(self, settings: Settings) -> None:
        """Another number of processes needs a restart, which the log says."""
        with Acmems(settings) as acmems:
            settings.mgmt = "processes = 3"
            acmems.reload(settings)
            assert "'processes' cannot be changed by a reload: restart acmems" in acmems.log


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class TestStop:
    """All processes end, whatever ends the supervisor."""

    @pytest.mark.parametrize("to_all", [False, True], ids=["to the supervisor", "to every process"])
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_requests_are_finished(
        self, dns: ChallTestSrv, tmp_path: Path, number: signal.Signals, to_all: bool
    ) -> None:
        """Requests that run when a stop signal comes get their certificates; then the exit code is 0."""
        slow = {"retryAfter": {"authz": 2, "order": 0}}
        csrs = [make_key_and_csr(tmp_path, [f"l{n}.example.org"], stem=f"l{n}")[1] for n in range(4)]
        env = {**CALM, "PEBBLE_VA_ALWAYS_VALID": "1"}
        with Pebble(dns.address, env=env, options=slow) as ca:
            settings = Settings.of(ca, tmp_path)
            settings.mgmt = "processes = 2"
            with Acmems(settings) as acmems, ThreadPoolExecutor(4) as pool:
                replies = [pool.submit(curl_sign, acmems.sign_url, csr) for csr in csrs]
                wait_until(lambda: acmems.log.count("/order-plz: ") == 4, "the orders")
                pids = workers(acmems)
                if to_all:
                    for pid in pids:
                        os.kill(pid, number)
                code = acmems.stop(number)
                statuses = [reply.result().status for reply in replies]
                log = acmems.log
        assert statuses == [200] * 4
        assert code == 0
        assert "another one is started" not in log
        assert all(map(has_ended, pids))

    def test_a_supervisor_that_is_killed(self, settings: Settings) -> None:
        """Workers stop in order when their supervisor is no more."""
        with Acmems(settings) as acmems:
            pids = workers(acmems)
            acmems.stop(signal.SIGKILL)
            wait_until(lambda: all(map(has_ended, pids)), "no worker is left behind")
            assert acmems.log.count("the supervisor has ended: this process stops as well") == 2
            assert "Traceback" not in acmems.log
            acmems.start()
            assert acmems.ready()
            assert "another server uses" not in acmems.log


class TestStart:
    """The first start, and those that fail."""

    def test_one_account(self, settings: Settings) -> None:
        """Key and account are made once, whatever the number of processes."""
        settings.mgmt = "processes = 4"
        with Acmems(settings) as acmems:
            assert len(workers(acmems)) == 4
            assert acmems.log.count("made a new account key") == 1
            assert acmems.log.count("registered a new account") == 1
            threads = list(Path(f"/proc/{acmems.process.pid}/task").iterdir())
        assert len(threads) == 1  # else it could not fork safely

    def test_systemd_is_told(self, settings: Settings) -> None:
        """Systemd hears once that all are ready, how many they are, signs of life, and the stop."""
        with Acmems(settings, {"WATCHDOG_USEC": "200000"}) as acmems:
            wait_until(lambda: acmems.notifications.count("WATCHDOG=1") > 3, "signs of life")
            assert acmems.notifications.count("READY=1") == 1
            assert "STATUS=2 processes, listening on mgmt " in "\n".join(acmems.notifications)
            # As systemd does, it is read all the while: what nobody reads would be lost among signs of life.
            acmems.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "STOPPING=1" in acmems.notifications, "it stops")
            assert acmems.process.wait(60) == 0

    def test_sockets_of_systemd(self, settings: Settings, tmp_path: Path) -> None:
        """Sockets that systemd has opened are shared as well."""
        _, csr = make_key_and_csr(tmp_path, ["unit.example.org"])
        with (
            socket.create_server(("127.0.0.1", settings.port)) as given,
            Acmems(settings, sockets=[("acmems.socket", given)]) as acmems,
        ):
            assert curl_sign(acmems.sign_url, csr).status == 200
            acmems.reload()
            assert curl_sign(acmems.sign_url, csr).status == 200
            wait_for_workers(acmems, 2)
            assert acmems.stop() == 0

    def test_every_kind_of_listener(self, settings: Settings) -> None:
        """Listeners of the CA are shared as well, with and without connections; one process is enough."""
        tls, name_server = free_port(), free_port()
        settings.mgmt += "\ndefault-verification = http"
        settings.verification += (
            f'[verification "tls"]\ntype = tls-alpn01\nlistener = 127.0.0.1:{tls}\n'
            f'[verification "dns"]\ntype = dns01-server\nlistener = 127.0.0.1:{name_server}\n'
            "zone = acme.example.org\nns = ns.example.org\n"
        )
        query = dns.message.make_query("acme.example.org", "SOA")
        with Acmems(settings) as acmems:
            for _ in range(2):
                for asking in (dns.query.udp, dns.query.tcp):
                    for _ in range(10):
                        answer = asking(query, "127.0.0.1", timeout=10, port=name_server)
                        assert answer.rcode() == dns.rcode.NOERROR
                socket.create_connection(("127.0.0.1", tls), timeout=10).close()
                assert curl(f"http://127.0.0.1:{settings.challenge_port}/nothing").status == 404
                killed = workers(acmems)[0]
                os.kill(killed, signal.SIGKILL)
                # A datagram that it has taken at this moment has no answer, which DNS clients bear.
                wait_until(lambda pid=killed: has_ended(pid), "it has ended")  # type: ignore[misc] # a default

    def test_nothing_starts_without_consent(self, settings: Settings, tmp_path: Path) -> None:
        """What keeps the first process from starting ends the start, in its words and with its exit code."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text().replace("accept-terms-of-service = yes", ""))
        done = run_acmems("serve", config)
        assert done.returncode == 2
        assert "accept-terms-of-service = " in done.stderr

    def test_a_port_in_use(self, settings: Settings, tmp_path: Path) -> None:
        """A port that is taken stops the start with one line that names it."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        with socket.create_server(("127.0.0.1", settings.port)):
            done = run_acmems("serve", config)
        assert done.returncode == 1
        assert f"127.0.0.1:{settings.port}" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_ca_that_is_not_there(self, settings: Settings, tmp_path: Path) -> None:
        """Where no account can be made, the start ends with 1, and is told once."""
        settings.directory_url = f"https://127.0.0.1:{free_port()}/dir"
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        done = run_acmems("serve", config)
        assert done.returncode == 1
        assert done.stderr.count("acme-server") == 1
        assert "Traceback" not in done.stderr

    def test_a_start_can_be_stopped(self, settings: Settings, tmp_path: Path) -> None:
        """SIGTERM ends a start that waits for the CA, with exit code 0."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            settings.directory_url = f"https://127.0.0.1:{silent.getsockname()[1]}/dir"
            config = tmp_path / "acmems.ini"
            config.write_text(settings.text())
            process = subprocess.Popen(
                [sys.executable, "-m", "acmems", "serve", config],
                env=environment(),
                stderr=subprocess.PIPE,
                text=True,
            )
            connection, _ = silent.accept()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
            connection.close()
        assert process.returncode == 0
        assert errors.count("stopped while starting") == 1
        assert "Traceback" not in errors
