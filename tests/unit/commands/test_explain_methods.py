"""`acmems explain --method`: tokens and client certificates that a client could show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acmems.commands import main as cli

TOKEN = "7a" * 20
CONFIG = """
[account]
dir = {folder}/account
[mgmt]
tls-client-ca = ca
tls-listener = [::1]:1
tls-certificate = a
tls-key = b
[auth "token"]
token-file = {folder}/tokens
domain = token.example.net
[auth "covered"]
client-certificate = yes
domain = *.covered.example.net
[auth "known"]
client-certificate = *.hosts.example.net
domain = known.example.net
"""


@pytest.mark.parametrize(
    ("name", "method", "block"),
    [
        ("token.example.net", "token", "token"),
        ("a.covered.example.net", "client-certificate", "covered"),
        ("known.example.net", "client-certificate", "known"),
    ],
)
def test_methods(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, method: str, block: str
) -> None:
    """They stand for a token of each block, and for a certificate that it accepts; nothing shows a token."""
    (tmp_path / "tokens").write_text(f"{TOKEN}\n", encoding="ascii")
    config = tmp_path / "acmems.ini"
    config.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    command = ["explain", str(config), "--json", "--address", "203.0.113.1", "--name", name]
    assert cli.main(command) == 1
    refused = capsys.readouterr().out
    assert cli.main([*command, "--method", method]) == 0
    granted = capsys.readouterr().out
    assert json.loads(refused)["granted"] is False
    document = json.loads(granted)
    assert (document["block"], document["methods"]) == (block, [method])
    assert TOKEN not in refused + granted
