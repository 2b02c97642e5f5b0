"""The commands that the documentation gives to client machines, each run exactly as documented."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client_answers import LOGIN_PAGE, RawAnswer, answering
from tests.peers import Acmems, Pebble, Settings, environment, names_of

ROOT = Path(__file__).parents[2]
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
GOOD = "a good chain"


def blocks(page: str) -> list[str]:
    """Return the commands of a page."""
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"))


PROGRAM, TIMER, CRON, MAKE, *COMMANDS = blocks("docs/clients.md")
[HEADER] = (command for command in COMMANDS if URL not in command)
ASK = [command for command in COMMANDS if URL in command]
[START] = (command for command in blocks("docs/start.md") if "/sign" in command)
SHOW = "openssl x509 -in host.pem -noout -subject -issuer -dates\n"
[README] = re.findall(r"(?m)^    curl .*/sign.*$", (ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def acmems(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server that knows the secret; without one it takes only what comes from loopback."""
    settings = Settings.of(pebble, tmp_path_factory.mktemp("server"))
    settings.auth = AUTH
    with Acmems(settings) as server:
        yield server


def shell(script: str, folder: Path, url: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script with its directories in a folder, and as whoever runs the tests."""
    ours = f"-o {os.getuid()} -g {os.getgid()}"
    script = script.replace("-o root -g root", ours)
    script = re.sub(r"(?<![\w.:])/(?=etc/|usr/local/)", f"{folder}/", script)
    script = re.sub(r"http://[\w.]+:1313/sign", url, script)
    return subprocess.run(
        ["sh", "-c", script],
        cwd=ROOT,
        env=environment({"KEY": KEY, "PATH": f"{folder}:{environment()['PATH']}"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder in which the documented commands have made key, CSR and header."""
    for script in (MAKE, HEADER):
        done = shell(script, tmp_path)
        assert done.returncode == 0, done.stderr
    return tmp_path / "etc" / "ssl" / "acmems"


@pytest.mark.parametrize("command", ASK, ids=lambda ask: "-".join(ask.split()[2:4]))
def test_certificate_comes_back(acmems: Acmems, made: Path, tmp_path: Path, command: str) -> None:
    """Each documented command brings the certificate that the documented CSR asks for."""
    done = shell(command, tmp_path, acmems.sign_url)
    assert done.returncode == 0, done.stderr
    assert names_of((made / "host.pem").read_bytes()) == {"example.org", "www.example.org"}
    modes = {file.name: file.stat().st_mode & 0o777 for file in made.iterdir()}
    assert modes == {"host.key": 0o600, "host.csr": 0o600, "host.header": 0o600, "host.pem": 0o644}


@pytest.mark.parametrize("command", [ask for ask in ASK if "KEY" in ask or "host.header" in ask])
def test_secret_is_used(acmems: Acmems, made: Path, tmp_path: Path, command: str) -> None:
    """The commands with a secret are accepted by the block that asks for it, not by address."""
    before = len(acmems.log)
    assert shell(command, tmp_path, acmems.sign_url).returncode == 0
    assert re.search("delivered ref=.* block=machines ", acmems.log[before:])


@pytest.mark.parametrize("command", [*ASK, START])
@pytest.mark.parametrize("status", [200, 403], ids=["login page", "refusal"])
def test_a_good_chain_survives(made: Path, tmp_path: Path, command: str, status: int) -> None:
    """Neither a refusal nor a login page replaces the chain that is there; what came can be read."""
    (made / "host.pem").write_text(GOOD)
    with answering(RawAnswer(status, LOGIN_PAGE)) as server:
        done = shell(command.removesuffix(SHOW), tmp_path, server.url)
    assert done.returncode != 0
    assert (made / "host.pem").read_text() == GOOD
    assert (made / "host.pem.new").read_bytes() == LOGIN_PAGE


def test_the_commands_of_the_first_pages_bring_a_certificate(
    acmems: Acmems, made: Path, tmp_path: Path
) -> None:
    """What `start.md` and README show is what works; README's command leaves the chain when it is refused."""
    done = shell(START, tmp_path, acmems.sign_url)
    assert done.returncode == 0, done.stderr
    assert "notAfter=" in done.stdout
    assert names_of((made / "host.pem").read_bytes()) == {"www.example.org"}
    in_folder = f"cd /etc/ssl/acmems\n{README}"
    assert shell(in_folder, tmp_path, acmems.sign_url).returncode == 0
    (made / "host.pem").write_text(GOOD)
    with answering(RawAnswer(403)) as server:
        assert shell(in_folder, tmp_path, server.url).returncode != 0
    assert (made / "host.pem").read_text() == GOOD


def test_no_command_writes_to_the_chain_itself() -> None:
    """No documented command has `host.pem` as the output of a request."""
    for command in [*ASK, START, README]:
        assert re.search(r"(--output[= ]|--output-document=|-o )host\.pem\.new ", command)


@pytest.mark.parametrize("way", [TIMER, CRON], ids=["timer", "cron"])
def test_the_program_is_installed_as_documented(acmems: Acmems, tmp_path: Path, way: str) -> None:
    """Program, configuration, and timer or cron line come to their places, and the configuration works."""
    for name in ("systemctl", "service"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} $* >>{tmp_path}/called\n")
        (tmp_path / name).chmod(0o755)
    for name in ("etc/systemd/system", "etc/cron.d", "usr/local/sbin"):
        (tmp_path / name).mkdir(parents=True)
    done = shell(PROGRAM + way, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    config = tmp_path / "etc" / "acmems-client" / "www.conf"
    text = config.read_text(encoding="utf-8").replace(URL, acmems.sign_url)
    config.write_text(text.replace("/etc/ssl", f"{tmp_path}/etc/ssl"), encoding="utf-8")
    done = shell(f"/usr/local/sbin/acmems-client --state {tmp_path}/state {config}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert names_of((tmp_path / "etc/ssl/acmems/www.pem").read_bytes()) == {"example.org", "www.example.org"}
    assert "nginx" in (tmp_path / "called").read_text().splitlines()[-1]
