"""Prometheus, as it watches over a server."""

from __future__ import annotations

import json
import shutil
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.peers.ca import fetch
from tests.peers.process import Peer, free_port, program

CONFIGURATION = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
scrape_configs:
  - job_name: acmems
    static_configs:
      - targets: ["127.0.0.1:{target}"]
rule_files:
  - alerts.yml
"""


class Prometheus(Peer):
    """A monitoring system that scrapes one server each second, and evaluates alerts.

    Args:
        target: the port to scrape, on loopback.
        alerts: a file of alert rules.
    """

    name = "prometheus"

    def __init__(self, target: int, alerts: Path) -> None:
        super().__init__()
        self.target = target
        self.alerts = alerts

    def prepare(self) -> None:
        """Choose a port and write configuration."""
        self.port = free_port()
        text = CONFIGURATION.format(target=self.target)
        (self.folder / "prometheus.yml").write_text(text, encoding="utf-8")
        shutil.copy(self.alerts, self.folder / "alerts.yml")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [
            program(self.name),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def ready(self) -> bool:
        """Tell whether it says that it is."""
        return bool(fetch(f"http://127.0.0.1:{self.port}/-/ready"))

    def ask(self, path: str, **arguments: str) -> Any:
        """Return the data that its API answers, such as for `query`.

        Raises:
            OSError: it does not take the question.
        """
        asked = urllib.parse.urlencode(arguments)
        answer = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/{path}?{asked}"))
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Return what an expression has for results at the moment."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found
