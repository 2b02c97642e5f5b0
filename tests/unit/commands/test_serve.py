"""`acmems serve`: it serves what is configured, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.commands import main as cli
from acmems.config import Configuration


class TestServe:
    """`acmems serve` serves, or ends with one line."""

    def test_it_serves_what_is_configured(
        self, serving: list[Configuration], config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The configuration is read and served; a server that ends as told ends with 0."""
        assert cli.main(["serve", str(config)]) == 0
        (served,) = serving
        assert [block.name for block in served.auth.blocks] == ["web"]
        assert capsys.readouterr() == ("", "")

    def test_a_mistake_serves_nothing(self, serving: list[Configuration], config: Path) -> None:
        """A configuration with a mistake is not served."""
        config.write_text(config.read_text() + "colour = red\n")
        assert cli.main(["serve", str(config)]) == 2
        assert serving == []
