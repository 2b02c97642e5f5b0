"""What tests of the server share: its issuer, and what its configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.running import Issuer

from acmems.app.accounts import running


@pytest.fixture(autouse=True)
def issuer(monkeypatch: pytest.MonkeyPatch) -> type[Issuer]:
    """What all servers here have for an issuer."""
    monkeypatch.setattr(Issuer, "told", [], raising=False)
    monkeypatch.setattr(Issuer, "error", None)
    monkeypatch.setattr(running, "AcmeIssuer", Issuer)
    return Issuer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the configuration names."""
    for name in ("account", "storage"):
        (tmp_path / name).mkdir()
    return tmp_path
