"""A running server tells operators what fails: one of those that share a state, and nobody twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from tests.monitoring import Issuer, Moment
from tests.noticing import NOW, Recorder, keep_failing
from tests.peers import Postgres
from tests.running import configuration, running
from tests.sharing import unwritable

from acmems.app.memory import StateMemory
from acmems.app.upkeep.notices import NoticeUpkeep
from acmems.config import Configuration
from acmems.events import Bus, NotIssuedEvent
from acmems.exceptions import AccountError, AcmeException, CAUnavailable
from acmems.issuers.acme.account import Account
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuers.acme.options import AccountOptions
from acmems.issuing.limits.limit import Limit
from acmems.notices.contract import NoticeTarget
from acmems.settings.findings import NOWHERE
from acmems.settings.grammar import Section
from acmems.settings.options import Options
from acmems.state.engines.contract import Database
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.system.clock import Clock
from acmems.text import Secret


@dataclass
class Settings:
    """In the place of a configuration."""

    notices: dict[str, NoticeTarget]
    limits: tuple[Limit, ...] = ()


class CA(Issuer):
    """In the place of an issuer, whose account can be opened or not."""

    error: AcmeException | None = None

    def ensure_opened(self) -> None:
        if self.error is not None:
            raise self.error
        self.account = Account("https://ca.example.org/account/1")


@dataclass
class Node:
    """A server that shares a state, without what serves."""

    memory: StateMemory
    moment: Moment
    settings: Settings
    bus: Bus = field(default_factory=Bus)

    def __post_init__(self) -> None:
        self.clock: Clock = self.moment.clock()
        section = Options(Section("account", None, (), NOWHERE), [])
        self.ca = CA(AccountOptions.from_options(section), self.clock)
        self.issuers = [cast("AcmeIssuer", self.ca)]
        self.config = cast("Configuration", self.settings)
        self.upkeep = NoticeUpkeep(self, self.memory)

    def run(self, **after: float) -> None:
        self.moment.pass_by(**after)
        self.upkeep.run()

    def fail(self, error: Exception) -> None:
        url = self.ca.options.directory_url
        self.bus.emit(NotIssuedEvent(reference="r", client="c", directory=url, error=error, seconds=1.0))

    def close(self) -> None:
        self.ca.loop.close()
        self.memory.close()


@pytest.fixture
def ops() -> Recorder:
    return Recorder()


@pytest.fixture
def node(tmp_path: Path, ops: Recorder) -> Iterator[Node]:
    moment = Moment(wall=NOW)
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    made = Node(StateMemory(database, moment.clock()), moment, Settings({"ops": ops}))
    yield made
    made.close()


def database_of(node: Node) -> Database:
    return node.memory.database


class TestOneNode:
    def test_a_renewal_that_fails(self, node: Node, ops: Recorder) -> None:
        """It is found within a minute, and delivered at once."""
        node.run()
        keep_failing(database_of(node), 1, now=NOW)
        node.run(seconds=10)
        assert ops.got == []
        node.run(seconds=60)
        assert ops.subjects == [("begun", "renewal")]

    def test_nobody_to_tell(self, node: Node, ops: Recorder) -> None:
        """Nothing is looked for; once there is somebody, it is told."""
        node.settings.notices = {}
        keep_failing(database_of(node), 1, now=NOW)
        node.run(minutes=5)
        assert database_of(node).read(lambda t: t.execute("SELECT count(*) FROM causes").fetchone()[0]) == 0
        node.settings.notices = {"ops": ops}
        node.run(minutes=5)
        assert ops.subjects == [("begun", "renewal")]

    def test_a_changed_target(self, node: Node, ops: Recorder) -> None:
        """What waits for it is tried at once."""
        ops.fail()
        keep_failing(database_of(node), 1, now=NOW)
        node.run()
        for _ in range(10):
            node.run(hours=1)
        mended = Recorder()
        node.settings.notices = {"ops": mended}
        node.run(seconds=10)
        assert len(mended.got) == 1

    def test_the_state_cannot_be_written(self, node: Node, ops: Recorder) -> None:
        """It is told all the same."""
        node.run()
        with unwritable(database_of(node)):
            for _ in range(5):
                node.run(minutes=1)
        assert ops.subjects == [("begun", "state")]
        node.run(minutes=1)
        assert ops.subjects[1:] == [("ended", "state")]


class TestTheCA:
    def test_one_that_does_not_answer(self, node: Node, ops: Recorder) -> None:
        """It is asked from time to time, and its end is told although nobody orders."""
        node.ca.answers = False
        node.fail(CAUnavailable("away"))
        for _ in range(14):
            node.run(minutes=5)
        assert ops.subjects == [("begun", "ca")]
        assert node.ca.probes == 14
        node.ca.answers = True
        node.run(minutes=5)
        node.run(minutes=5)
        assert ops.subjects[1:] == [("ended", "ca")]

    def test_one_that_was_away_for_a_moment(self, node: Node, ops: Recorder) -> None:
        """It is not told."""
        node.fail(CAUnavailable("away"))
        for _ in range(30):
            node.run(minutes=5)
        assert (ops.got, node.ca.probes) == ([], 1)

    def test_an_account_that_is_not_known(self, node: Node, ops: Recorder) -> None:
        """It is told with the CA's words, and when it is known."""
        node.ca.account, node.ca.error = None, AccountError("the CA does not know the account")
        node.run()
        node.run(minutes=5)
        assert ops.subjects == [("begun", "account")]
        assert "the CA does not know the account" in ops.got[0].text
        node.ca.error = None
        for _ in range(3):
            node.run(minutes=5)
        assert ops.subjects[1:] == [("ended", "account")]

    def test_an_account_that_orders_are_refused_for(self, node: Node, ops: Recorder) -> None:
        """That the account is known does not end it; a reload does, after which it is seen anew."""
        node.fail(AccountError("new terms of service"))
        for _ in range(3):
            node.run(minutes=5)
        assert ops.subjects == [("begun", "account")]
        node.settings.notices = {"ops": ops}
        for _ in range(3):
            node.run(minutes=5)
        assert ops.subjects[1:] == [("ended", "account")]


def test_one_of_several_tells(postgres: Postgres) -> None:
    """Another one does once that has left; what either has seen is told."""
    url = Secret(postgres.url_of(postgres.make_database()))
    targets: list[Recorder] = []
    nodes: list[Node] = []
    for _ in range(2):
        targets.append(Recorder())
        moment = Moment(wall=NOW)
        memory = StateMemory(PostgresDatabase.open(url), moment.clock())
        nodes.append(Node(memory, moment, Settings({"ops": targets[-1]})))
    first, second = nodes
    first.run()
    second.fail(AccountError("gone"))
    second.run()
    assert [len(each.got) for each in targets] == [0, 0]
    first.run(minutes=1)
    assert [len(each.got) for each in targets] == [1, 0]
    first.close()
    second.run(minutes=10)
    second.run(minutes=10)
    assert [len(each.got) for each in targets] == [1, 0]
    keep_failing(database_of(second), 1, now=NOW)
    second.run(minutes=10)
    assert targets[1].subjects == [("begun", "renewal")]
    second.close()


class TestServer:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("account", "storage"):
            (tmp_path / name).mkdir(mode=0o700)
        return tmp_path

    def test_without_a_state(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The log says that nobody is told anything."""
        text = 'type = http01\nlistener = 127.0.0.1:0\n[notice "ops"]\ntype = exec\ncommand = /bin/true'
        with running(configuration(folder, web=text)) as first:
            assert [each.name for each in first.notices.threads] == ["acmems-notices"]
            with running(configuration(folder, web=text)) as second:
                assert second.notices.threads == ()
            assert "no notices are sent, because this server has no state" in caplog.text
