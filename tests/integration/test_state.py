"""Chains in the state of a real server with a real CA: kept, found, imported, and downloaded again."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from tests.peers import Acmems, Settings, curl_sign, make_key_and_csr, run_acmems

SQL = """
[storage "state"]
type = sql
"""


@pytest.fixture
def csr(tmp_path: Path) -> Path:
    _, csr = make_key_and_csr(tmp_path, ["a.example.org"])
    return csr


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_a_storage_in_the_state(settings: Settings, csr: Path, *, is_killed: bool) -> None:
    """What a client got is there after a restart, even if the server was killed as soon as it had it."""
    settings.storage = SQL
    with Acmems(settings) as acmems:
        first = curl_sign(acmems.sign_url, csr)
        assert first.status == 200
        if is_killed:
            acmems.process.kill()
            acmems.process.wait()
        else:
            acmems.stop()
        acmems.start()
        assert curl_sign(acmems.sign_url, csr).body == first.body
        copy = run_acmems("state", "check", "--json", acmems.folder / "acmems.ini")
    document = json.loads(copy.stdout)
    assert (document["sound"], document["rows"]["chains"]) == (True, 1)


def test_from_files_into_the_state(settings: Settings, csr: Path, tmp_path: Path) -> None:
    """Chains that were in a directory are delivered from the state after an import; nothing is ordered."""
    with Acmems(settings) as acmems:
        first = curl_sign(acmems.sign_url, csr)
    state = tmp_path / "account" / "state.sqlite"
    state.unlink()  # as before there was one
    config = tmp_path / "acmems.ini"
    config.write_text(settings.text())
    done = run_acmems("state", "import", "--json", config)
    assert json.loads(done.stdout) | {"state": ""} == {
        "state": "",
        "storages": ["file"],
        "new": 1,
        "known": 0,
        "damaged": [],
    }
    settings.storage = SQL
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).body == first.body


def test_a_chain_from_the_ca_again(settings: Settings, csr: Path, tmp_path: Path) -> None:
    """A damaged chain is downloaded again through its order, and delivered."""
    settings.storage = SQL
    with Acmems(settings) as acmems:
        first = curl_sign(acmems.sign_url, csr)
    with contextlib.closing(sqlite3.connect(tmp_path / "account" / "state.sqlite")) as connection:
        connection.execute("UPDATE chains SET pem = 'x', names = 'y'")
        connection.commit()
    config = tmp_path / "acmems.ini"
    config.write_text(settings.text())
    assert run_acmems("state", "check", config).returncode == 1
    done = run_acmems("state", "check", "--repair", config)
    assert done.returncode == 0, done.stderr
    assert "was downloaded from the CA again" in done.stderr
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).body == first.body


def test_a_backup_beside_the_server(settings: Settings, csr: Path, tmp_path: Path) -> None:
    """It is taken while the server runs, and serves in the place of the state that it was taken of."""
    settings.storage = SQL
    with Acmems(settings) as acmems:
        first = curl_sign(acmems.sign_url, csr)
        done = run_acmems("state", "backup", tmp_path / "backup", acmems.folder / "acmems.ini")
        assert done.returncode == 0, done.stderr
    account = tmp_path / "account"
    for file in account.glob("state.sqlite*"):
        file.unlink()
    (tmp_path / "backup").rename(account / "state.sqlite")
    with Acmems(settings) as acmems:
        assert curl_sign(acmems.sign_url, csr).body == first.body
