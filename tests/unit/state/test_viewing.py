"""A state that is looked at, whoever uses it meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from acmems.exceptions import StateUnavailable
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.opening import view_state
from acmems.state.options import StateOptions

OPTIONS = StateOptions(None)
KILLED = """
import os, pathlib, signal, sys
from acmems.state.engines.sqlite import SqliteDatabase
database = SqliteDatabase.open(pathlib.Path(sys.argv[1]))
database.check().result()
os.kill(os.getpid(), signal.SIGKILL)
"""


def probes(database: object) -> int:
    assert isinstance(database, SqliteDatabase)
    count: int = database.read(lambda t: t.execute("SELECT COUNT(*) FROM probes").fetchone()[0])
    return count


def test_a_server_starts_meanwhile(tmp_path: Path) -> None:
    """Whoever looks takes no lock: the server has its state, and what it writes is seen."""
    SqliteDatabase.open(tmp_path / "state.sqlite").close()
    viewed = view_state(OPTIONS, tmp_path)
    assert probes(viewed) == 0
    server = SqliteDatabase.open(tmp_path / "state.sqlite")
    server.check().result()
    assert probes(viewed) == 1
    server.close()
    assert probes(viewed) == 1
    viewed.close()


def test_after_a_kill(tmp_path: Path) -> None:
    """What a server has written is seen, although it has not ended in order."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "state.sqlite")], check=False)
    assert done.returncode == -9
    viewed = view_state(OPTIONS, tmp_path)
    assert probes(viewed) == 1
    viewed.close()


def test_an_older_state(tmp_path: Path) -> None:
    """It is brought up to date where no server runs; where one does, that is to be done by it."""
    path = tmp_path / "state.sqlite"
    SqliteDatabase.open(path).close()
    holding = SqliteDatabase.open(path)
    holding._connection.execute("PRAGMA user_version = 1")
    with pytest.raises(StateUnavailable, match="restart the server"):
        view_state(OPTIONS, tmp_path)
    holding._connection.execute("DROP TABLE probes")
    holding.close()


def test_there_is_none(tmp_path: Path) -> None:
    """None is made."""
    with pytest.raises(StateUnavailable, match="there is no state"):
        view_state(OPTIONS, tmp_path)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - all that is there, hidden or not
