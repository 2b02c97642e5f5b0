"""Requests that are repeated: with the documented commands, curl, openssl and a real server."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Settings, environment, hmac_header, make_key_and_csr, names_of

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
SECTION = re.split(r"\n##+ ", PAGE.partition("\n### With a shared secret and the time\n")[2])[0]
WITH_TIME = re.findall(r"(?ms)^```sh\n(.*?)^```$", SECTION)
URL = "http://acmems.example.org:1313/sign"
KEY = "4c1f5b2d9e7a8036"
BLOCK = f"""
[auth "fresh"]
hmac_key = {KEY}
hmac-fresh = 300
domain = example.org
domain = www.example.org
"""
ELSEWHERE = "127.0.0.2"


@pytest.fixture
def acmems(settings: Settings) -> Iterator[Acmems]:
    """A server that stores nothing, so that each request that is accepted orders a certificate."""
    settings.auth, settings.storage = BLOCK, '\n[storage "none"]\ntype = none\n'
    with Acmems(settings) as server:
        yield server


@pytest.fixture
def client(acmems: Acmems, tmp_path: Path) -> Path:
    """A machine with a key and a CSR."""
    folder = tmp_path / "client"
    folder.mkdir()
    make_key_and_csr(folder, ["example.org", "www.example.org"], stem="host")
    return folder


def shell(script: str, folder: Path, acmems: Acmems) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", script.replace(URL, acmems.sign_url).replace("cd /etc/ssl/acmems\n", "")],
        cwd=folder,
        env=environment({"KEY": KEY}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def signed(client: Path, acmems: Acmems, ahead: int = 0) -> str:
    """Return the header that the documented command sends, at a machine whose clock is off so far."""
    [header] = re.findall(r'(?s)--header ("Authentication: .*?\)")', WITH_TIME[0])
    script = f"time=$(( $(date +%s) + {ahead} )); printf %s {header}"
    return shell(script, client, acmems).stdout


def send(client: Path, acmems: Acmems, header: str, address: str = "127.0.0.1") -> tuple[int, str]:
    """Send these very bytes with curl from an address of this machine; return status and answer."""
    options = ["--interface", address, "--header", header, "--write-out", "\n%{http_code}"]
    done = subprocess.run(
        ["curl", "--silent", *options, "--data-binary", "@host.csr", acmems.sign_url],
        cwd=client,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer, _, status = done.stdout.rpartition("\n")
    return int(status), answer


def refusals(acmems: Acmems) -> list[str]:
    return re.findall(r'refused ref=.* status=403 reason="?(.*?)"? seconds=', acmems.log)


def test_the_pages_show_it_for_both_programs() -> None:
    """There is a command for curl and one for wget."""
    assert [re.findall("(?m)^(curl|wget) ", command) for command in WITH_TIME] == [["curl"], ["wget"]]


@pytest.mark.parametrize("command", WITH_TIME, ids=["curl", "wget"])
def test_the_documented_command(acmems: Acmems, client: Path, command: str) -> None:
    """It brings the certificate where a time is required."""
    done = shell(command, client, acmems)
    assert done.returncode == 0, done.stderr
    assert names_of((client / "host.pem").read_bytes()) == {"example.org", "www.example.org"}


@pytest.mark.threat("auth", "a request that is replayed")
def test_ten_replays_from_elsewhere_order_nothing(acmems: Acmems, client: Path) -> None:
    """A captured request brings nothing to another address, and the client itself may repeat it."""
    header = signed(client, acmems)
    assert send(client, acmems, header)[0] == 200
    for _ in range(10):
        assert send(client, acmems, header, ELSEWHERE)[0] == 403
    assert acmems.log.count(" issued ") == 1
    assert refusals(acmems) == ["block fresh: the HMAC was used by 127.0.0.1 already"] * 10
    assert send(client, acmems, header)[0] == 200
    assert send(client, acmems, signed(client, acmems, ahead=1), ELSEWHERE)[0] == 200  # who knows the secret


@pytest.mark.threat("auth", "a request that is replayed", "guessing and timing")
def test_every_refusal_looks_the_same(acmems: Acmems, client: Path) -> None:
    """Too old, too far ahead, without a time, or wrong: one answer; the log has the difference."""
    headers = [
        hmac_header(client / "host.csr", KEY),
        signed(client, acmems, -40_000),
        signed(client, acmems, 40_000),
        f"{signed(client, acmems)[:-64]}{'ab' * 32}",
    ]
    answers = [send(client, acmems, header) for header in headers]
    assert {status for status, _ in answers} == {403}
    assert len(set(answers)) == 1
    without, old, ahead, wrong = refusals(acmems)
    assert re.match(r"block fresh: the HMAC is 4\d{4} s old, and hmac-fresh allows 300 s", old)
    assert re.match(r"block fresh: the HMAC is (3\d{4}|40000) s ahead of this server's clock", ahead)
    assert without == "block fresh: the HMAC covers no time, which hmac-fresh requires"
    assert wrong == "the HMAC is not that of this body under a block's secret"
    assert acmems.log.count(" issued ") == 0
