"""What `acmems explain` says is what a running server does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.peers import Acmems, Pebble, Settings, environment, run_acmems

from acmems.commands import main as cli

KEY = "4c1f5b2d9e7a8036"
HERE, THERE, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
BLOCKS = f"""
[auth "here"]
ip = {HERE}
domain = *.here.example.org

[auth "both"]
ip = {HERE}
hmac_key = {KEY}
hmac-fresh = 300
domain = **.example.org

[auth "there"]
ip = {THERE}
domain = www.example.org
storage = none
"""
MAKE = "openssl req -new -newkey {key} -nodes -keyout {name}.key -out {name}.csr -subj / -addext {san}"
HMAC = r"""Authentication: hmac name=sha256, time=$time, hash=$(
    { echo "$time"; cat CSR; } | openssl dgst -sha256 -hmac "$KEY" | sed 's/.*= *//')"""
ASK = """
time=$(date +%s)
curl --silent --output /dev/null --write-out '%{http_code}' --interface ADDRESS --data-binary @CSR HEADER URL
"""
REQUESTS = {
    "granted": "DNS:a.here.example.org",
    "two": "DNS:a.here.example.org,DNS:www.example.org",
    "www": "DNS:www.example.org",
    "wild": "DNS:*.here.example.org",
    "other": "DNS:www.example.com",
    "weak": "DNS:a.here.example.org",
    "broken": "",
}


@pytest.fixture(scope="module")
def acmems(pebble: Pebble, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acmems]:
    """A server whose blocks overlap, and requests of every kind in its folder."""
    settings = Settings.of(pebble, tmp_path_factory.mktemp("explain"))
    settings.auth = BLOCKS
    with Acmems(settings) as server:
        for name, san in REQUESTS.items():
            if not san:
                (server.folder / f"{name}.csr").write_text("-----BEGIN CERTIFICATE REQUEST-----\nMII\n")
                continue
            key = "rsa:1024" if name == "weak" else "ec -pkeyopt ec_paramgen_curve:P-256"
            shell(server.folder, MAKE.format(key=key, name=name, san=f"'subjectAltName={san}'"))
        yield server


@pytest.fixture(scope="module")
def restarted(acmems: Acmems) -> Callable[[str], Acmems]:
    """Returns the server, started anew for each kind of request: more refusals would have no line each."""
    last = ""

    def restart(kind: str) -> Acmems:
        nonlocal last
        if last not in {"", kind}:
            acmems.restart()
        last = kind
        return acmems

    return restart


def shell(folder: Path, script: str) -> str:
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment({"KEY": KEY}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.mark.parametrize("signed", [False, True], ids=["address", "hmac"])
@pytest.mark.parametrize("address", [HERE, THERE, STRANGER])
@pytest.mark.parametrize("request_", REQUESTS)
def test_it_says_what_the_server_does(
    capsys: pytest.CaptureFixture[str],
    restarted: Callable[[str], Acmems],
    request_: str,
    address: str,
    signed: bool,
) -> None:
    """The status of a refusal, or the block that grants, is the one that curl and the log see."""
    acmems = restarted(request_)
    csr = f"{request_}.csr"
    header = f'--header "{HMAC.replace("CSR", csr)}"' if signed else ""
    ask = ASK.replace("ADDRESS", address).replace("CSR", csr).replace("HEADER", header)
    before = len(acmems.log)
    status = int(shell(acmems.folder, ask.replace("URL", acmems.sign_url)))
    known = re.search(r' (?:delivered|refused) ref=.*?(?: block="?(\w+))?"? status', acmems.log[before:])
    options = ["--address", address, "--csr", str(acmems.folder / csr), "--json"]
    options += ["--method", "hmac"] if signed else []
    code = cli.main(["explain", str(acmems.folder / "acmems.ini"), *options])
    document = json.loads(capsys.readouterr().out)
    assert (document["status"] or 200) == status
    assert code == (0 if status == 200 else 1)
    assert known is not None
    assert document["block"] == known[1]


def test_nothing_is_ordered_and_no_server_is_needed(acmems: Acmems) -> None:
    """The command reads the configuration, and speaks to nobody."""
    before = acmems.log.count(" ref=")
    done = run_acmems(
        "explain", acmems.folder / "acmems.ini", "--address", HERE, "--name", "b.here.example.org"
    )
    assert done.stdout.splitlines()[0] == 'granted: block "here"'
    assert acmems.log.count(" ref=") == before
