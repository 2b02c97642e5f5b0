"""Starting, stopping, and what an administrator sees of it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.peers import (
    Acmems,
    ChallTestSrv,
    Pebble,
    Settings,
    curl_sign,
    environment,
    free_port,
    make_key_and_csr,
    run_acmems,
    wait_until,
)

from acmems.app import server as servers
from acmems.config import Configuration


@pytest.mark.threat("ca", "broken answers")
def test_stored_chains_outlive_the_ca(dns: ChallTestSrv, tmp_path: Path) -> None:
    """While the CA is down, stored chains are delivered, new ones are 503, and a start is possible."""
    _, csr = make_key_and_csr(tmp_path, ["safe.example.org"])
    _, new = make_key_and_csr(tmp_path, ["new.example.org"], stem="new")
    with Pebble(dns.address) as ca:
        settings = Settings.of(ca, tmp_path)
        settings.ca_file = Path(shutil.copy(ca.ca_file, tmp_path / "ca.pem"))
        with Acmems(settings) as acmems:
            first = curl_sign(acmems.sign_url, csr)
    settings.mgmt = "request-timeout = 10"
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).body == first.body
        refused = curl_sign(acmems.sign_url, new)
    assert refused.status in {503, 504}
    assert refused.headers["Retry-After"]


@pytest.mark.threat("ca", "new terms, lost accounts")
def test_an_account_that_the_ca_forgot_is_not_replaced(dns: ChallTestSrv, tmp_path: Path) -> None:
    """Where the CA does not know the account any more, stored chains are delivered, orders are 503.

    The log says what to do, and neither key nor account is made anew.
    """
    _, csr = make_key_and_csr(tmp_path, ["safe.example.org"])
    _, new = make_key_and_csr(tmp_path, ["new.example.org"], stem="new")
    with Pebble(dns.address) as ca:
        settings = Settings.of(ca, tmp_path)
        with Acmems(settings) as acmems:
            first = curl_sign(acmems.sign_url, csr)
        files = [tmp_path / "account" / name for name in ("account.pem", "registration.json")]
        before = [path.read_bytes() for path in files]
        ca.restart()
        with Acmems(settings) as acmems:
            assert curl_sign(acmems.sign_url, csr).body == first.body
            assert curl_sign(acmems.sign_url, new).status == 503
            log = acmems.log
    assert "not replaced" in log
    assert [path.read_bytes() for path in files] == before


@pytest.mark.threat("ca", "new terms, lost accounts")
def test_changed_terms_are_told(dns: ChallTestSrv, settings: Settings, tmp_path: Path) -> None:
    """Terms that are not accepted stop orders, not the server; the log says which line to add."""
    _, new = make_key_and_csr(tmp_path, ["new.example.org"])
    with Acmems(settings):
        pass
    changed = settings.text().replace(
        "accept-terms-of-service = yes", "accept-terms-of-service = https://ca.example/terms/of/last/year"
    )
    with Acmems(changed) as acmems:
        refused = curl_sign(acmems.sign_url, new)
        log = acmems.log
    assert refused.status == 503
    assert "administrator" in refused.text
    assert "accept-terms-of-service = " in log


class TestLife:
    """Starting, stopping, and what an administrator sees of it."""

    def test_sigterm_lets_requests_finish(self, dns: ChallTestSrv, tmp_path: Path) -> None:
        """A request that runs when SIGTERM comes still gets its certificate; then the exit code is 0."""
        _, csr = make_key_and_csr(tmp_path, ["last.example.org"])
        slow = {"retryAfter": {"authz": 2, "order": 0}}
        with Pebble(dns.address, options=slow) as ca, Acmems(Settings.of(ca, tmp_path)) as acmems:
            replies = []
            client = threading.Thread(target=lambda: replies.append(curl_sign(acmems.sign_url, csr)))
            client.start()
            wait_until(lambda: "/order-plz: " in acmems.log, "the order")
            code = acmems.stop(signal.SIGTERM)
            client.join()
        assert replies[0].status == 200
        assert code == 0

    def test_a_stop_ends_what_the_ca_holds_up(
        self, dns: ChallTestSrv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A request that the CA holds up longer than a stop waits is refused, and its proof withdrawn."""
        monkeypatch.setattr(servers, "DRAIN_SECONDS", 0.2)
        _, csr = make_key_and_csr(tmp_path, ["stuck.example.org"])
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            Pebble(dns.address, http_port=silent.getsockname()[1]) as ca,
        ):
            settings = Settings.of(ca, tmp_path)
            settings.challenge_port = free_port()
            config = Configuration.from_text(settings.text())
            server = servers.Server(config)
            server.start()
            with ThreadPoolExecutor() as pool:
                reply = pool.submit(curl_sign, f"http://127.0.0.1:{settings.port}/sign", csr)
                held, _ = silent.accept()  # the CA, which gets no answer
                with held:
                    server.stop()
                    refused = reply.result()
        assert refused.status == 503
        assert refused.headers["Retry-After"]
        assert config.responses == {}

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_start_can_be_stopped(self, pebble: Pebble, tmp_path: Path, number: signal.Signals) -> None:
        """A signal ends a start that waits for the CA, at once and with exit code 0."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            settings = Settings.of(pebble, tmp_path)
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
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
            connection.close()
        assert process.returncode == 0
        assert "stopped while starting" in errors
        assert "Traceback" not in errors

    def test_systemd_is_told_of_readiness_and_stop(self, settings: Settings) -> None:
        """Systemd hears when the server is ready and when it stops."""
        with Acmems(settings) as acmems:
            acmems.stop(signal.SIGTERM)
            assert "READY=1" in acmems.notifications
            assert "STOPPING=1" in acmems.notifications

    def test_a_port_in_use_is_one_line(self, settings: Settings, tmp_path: Path) -> None:
        """A port that is taken stops the start with one line that names it."""
        (tmp_path / "acmems.ini").write_text(settings.text())
        with socket.create_server(("127.0.0.1", settings.port)):
            done = run_acmems("serve", tmp_path / "acmems.ini")
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert f"127.0.0.1:{settings.port}" in last
        assert "Traceback" not in done.stderr

    def test_account_commands(self, settings: Settings, tmp_path: Path) -> None:
        """`account register` makes key and account, `show` shows it, `deactivate` ends it."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        assert run_acmems("account", "show", config).returncode == 1
        assert not list((tmp_path / "account").iterdir())
        registered = run_acmems("account", "register", config)
        assert registered.returncode == 0, registered.stderr
        shown = run_acmems("account", "show", config)
        assert "P-256" in shown.stdout
        assert "valid" in shown.stdout
        ended = run_acmems("account", "deactivate", "--yes", config)
        assert ended.returncode == 0
        assert "deactivated" in ended.stdout
        gone = run_acmems("account", "show", config)
        assert gone.returncode == 1
        assert "Traceback" not in gone.stderr

    def test_nothing_is_registered_without_consent(self, settings: Settings, tmp_path: Path) -> None:
        """Without accepted terms of service the start says which line to add, and makes no account."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text().replace("accept-terms-of-service = yes", ""))
        done = run_acmems("serve", config)
        assert done.returncode == 2
        assert "accept-terms-of-service = " in done.stderr
        assert not (tmp_path / "account" / "registration.json").exists()

    def test_a_lost_key_is_not_replaced(self, settings: Settings, tmp_path: Path) -> None:
        """Where only the registration is left, the server refuses to start."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        assert run_acmems("account", "register", config).returncode == 0
        (tmp_path / "account" / "account.pem").unlink()
        for command in ("serve", "check"):
            done = run_acmems(command, config)
            assert done.returncode == 2
            assert f"{config}:5: " in done.stderr
            assert "never replaced silently" in done.stderr

    @pytest.mark.threat("disk", "a key file open to others, or a link")
    def test_a_key_that_others_can_read_is_refused(self, settings: Settings, tmp_path: Path) -> None:
        """An account key that others can read stops the start."""
        config = tmp_path / "acmems.ini"
        config.write_text(settings.text())
        assert run_acmems("account", "register", config).returncode == 0
        (tmp_path / "account" / "account.pem").chmod(0o644)
        for command in ("serve", "check"):
            done = run_acmems(command, config)
            assert done.returncode == 2
            assert f"{config}:5: " in done.stderr
            assert "chmod 600" in done.stderr

    def test_every_problem_of_a_configuration_at_once(self, tmp_path: Path) -> None:
        """`check` reports each problem with file and line, and ends with 2."""
        config = tmp_path / "acmems.ini"
        config.write_text('[account]\nacme-sever = https://x\n[auth "a"]\ndomain = a.example.org\n')
        done = run_acmems("check", config)
        assert done.returncode == 2
        assert f"{config}:2: " in done.stderr
        assert "did you mean 'acme-server'?" in done.stderr
        assert f"{config}:3: " in done.stderr

    def test_external_account_binding(self, dns: ChallTestSrv, tmp_path: Path) -> None:
        """A CA that wants accounts bound gets the binding; without one the hint names the keys to add."""
        mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
        bound = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": mac}}
        with Pebble(dns.address, options=bound) as ca:
            settings = Settings.of(ca, tmp_path)
            config = tmp_path / "acmems.ini"
            config.write_text(settings.text())
            unbound = run_acmems("account", "register", config)
            settings.account = f"eab-kid = kid-1\neab-hmac-key = {mac}"
            config.write_text(settings.text())
            done = run_acmems("account", "register", config)
        assert unbound.returncode == 1
        assert "eab-kid" in unbound.stderr
        assert done.returncode == 0, done.stderr

    def test_profiles(self, dns: ChallTestSrv, tmp_path: Path) -> None:
        """The configured profile is what is ordered."""
        profiles = {"default": {"description": "x", "validityPeriod": 7776000}}
        profiles["shortlived"] = {"description": "y", "validityPeriod": 518400}
        _, csr = make_key_and_csr(tmp_path, ["short.example.org"])
        with Pebble(dns.address, options={"profiles": profiles}) as ca:
            settings = Settings.of(ca, tmp_path)
            settings.account = "profile = shortlived"
            with Acmems(settings) as acmems:
                first = curl_sign(acmems.sign_url, csr)
                second = curl_sign(acmems.sign_url, csr)
        assert first.status == 200
        assert second.body == first.body  # a six-day certificate is not renewed at every request
