"""What happened to requests is kept, and shown beside the server that keeps it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.peers import (
    Acmems,
    Pebble,
    Settings,
    curl,
    curl_sign,
    environment,
    make_key_and_csr,
    run_acmems,
    wait_until,
)

BLOCK = """
[auth "web servers"]
ip = 127.0.0.1
domain = *.example.org
"""
KEY = "4c1f5b2d9e7a80364c0b"
SENT = "0123456789abcdef" * 4
MAIL = f"""
[auth "mail"]
hmac_key = {KEY}
domain = mail.example.com
"""


@pytest.fixture
def acmems(pebble: Pebble, tmp_path: Path) -> Iterator[Acmems]:
    """A server that grants names below example.org."""
    settings = Settings.of(pebble, tmp_path)
    settings.auth = BLOCK + MAIL
    with Acmems(settings) as server:
        yield server


def sign(acmems: Acmems, folder: Path, *names: str) -> int:
    """Ask for a certificate; return the status of the answer."""
    path = folder / f"{names[0]}.csr"
    if not path.exists():
        make_key_and_csr(folder, names, stem=names[0])
    return curl_sign(acmems.sign_url, path).status


def told(acmems: Acmems, command: str, *options: str) -> Any:
    """Return the JSON document of a command."""
    words = [str(acmems.folder / "acmems.ini"), *options]
    if command == "show":
        words = [*options[:-1], str(acmems.folder / "acmems.ini"), options[-1]]
    done = run_acmems(command, "--json", *words)
    assert done.stderr == "", done.stderr
    return json.loads(done.stdout)


def events(acmems: Acmems, *options: str) -> list[tuple[str, str | None, int]]:
    found = told(acmems, "events", *options)["events"]
    return [(each["event"], each["outcome"], each["count"]) for each in found]


def test_the_whole_way(acmems: Acmems, tmp_path: Path) -> None:
    """Grants, issuances, deliveries and refusals are there, with who, what, which block, and why."""
    assert [sign(acmems, tmp_path, "www.example.org") for _ in range(3)] == [200, 200, 200]
    assert sign(acmems, tmp_path, "www.example.com") == 403
    wait_until(lambda: ("refused", None, 1) in events(acmems), "it is written")
    assert set(events(acmems, "--name", "www.example.org")) >= {
        ("issued", None, 1),
        ("delivered", "issued", 1),
    }
    (refused,) = told(acmems, "events", "--word", "refused")["events"]
    assert (refused["client"], refused["names"], refused["status"]) == ("127.0.0.1", ["www.example.com"], 403)
    assert refused["reason"]
    (listed,) = told(acmems, "list")["certificates"]
    assert (listed["names"], listed["block"], listed["state"]) == (
        ["www.example.org"],
        "web servers",
        "fresh",
    )
    (shown,) = told(acmems, "show", "www.example.org")["found"]
    assert shown["serial"] == listed["serial"]
    assert {"issued", "delivered", "requested"} <= {each["event"] for each in shown["events"]}
    done = run_acmems("show", "--pem", acmems.folder / "acmems.ini", "www.example.org")
    assert done.stdout.encode() == curl_sign(acmems.sign_url, tmp_path / "www.example.org.csr").body
    assert told(acmems, "limits") == {"limits": [], "pauses": [], "refusals": []}
    acmems.stop()  # what has happened again after its row was written is kept for a minute otherwise
    stored = [count for word, outcome, count in events(acmems) if (word, outcome) == ("delivered", "stored")]
    assert sum(stored) == 3


def test_a_name_that_the_ca_cannot_validate(pebble: Pebble, tmp_path: Path) -> None:
    """It is said why there is no certificate."""
    settings = Settings.of(pebble, tmp_path)
    settings.auth = BLOCK
    settings.verification = '[verification "http"]\ntype = http01\nlistener =\n'
    with Acmems(settings) as acmems:
        assert sign(acmems, tmp_path, "gone.example.org") == 421
        wait_until(lambda: any(word == "refused" for word, *_ in events(acmems)), "it is written")
        (refused,) = told(acmems, "events", "--word", "refused")["events"]
        assert (refused["block"], refused["status"]) == ("web servers", 421)
        assert "the CA could not validate gone.example.org" in refused["reason"]
        assert any(word == "not issued" for word, *_ in events(acmems, "--block", "web servers"))


def test_what_an_administrator_does(acmems: Acmems, tmp_path: Path) -> None:
    """An act of a command is an event of the server that has done it, and what is revoked is listed so."""
    assert sign(acmems, tmp_path, "www.example.org") == 200
    done = run_acmems("revoke", "--yes", acmems.folder / "acmems.ini", "www.example.org")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: ("administered", "done", 1) in events(acmems), "it is written")
    (act,) = told(acmems, "events", "--word", "administered")["events"]
    assert (act["client"], act["names"]) == ("command line", ["www.example.org"])
    assert act["reason"].startswith("revoke by ")
    (listed,) = told(acmems, "list")["certificates"]
    assert (listed["state"], listed["revoked"] is not None) == ("revoked", True)


def test_a_stop_and_a_start(acmems: Acmems, tmp_path: Path) -> None:
    """What happened just before a stop is there after it, and without a server as well."""
    assert sign(acmems, tmp_path, "www.example.com") == 403
    acmems.stop()
    assert events(acmems) == [("refused", None, 1)]
    acmems.start()
    assert events(acmems) == [("refused", None, 1)]
    assert sign(acmems, tmp_path, "www.example.org") == 200  # looking has not kept it from its state
    assert "another server uses" not in acmems.log


def test_no_secret_is_kept(acmems: Acmems, tmp_path: Path) -> None:
    """Neither the secret of a block nor what a client sends for it is in the state."""
    _, path = make_key_and_csr(tmp_path, ["mail.example.com"])
    header = f"Authentication: hmac name=sha256, hash={SENT}"
    assert curl(acmems.sign_url, "-H", header, "--data-binary", f"@{path}").status == 403
    acmems.stop()
    assert [word for word, *_ in events(acmems)] == ["refused"]
    files = list(tmp_path.glob("account/state.sqlite*"))
    assert files
    for each in files:
        held = each.read_bytes()
        assert KEY.encode() not in held
        assert SENT.encode() not in held


def test_following_at_a_terminal(acmems: Acmems, tmp_path: Path) -> None:
    """What happens is shown within seconds, line by line, until it is interrupted."""
    ours, theirs = pty.openpty()
    following = subprocess.Popen(
        [sys.executable, "-m", "acmems", "events", "--follow", str(acmems.folder / "acmems.ini")],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment({"COLUMNS": "100", "NO_COLOR": "1"}),
    )
    os.close(theirs)
    try:
        lines = os.fdopen(ours, encoding="utf-8", buffering=1)
        assert lines.readline().split()[:3] == ["time", "(UTC)", "event"]
        assert sign(acmems, tmp_path, "www.example.org") == 200
        seen: list[str] = []
        while not any("delivered" in line for line in seen):
            seen.append(lines.readline())
        assert max(len(line.rstrip("\r\n")) for line in seen) <= 100
        following.send_signal(signal.SIGINT)
        assert following.wait(30) == 0
    finally:
        following.kill()
        following.wait()
        lines.close()
