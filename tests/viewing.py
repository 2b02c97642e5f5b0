"""What tests of commands that look at the state share: a state, and what they tell of it."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.chains import make_chain, make_request

from acmems.commands import main as cli
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.events import EventRecord, EventRecords, event_id
from acmems.state.orders import OrderRecords

DAY = datetime.timedelta(days=1)
MINUTE = datetime.timedelta(minutes=1)
TEXT = """
[account]
dir = {folder}/account
[storage "disk"]
type = file
directory = {folder}/chains
[auth "web"]
ip = 192.0.2.0/24
domain = **.example.org
"""
DIRECTORY = "https://ca.example/directory"


@dataclass
class StateToLookAt:
    """A state, and what commands tell of it.

    Args:
        config: the configuration that names it.
        database: the state, as a server that runs has it open.
        capsys: what commands print.
    """

    config: Path
    database: SqliteDatabase
    capsys: pytest.CaptureFixture[str]
    now: datetime.datetime = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    )

    def keep(self, identity: str, *names: str, days: int = 80, **known: Any) -> ChainRecord:
        """Keep a chain that ends in so many days, of 90."""
        request = make_request(*names)
        record = ChainRecord.of(
            make_chain(request, days),
            identity=identity,
            directory=DIRECTORY,
            profile=None,
            issued=self.now - (90 - days) * DAY,
            csr=request.pem,
        )
        record = replace(record, **{"block": "web", "storage": "disk", **known})
        ChainRecords(self.database).add(record).result()
        return record

    def place(self, identity: str, *names: str, block: str = "web") -> str:
        """Keep an open order; return its URL."""
        orders = OrderRecords(self.database, self.now)
        orders.intend(identity, make_request(*names).pem, block, self.now - MINUTE)
        orders.opened(identity, "account", f"https://ca.example/{identity}", self.now + DAY).result()
        return f"https://ca.example/{identity}"

    def pause(self, subject: str, words: str, error: str = "RateLimited") -> None:
        """Keep a pause of half an hour."""
        document = {"length": 60.0, "error": {"error": error, "args": [words], "fields": {}}}
        row = (subject, json.dumps(document), 2, int(self.now.timestamp()) + 1800)
        self.database.write(
            lambda transaction: (
                transaction.execute(
                    "INSERT INTO pauses (subject, error, failures, until) VALUES (?, ?, ?, ?)", row
                ).rowcount
            )
        ).result()

    def happen(self, number: int, word: str, minutes: int, *, late: float = 0.0, **known: Any) -> EventRecord:
        """Keep an event of so many minutes ago, whose row took so many seconds to be written."""
        record = EventRecord(
            id=event_id(self.now - datetime.timedelta(seconds=late), number, "n"),
            at=self.now - minutes * MINUTE,
            word=word,
            **{"client": "192.0.2.7", **known},
        )
        EventRecords(self.database).add([record]).result()
        return record

    def run(self, command: str, *options: str) -> tuple[int, list[str], str]:
        """Run a command; return its exit code, the lines that it printed, and what it complained of."""
        words = (
            [*options[:-1], str(self.config), options[-1]]
            if command == "show"
            else [str(self.config), *options]
        )
        code = cli.main([command, *words])
        told = self.capsys.readouterr()
        return code, told.out.splitlines(), told.err

    def document(self, command: str, *options: str) -> Any:
        """Return the JSON document that a command prints."""
        code, lines, complaints = self.run(command, "--json", *options)
        assert complaints == ""
        document = json.loads("\n".join(lines))
        return code, document

    def fields(self, command: str, *options: str) -> list[Sequence[str]]:
        """Return the fields of the plain lines that a command prints."""
        _, lines, _ = self.run(command, *options)
        return [line.split("\t") for line in lines]


@contextlib.contextmanager
def looking_at(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[StateToLookAt]:
    """Make a configuration in a folder, and a state that a server has open."""
    config = folder / "acmems.ini"
    if not config.exists():
        (folder / "account").mkdir(mode=0o700)
        config.write_text(TEXT.format(folder=folder))
    database = SqliteDatabase.open(folder / "account" / "state.sqlite")
    made = StateToLookAt(config, database, capsys)
    yield made
    made.database.close()
