"""`acmems notice`: a test for each section, and what was told and waits."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.noticing import DIRECTORY, NOW, hook, make_notice

from acmems.commands import main as cli
from acmems.notices.outbox import Outbox
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.notices.causes import CauseRecord, CauseRecords
from acmems.state.notices.outbox import NoticeRecords

ENDED = "the program false ended with code 1; what it wrote is in the log at level debug"


class Desk:
    """A configuration, and what commands tell."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.capsys = capsys

    def add(self, *sections: str) -> None:
        self.config.write_text("\n".join([self.config.read_text(), *sections]))
        self.config.chmod(0o600)

    def run(self, *words: str) -> tuple[int, str, str]:
        code = cli.main(["notice", words[0], str(self.config), *words[1:]])
        told = self.capsys.readouterr()
        return code, told.out, told.err


@pytest.fixture
def desk(config: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(config, capsys)


def program(name: str, path: str) -> str:
    return f'[notice "{name}"]\ntype = exec\ncommand = {path}'


class TestTest:
    def test_each_section(self, desk: Desk) -> None:
        """Each gets one, and says what it is; one that fails is told, and is in nobody's way."""
        with hook() as server:
            desk.add(
                f'[notice "web"]\ntype = webhook\nurl = {server.url}',
                program("bad", "/bin/false"),
                program("good", "/bin/true"),
            )
            assert desk.run("test") == (
                1,
                "notice web: delivered\nnotice good: delivered\n",
                f"acmems: notice bad: {ENDED}\n",
            )
            ((_, _, body),) = server.posted
        document = json.loads(body)
        assert (document["kind"], document["phase"], document["severity"]) == ("test", "once", "info")
        assert document["subject"] == "this is a test, and nothing is wrong"

    def test_some_of_them(self, desk: Desk) -> None:
        """By name."""
        desk.add(program("bad", "/bin/false"), program("good", "/bin/true"))
        assert desk.run("test", "--to", "good") == (0, "notice good: delivered\n", "")
        code, out, _ = desk.run("test", "--to", "good", "--json")
        document = json.loads(out)
        assert (code, document["targets"]) == (0, [{"name": "good", "delivered": True, "reason": None}])

    @pytest.mark.parametrize(
        ("sections", "words", "complaint"),
        [
            ((), (), 'acmems: there is no [notice "NAME"] section, so nobody is told anything\n'),
            (
                (program("pager", "/bin/true"),),
                ("--to", "pages"),
                "acmems: there is no [notice \"pages\"], did you mean 'pager'?\n",
            ),
        ],
    )
    def test_nobody(
        self, desk: Desk, sections: tuple[str, ...], words: tuple[str, ...], complaint: str
    ) -> None:
        """A mistake of usage."""
        desk.add(*sections)
        assert desk.run("test", *words) == (2, "", complaint)


class TestList:
    @pytest.fixture
    def kept(self, desk: Desk) -> None:
        cause = CauseRecord(
            cause="c",
            kind="renewal",
            began=NOW,
            seen=NOW,
            told=NOW,
            times=2,
            stage=1,
            number=1000,
            severity="warning",
            directory=DIRECTORY,
            reason="the CA could not validate a.example.org",
        )
        with closing(SqliteDatabase.open(desk.config.parent / "account" / "state.sqlite")) as database:
            database.write(lambda transaction: CauseRecords.put(transaction, [cause])).result(20)
            database.write(
                lambda transaction: Outbox.keep(transaction, [(make_notice(), ["ops"])], NOW)
            ).result(20)
            records = NoticeRecords(database)
            records.postpone(records.all()[0], "no route to host", NOW).result(20)

    @pytest.mark.usefixtures("kept")
    def test_for_a_person(self, desk: Desk) -> None:
        """A line for each, its fields separated by tabs where that is no terminal."""
        code, out, err = desk.run("list")
        assert (code, err) == (0, "")
        at, reason = "2026-11-02 08:00:00", "the CA could not validate a.example.org"
        assert [line.split("\t") for line in out.splitlines()] == [
            ["cause", "renewal", "warning", at, at, "2", reason],
            ["waiting", "ops", at, "1", at, 'a "certificate" ends', "no route to host"],
        ]

    @pytest.mark.usefixtures("kept")
    def test_for_a_program(self, desk: Desk) -> None:
        """One document."""
        code, out, _ = desk.run("list", "--json")
        document: dict[str, Any] = json.loads(out)
        assert (code, [*document]) == (0, ["causes", "waiting"])
        assert document["causes"] == [
            {
                "kind": "renewal",
                "severity": "warning",
                "since": "2026-11-02T08:00:00Z",
                "told": "2026-11-02T08:00:00Z",
                "times": 2,
                "number": 1000,
                "directory": DIRECTORY,
                "reason": "the CA could not validate a.example.org",
            }
        ]
        (waiting,) = document["waiting"]
        assert (waiting["target"], waiting["id"], waiting["tries"]) == ("ops", "id-1", 1)
        assert waiting["reason"] == "no route to host"

    def test_nothing(self, desk: Desk) -> None:
        """Without a line where that is no terminal."""
        SqliteDatabase.open(desk.config.parent / "account" / "state.sqlite").close()
        assert desk.run("list") == (0, "", "")


def test_check(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """What the sections name is looked at, each at its line; the URL of a webhook is a secret."""
    desk.add(
        program("ops", "/no/such/program"),
        '[notice "hook"]\ntype = webhook\nurl = https://example.org/s3cret\ntemplate-file = /no/template',
    )
    desk.config.chmod(0o644)
    lines = desk.config.read_text().splitlines()
    assert cli.main(["check", str(desk.config)]) == 2
    errors = capsys.readouterr().err
    command, template = (
        next(number for number, line in enumerate(lines, 1) if line.startswith(key))
        for key in ("command", "template-file")
    )
    assert f"{desk.config}:{command}: /no/such/program: there is no such program" in errors
    assert f"{desk.config}:{template}: /no/template cannot be read: No such file or directory" in errors
    assert f"{desk.config}:{template - 1}: warning: every user of this machine can read the secrets" in errors
    assert "s3cret" not in errors
