"""The commands that the documentation gives to client machines, each run exactly as documented."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Settings, environment, names_of

DOCS = Path(__file__).parents[2] / "docs"
URL = "http://acmems.example.org:1313/sign"
KEY = "4c1f5b2d9e7a8036"
AUTH = f"""
[auth "machines"]
hmac_key = {KEY}
domain = example.org
domain = www.example.org

[auth "without a secret"]
ip = 127.0.0.1
domain = example.org
domain = www.example.org
"""
MAKE, *ASK, CRON = re.findall(r"(?ms)^```sh\n(.*?)^```$", (DOCS / "clients.md").read_text(encoding="utf-8"))


@pytest.fixture
def acmems(settings: Settings) -> Iterator[Acmems]:
    """A server that knows the secret; without one it takes only what comes from loopback."""
    settings.auth = AUTH
    with Acmems(settings) as server:
        yield server


def shell(script: str, folder: Path, **replacements: str) -> subprocess.CompletedProcess[str]:
    for old, new in {"/etc/ssl/acmems": str(folder), **replacements}.items():
        script = script.replace(old, new)
    return subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment({"KEY": KEY}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", ASK, ids=[f"{ask.split()[0]}-{number}" for number, ask in enumerate(ASK)])
def test_certificate_comes_back(acmems: Acmems, tmp_path: Path, command: str) -> None:
    """Each documented command brings the certificate that the documented CSR asks for."""
    assert shell(MAKE, tmp_path).returncode == 0
    assert command.count(URL) == 1
    done = shell(command, tmp_path, **{URL: acmems.sign_url})
    assert done.returncode == 0, done.stderr
    assert names_of((tmp_path / "host.pem").read_bytes()) == {"example.org", "www.example.org"}


@pytest.mark.parametrize("command", [ask for ask in ASK if "KEY" in ask])
def test_secret_is_used(acmems: Acmems, tmp_path: Path, command: str) -> None:
    """The commands with a secret are accepted by the block that asks for it, not by address."""
    shell(MAKE, tmp_path)
    shell(command, tmp_path, **{URL: acmems.sign_url})
    # Logged before the answer is sent, unlike what comes after it.
    assert re.search("issued ref=.* block=machines ", acmems.log)


def test_cron_script_reloads_only_when_changed(acmems: Acmems, tmp_path: Path) -> None:
    """The documented script puts the chain in place, and reloads the web server the first time only."""
    shell(MAKE, tmp_path)
    replaced = {URL: acmems.sign_url, "systemctl reload nginx": "echo reloaded"}
    assert [shell(CRON, tmp_path, **replaced).stdout for _ in range(2)] == ["reloaded\n", ""]
    assert names_of((tmp_path / "host.pem").read_bytes()) == {"example.org", "www.example.org"}
    assert sorted(file.name for file in tmp_path.glob("host.*")) == ["host.csr", "host.key", "host.pem"]


def test_cron_script_keeps_the_old_chain(acmems: Acmems, tmp_path: Path) -> None:
    """The documented script says why there is no certificate, and leaves the old one alone."""
    (tmp_path / "host.csr").write_text("no CSR")
    (tmp_path / "host.pem").write_text("old")
    done = shell(CRON, tmp_path, **{URL: acmems.sign_url, "systemctl reload nginx": "echo reloaded"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no certificate, status 415: ")
    assert (tmp_path / "host.pem").read_text() == "old"
