"""`acmems serve`: it serves what is configured, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from acmems.commands import main as cli
from acmems.config import Configuration
from acmems.logs.options import LoggingOptions


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

    def test_what_is_missing_on_the_machine_serves_nothing(
        self, serving: list[Configuration], config: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where a directory that is configured does not exist, nothing is served, and its line is told."""
        (config.parent / "account").rmdir()
        assert cli.main(["serve", str(config)]) == 2
        assert capsys.readouterr().err.startswith(f"{config}:2: ")
        assert serving == []

    def test_debugging(
        self, monkeypatch: pytest.MonkeyPatch, serving: list[Configuration], config: Path
    ) -> None:
        """With `--debug` it is logged to stderr and nowhere else; without, as the configuration says."""
        config.write_text(f"{config.read_text()}[logging]\nlevel = error\ndestination = stdout\n")
        used: list[LoggingOptions] = []
        monkeypatch.setattr("acmems.logs.configure", used.append)
        cli.main(["serve", str(config)])
        assert used.pop() == LoggingOptions("error", "stdout", "text")
        cli.main(["serve", "--debug", str(config)])
        assert set(used) == {LoggingOptions("debug", "stderr", "text")}
