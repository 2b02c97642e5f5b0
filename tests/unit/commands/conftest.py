"""What tests of commands share: a configuration, and a server that is not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.config import Configuration

TEXT = """[account]
dir = {folder}/account
accept-terms-of-service = yes
[verification "http"]
type = http01
listener =
[storage "disk"]
type = file
directory = {folder}/chains
"""
BLOCK = '[auth "web"]\nip = 192.0.2.0/24\ndomain = www.example.org\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without a fault, and the directory that it names."""
    for name in ("account", "chains"):
        (tmp_path / name).mkdir(mode=0o700)
    path = tmp_path / "acmems.ini"
    path.write_text(TEXT.format(folder=tmp_path) + BLOCK)
    return path


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """What would be served, if anything were."""
    served: list[Configuration] = []

    def serve(config: Configuration, *_: object) -> int:
        served.append(config)
        return 0

    monkeypatch.setattr("acmems.app.run", serve)
    monkeypatch.setattr("acmems.logs.configure", lambda _: None)
    return served
