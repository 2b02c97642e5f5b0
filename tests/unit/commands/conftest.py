"""What tests of commands share: a configuration, and a server that is not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.config import Configuration

BLOCK = '[auth "web"]\nip = 192.0.2.0/24\ndomain = www.example.org\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without a fault, and the directory that it names."""
    (tmp_path / "account").mkdir()
    path = tmp_path / "acmems.ini"
    path.write_text(f"[account]\ndir = {tmp_path / 'account'}\n{BLOCK}")
    return path


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> list[Configuration]:
    """What would be served, if anything were."""
    served: list[Configuration] = []
    monkeypatch.setattr("acmems.app.run", lambda config, *_: served.append(config))
    monkeypatch.setattr("acmems.logs.configure", lambda _: None)
    return served
