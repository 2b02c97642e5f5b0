"""`acmems demo`, where there is no network."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.peers import curl_sign, make_key_and_csr, run_acmems, verify_chain, wait_until
from tests.peers.network import OWN_NETWORK, can_have_own_network
from tests.peers.process import environment

STEPS = ["CA", "server", "/sign", "ACME", "policy"]


def test_every_step_without_a_network(tmp_path: Path) -> None:
    """A certificate by each front end, in a network of its own with nothing in it where that can be had."""
    namespace = OWN_NETWORK if can_have_own_network() else ()
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "acmems", "demo", "--once"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment() | {"TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    *lines, last = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == STEPS
    assert last == "nothing is left running, and nothing on disk"
    assert list(tmp_path.iterdir()) == []


def test_what_it_invites_to(tmp_path: Path) -> None:
    """It serves until it is stopped, what it prints can be tried, and what was named stays."""
    folder = tmp_path / "demo"
    with subprocess.Popen(
        [sys.executable, "-m", "acmems", "demo", "--dir", folder],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as demo:
        try:
            assert demo.stdout is not None
            told = ""
            while "acmems revoke" not in told and (line := demo.stdout.readline()):
                told += line
            found = re.search(r"curl --data-binary @my.csr (\S+)", told)
            assert found
            _, csr = make_key_and_csr(tmp_path, ["my.internal"])
            reply = curl_sign(found[1], csr)
            assert verify_chain(reply.body, (folder / "ca" / "root.pem").read_text()).endswith("OK")
            listed = ("list", folder / "acmems.ini")
            wait_until(lambda: "my.internal" in run_acmems(*listed).stdout, "it is listed")
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0
        finally:
            demo.kill()
    assert (folder / "acmems.ini").exists()


def test_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    """Nothing is written into it."""
    (tmp_path / "mine").touch()
    done = run_acmems("demo", "--dir", tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"acmems: {tmp_path} is not empty: name a new directory\n"
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("arguments", [["acmems.ini"], ["--once", "acmems.ini"]])
def test_it_takes_no_configuration(arguments: list[str]) -> None:
    """What it serves it makes itself."""
    assert run_acmems("demo", *arguments).returncode == 2
