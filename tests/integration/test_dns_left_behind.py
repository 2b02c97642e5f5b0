"""What a killed server has presented in DNS, and what a dead DNS server has kept, is removed afterwards."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

import pytest
from tests.peers import Acmems, Bind, Pebble, Settings, curl_sign, make_key_and_csr, program, wait_until

RECORD = "_acme-challenge.left.example.org"
DNS = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = {server}
timeout = 2
"""


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
def test_a_crash_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """After kill -9 with a record in DNS the next start removes it, and others' records stay."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent, Bind("example.org") as bind:
        silent.bind(("127.0.0.1", 0))  # the CA's resolver never answers, so nothing is decided
        with Pebble(f"127.0.0.1:{silent.getsockname()[1]}") as ca:
            settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
            settings.verification = DNS.format(server=bind.address)
            _, csr = make_key_and_csr(tmp_path, ["left.example.org", "*.left.example.org"])
            settings.auth = '[auth "a"]\nall = yes\ndomain = left.example.org\ndomain = *.left.example.org\n'
            with Acmems(settings) as acmems:
                asking = subprocess.Popen(
                    [program("curl"), "-sS", "--data-binary", f"@{csr}", acmems.sign_url],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                wait_until(lambda: len(bind.texts(RECORD)) == 2, "both values are in DNS")
                acmems.stop(signal.SIGKILL)
                asking.wait(30)
                assert len(bind.texts(RECORD)) == 2
                assert len(list((settings.folder / "account" / "presented").iterdir())) == 1
                acmems.start()
                wait_until(lambda: bind.texts(RECORD) == set(), "the records are gone")
                wait_until(
                    lambda: list((settings.folder / "account" / "presented").iterdir()) == [],
                    "the note is gone",
                )


@pytest.mark.threat("proving", "a crash or a refusal with records in DNS")
def test_a_refused_proof_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """Where the CA finds the name unproved, the client hears 421 and nothing stays in DNS."""
    with Bind("example.org") as bind, Bind("example.org") as other, Pebble(other.address) as ca:
        settings.directory_url, settings.ca_file = ca.directory_url, ca.ca_file
        settings.verification = DNS.format(server=bind.address)
        _, csr = make_key_and_csr(tmp_path, ["left.example.org"])
        with Acmems(settings) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 421
            assert "left.example.org" in reply.text
        assert bind.texts(RECORD) == set()


@pytest.mark.threat("proving", "a DNS server that is dead")
def test_a_dead_server_is_told(settings: Settings, pebble: Pebble, tmp_path: Path) -> None:
    """Where the DNS server does not answer, 421 names it and the record, and the log says what to do."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        settings.verification = DNS.format(server=server)
        _, csr = make_key_and_csr(tmp_path, ["left.example.org"])
        with Acmems(settings) as acmems:
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 421
            assert server in reply.text
            assert RECORD in reply.text
            assert reply.headers["Retry-After"] == "60"
            assert "see that it runs" in acmems.log
