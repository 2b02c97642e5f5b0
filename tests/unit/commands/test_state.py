"""`acmems state`: what each action prints, as lines and as JSON, and how it ends."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.chains import make_chain, make_request

from acmems.commands import main as cli
from acmems.config import Configuration
from acmems.state.chains import ChainRecords
from acmems.state.engines.migrations import MIGRATIONS
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import FileStorage, IssuerIdentity, digest_of

REQUEST = make_request("www.example.org")
CHAIN = make_chain(REQUEST)


class Operator:
    """Somebody at the command line, with a configuration whose storage holds a chain."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = config
        self.account = config.parent / "account"
        self.state = self.account / "state.sqlite"
        self.storage = FileStorage("disk", config.parent / "chains")
        read = Configuration.load(config)
        self.issuer = IssuerIdentity(read.account.directory_url, read.account.profile)
        self.identity = digest_of(REQUEST, self.issuer)
        self.storage.store(REQUEST, CHAIN, self.issuer)
        self._capsys = capsys

    def run(self, *words: str | Path) -> tuple[int, str, str]:
        """Run `acmems state`, and return the exit code and what it printed."""
        code = cli.main(["state", *map(str, words), str(self.config)])
        told = self._capsys.readouterr()
        return code, told.out, told.err

    def asked(self, *words: str | Path) -> tuple[int, dict[str, Any]]:
        """Run it, and return the exit code and the JSON document."""
        code, out, err = self.run(*words, "--json")
        assert err == ""
        document = json.loads(out)
        assert isinstance(document, dict)
        return code, document

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.state)) as connection:
            connection.execute(statement)
            connection.commit()
        self.state.chmod(0o600)

    def newest(self) -> bytes | None:
        with closing(SqliteDatabase.open(self.state)) as database:
            found = ChainRecords(database).newest(self.identity)
        return None if found is None else found.pem


@pytest.fixture
def operator(config: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(config, capsys)


class TestMigrate:
    def test_a_new_state(self, operator: Operator) -> None:
        """It is made; the second time there is nothing to do."""
        code, out, _ = operator.run("migrate")
        assert (code, out.splitlines()[1]) == (0, f"revision  0 -> {len(MIGRATIONS)}")
        code, out, _ = operator.run("migrate")
        assert (code, out.splitlines()[1]) == (0, f"revision  {len(MIGRATIONS)}, as before")

    def test_an_older_state(self, operator: Operator) -> None:
        """The document tells from which revision to which."""
        operator.execute("PRAGMA user_version = 0")
        assert operator.asked("migrate") == (
            0,
            {"state": str(operator.state), "revision_before": 0, "revision": len(MIGRATIONS)},
        )

    def test_a_newer_state(self, operator: Operator) -> None:
        """It is refused."""
        operator.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
        code, _, err = operator.run("migrate")
        assert code == 1
        assert "written by a newer version" in err


@pytest.mark.parametrize("action", ["migrate", "import"])
def test_beside_a_server(operator: Operator, action: str) -> None:
    """What writes waits until the server is stopped, and says so."""
    with closing(SqliteDatabase.open(operator.state)):
        code, _, err = operator.run(action)
    assert code == 1
    assert f"a server uses {operator.state}: stop it, do 'acmems state {action}' again" in err


@pytest.mark.parametrize(
    "words", [["check"], ["check", "--repair"], ["backup", "copy"], ["migrate"]], ids=" ".join
)
def test_a_state_that_can_only_be_read(
    operator: Operator, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes nothing needs no more: a disk that has become read-only is looked at, and copied from."""
    operator.run("migrate")
    access = os.access
    monkeypatch.setattr(
        "os.access",
        lambda path, mode: (
            access(path, mode) and not (str(path).startswith(str(operator.state)) and mode & os.W_OK)
        ),
    )
    monkeypatch.chdir(tmp_path)
    code, _, err = operator.run(*words)
    is_read = words in (["check"], ["backup", "copy"])
    assert (code, "the state cannot be used" in err) == ((0, False) if is_read else (2, True))


class TestImport:
    def test_again_and_again(self, operator: Operator) -> None:
        """Chains are new once; a newer one takes the place."""
        counts = {"state": str(operator.state), "storages": ["disk"], "damaged": []}
        assert operator.asked("import") == (0, counts | {"new": 1, "known": 0})
        assert operator.asked("import", "--storage", "disk") == (0, counts | {"new": 0, "known": 1})
        assert operator.newest() == CHAIN.pem
        newer = make_chain(REQUEST, days=95)
        operator.storage.store(REQUEST, newer, operator.issuer)
        assert operator.asked("import") == (0, counts | {"new": 1, "known": 0})
        assert operator.newest() == newer.pem

    def test_for_a_person(self, operator: Operator) -> None:
        """Each number has its line, and each damaged chain."""
        [indexed] = (operator.storage.directory / "identities").iterdir()
        indexed.write_text("damaged")
        code, out, err = operator.run("import")
        assert code == 0
        assert out.splitlines() == [
            f"state     {operator.state}",
            "storages  disk",
            "new       1",
            "known     0",
            "damaged   1",
        ]
        assert f"not taken: {indexed}: " in err

    def test_no_such_storage(self, operator: Operator) -> None:
        """A name that is none is a mistake of usage."""
        code, _, err = operator.run("import", "--storage", "disc")
        assert code == 2
        assert "there is no [storage \"disc\"] with 'type = file', did you mean 'disk'?" in err

    def test_no_storage(self, operator: Operator) -> None:
        """Without a directory there is nothing to take."""
        text = operator.config.read_text().replace(f"directory = {operator.storage.directory}", "")
        operator.config.write_text(text.replace("type = file", "type = sql"))
        code, _, err = operator.run("import")
        assert code == 2
        assert "there is no [storage] with 'type = file' to import" in err

    def test_a_directory_that_is_gone(self, operator: Operator) -> None:
        """That nothing can be read is a failure, not an import of nothing."""
        operator.storage.directory.rename(operator.storage.directory.with_name("moved"))
        code, _, err = operator.run("import")
        assert code == 1
        assert (
            f"storage 'disk' cannot be read: No such file or directory ({operator.storage.directory})" in err
        )


class TestBackup:
    def test_beside_a_server(self, operator: Operator, tmp_path: Path) -> None:
        """It holds what the server had written, and is not written again."""
        operator.run("import")
        target = tmp_path / "backup"
        with closing(SqliteDatabase.open(operator.state)):
            code, document = operator.asked("backup", target)
        assert code == 0
        assert document == {
            "state": str(operator.state),
            "backup": str(target),
            "bytes": target.stat().st_size,
        }
        code, _, err = operator.run("backup", target)
        assert code == 1
        assert f"{target}: exists already, and is not overwritten" in err
        operator.state.unlink()
        target.rename(operator.state)
        assert operator.newest() == CHAIN.pem

    def test_postgresql(self, operator: Operator, tmp_path: Path) -> None:
        """Its own tools copy it."""
        with operator.config.open("a") as file:
            file.write("[state]\nurl = postgresql://somebody:secret@127.0.0.1:1/state\n")
        code, _, err = operator.run("backup", tmp_path / "backup")
        assert code == 1
        assert "pg_dump" in err
        assert "secret" not in err


class TestCheck:
    def test_a_sound_state(self, operator: Operator) -> None:
        """It says what is there; beside a server too."""
        operator.run("import")
        code, out, err = operator.run("check")
        assert (code, err) == (0, "")
        lines = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert lines["database"] == "sound"
        assert lines["chains"] == "1, of which 1 are current"
        assert (lines["orders"], lines["damaged"]) == ("0", "0")
        with closing(SqliteDatabase.open(operator.state)):
            code, document = operator.asked("check")
        assert code == 0
        assert (document["sound"], document["faults"], document["damaged"]) == (True, [], [])
        assert (document["rows"]["chains"], document["current_chains"]) == (1, 1)

    def test_no_state(self, operator: Operator) -> None:
        """There is nothing to look at, and none is made."""
        code, _, err = operator.run("check")
        assert code == 1
        assert "there is no state at" in err
        assert not operator.state.exists()

    def test_an_older_state(self, operator: Operator) -> None:
        """It is not touched."""
        operator.execute("PRAGMA user_version = 1")
        code, _, err = operator.run("check")
        assert code == 1
        assert "acmems state migrate" in err

    def test_a_wrong_column(self, operator: Operator) -> None:
        """It is told, with what to do; a repair goes by the certificate."""
        operator.run("import")
        operator.execute("UPDATE chains SET serial = 'x'")
        code, _, err = operator.run("check")
        assert code == 1
        assert (
            f"chains {CHAIN.fingerprint} (www.example.org): its certificate says otherwise than serial" in err
        )
        assert "acmems state check --repair" in err
        code, document = operator.asked("check", "--repair")
        assert (code, document["sound"]) == (0, True)
        assert document["repaired"] == [f"chain {CHAIN.fingerprint} is as its certificate says again"]

    def test_a_chain_that_nobody_has(self, operator: Operator) -> None:
        """Without an order there is nothing to ask the CA for: it stays, and does no harm."""
        operator.run("import")
        operator.execute("UPDATE chains SET pem = 'x'")
        code, _, err = operator.run("check", "--repair")
        assert code == 1
        assert "it cannot be read" in err
        assert "ordered anew" in err

    def test_a_repair_beside_a_server(self, operator: Operator) -> None:
        """The server is to be stopped first."""
        operator.run("import")
        operator.execute("UPDATE chains SET serial = 'x'")
        with closing(SqliteDatabase.open(operator.state)):
            code, _, err = operator.run("check", "--repair")
        assert code == 1
        assert "stop it" in err

    def test_a_malformed_file(self, operator: Operator) -> None:
        """It is a finding; a repair saves what can be read, and leaves the old file aside."""
        operator.run("import")
        operator.execute("PRAGMA journal_mode = DELETE")
        with operator.state.open("r+b") as file:
            file.seek(100)  # behind the header, where the list of tables begins
            damaged = file.read(8)
            file.seek(100)
            file.write(bytes(8))
        code, document = operator.asked("check")
        assert (code, document["sound"]) == (1, False)
        assert "malformed" in document["faults"][0]
        code, _, err = operator.run("check", "--repair")
        assert code == 1
        assert "restore it from a backup" in err
        with operator.state.open("r+b") as file:
            file.seek(100)
            file.write(damaged)
        assert operator.newest() == CHAIN.pem

    def test_a_malformed_index(self, operator: Operator) -> None:
        """A repair brings everything into a new file that is sound."""
        operator.run("import")
        operator.execute("PRAGMA journal_mode = DELETE")
        with closing(sqlite3.connect(operator.state)) as connection:
            [(page,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'chains_serial'")
        with operator.state.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(bytes(4096))
        code, _, err = operator.run("check")
        assert code == 1
        assert "chains_serial" in err or "malformed" in err
        code, out, err = operator.run("check", "--repair")
        assert "database sound" in " ".join(out.split())
        assert "1 chains; the old one is" in err
        assert code == 0
        assert Path(f"{operator.state}.damaged").exists()
        assert operator.newest() == CHAIN.pem
