"""What is looked at may be in a database of PostgreSQL, which servers go on to use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.peers import Postgres
from tests.viewing import TEXT

from acmems.commands import main as cli
from acmems.config import Configuration
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.events import EventRecord, EventRecords
from acmems.state.opening import open_state
from acmems.system.clock import SYSTEM


def test_postgresql(postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command finds what is there."""
    path = tmp_path / "acmems.ini"
    path.write_text(
        f"{TEXT.format(folder=tmp_path)}[state]\nurl = {postgres.url_of(postgres.make_database())}\n"
    )
    config = Configuration.load(path)
    database = open_state(config.state, config.account.dir)
    now = SYSTEM.now()
    record = ChainRecord(
        fingerprint="ab" * 32,
        identity="one",
        directory="https://ca.example/directory",
        names=("a.example.org",),
        serial="1f",
        key_digest="key",
        pem=b"pem",
        not_before=now,
        not_after=now,
        issued=now,
    )
    ChainRecords(database).add(record).result()
    EventRecords(database).add([EventRecord(id="1", at=now, word="refused", client="-", status=429)]).result()
    found = {}
    for command, *more in (("list",), ("show", "1f"), ("events", "--since", "1h"), ("limits",)):
        words = [*more[:-1], str(path), *more[-1:]] if command == "show" else [str(path), *more]
        assert cli.main([command, "--json", *words]) == 0
        found[command] = json.loads(capsys.readouterr().out)
    assert [each["serial"] for each in found["list"]["certificates"]] == ["1f"]
    assert [each["serial"] for each in found["show"]["found"]] == ["1f"]
    assert len(found["events"]["events"]) == len(found["limits"]["refusals"]) == 1
    database.close()
