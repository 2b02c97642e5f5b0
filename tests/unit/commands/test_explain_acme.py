"""`acmems explain` for clients that speak ACME."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acmems.commands import main as cli

CONFIG = """
[account]
dir = {folder}

[auth "build"]
eab-kid = build
eab-hmac-key = {key}
domain = *.example.org

[acme]
listener = 127.0.0.1:1443
url = https://acme.example.org
tls-certificate = /tls.pem
tls-key = /tls-key.pem
"""
ASKING = ("--address", "192.0.2.7", "--name", "a.example.org", "--json")


@pytest.mark.parametrize(
    ("method", "code", "reasons"),
    [
        (["--method", "external-account"], 0, []),
        ([], 1, ["it requires an ACME account that is bound to the external account build"]),
    ],
)
def test_an_external_account(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, method: list[str], code: int, reasons: list[str]
) -> None:
    """What an ACME client gets is explained by `--method external-account`."""
    path = tmp_path / "acmems.ini"
    path.write_text(CONFIG.format(folder=tmp_path, key="A" * 43))
    assert cli.main(["explain", str(path), *ASKING, *method]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["blocks"][0]["reasons"] == reasons
