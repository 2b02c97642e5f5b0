"""A state in PostgreSQL: what is refused, servers that share it, and a database that hangs or goes away."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.monitoring import Moment
from tests.peers import PgBouncer, Postgres, free_port, wait_until
from tests.relay import Relay

from acmems.exceptions import StateUnavailable
from acmems.state.engines import connection, migrations, postgresql
from acmems.state.engines.contract import Transaction
from acmems.state.engines.group_commit import probe
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.opening import open_state
from acmems.state.options import StateOptions, state_place
from acmems.system.clock import SYSTEM, Clock
from acmems.text import Secret

COUNT = "SELECT count(*) FROM orders"
NOTE = (
    "INSERT INTO orders (identity, csr, begun) VALUES (?, ?, 1) "
    "ON CONFLICT (identity) DO UPDATE SET begun = orders.begun + 1"
)
FLUSH, SYNC = b"H\0\0\0\x04", b"S\0\0\0\x04"  # messages of the protocol
PATIENT = "?connect_timeout=30"
HASTY = "?connect_timeout=2"  # psycopg takes nothing shorter


@pytest.fixture
def name(postgres: Postgres) -> str:
    """A database that is empty."""
    return postgres.make_database()


@pytest.fixture
def relay(postgres: Postgres) -> Iterator[Relay]:
    """A way to the server that can be broken."""
    with Relay(postgres.port) as running:
        yield running


@contextmanager
def hasty() -> Iterator[None]:
    """Have nobody wait for as long as a server would; only for what cannot succeed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgresql, "TRANSACTION_SECONDS", 0.5)
        yield


@contextmanager
def opened(
    postgres: Postgres, name: str, port: int | None = None, clock: Clock = SYSTEM, limits: str = PATIENT
) -> Iterator[PostgresDatabase]:
    """A state that is open, by a way of its own where a port is given."""
    url = Secret(postgres.url_of(name, port=port) + limits)
    with closing(PostgresDatabase.open(url, clock)) as state:
        yield state


def note(state: PostgresDatabase, identity: str = "one") -> None:
    noting(state, identity).result(60)


def noting(state: PostgresDatabase, identity: str) -> Future[None]:
    def change(transaction: Transaction) -> None:
        transaction.execute(NOTE, (identity, b""))

    return state.write(change)


def count(state: PostgresDatabase) -> int:
    number: int = state.read(lambda transaction: transaction.execute(COUNT).fetchone()[0])
    return number


class TestOpen:
    """A database gets its tables, or is refused with words."""

    def test_again(self, postgres: Postgres, name: str, caplog: pytest.LogCaptureFixture) -> None:
        """What was written is there when it is opened again, and what is up to date is not changed."""
        caplog.set_level(logging.INFO)
        with opened(postgres, name) as state:
            note(state)
        place = f"postgresql://127.0.0.1:{postgres.port}/{name}"
        told = f"the state {place} has been made (revision {len(migrations.MIGRATIONS)})"
        assert caplog.messages == [told]
        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        with opened(postgres, name) as state:
            assert count(state) == 1
        assert caplog.messages == [told]

    def test_servers_that_start_at_the_same_moment(self, postgres: Postgres, name: str) -> None:
        """One of them makes the tables, and the others wait for it."""
        code = (
            "import sys\n"
            "from acmems.state.engines.postgresql import PostgresDatabase\n"
            "from acmems.text import Secret\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
            "PostgresDatabase.open(Secret(sys.argv[1])).close()\n"
        )
        command = [sys.executable, "-c", code, postgres.url_of(name)]
        pipe = subprocess.PIPE
        started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(6)]
        for each in started:
            assert each.stdout is not None
            assert each.stdout.readline() == b"ready\n"
        for each in started:
            assert each.stdin is not None
            each.stdin.write(b"\n")
            each.stdin.flush()
        assert [(each.communicate()[1], each.returncode) for each in started] == [(b"", 0)] * 6
        assert postgres.execute("SELECT max(revision) FROM revisions", name) == [
            (len(migrations.MIGRATIONS),)
        ]

    def test_a_server_that_was_a_moment_quicker(self, postgres: Postgres, name: str) -> None:
        """One that has begun to make the tables, and has not committed them, is waited for."""
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"  # noqa: S608 - made here
        with (
            psycopg.connect(postgres.url_of(name)) as quicker,
            ThreadPoolExecutor(1) as thread,
        ):
            quicker.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(b"acmems"),))
            quicker.execute("CREATE TABLE revisions (revision BIGINT PRIMARY KEY)")
            opening = thread.submit(PostgresDatabase.open, Secret(postgres.url_of(name)))
            wait_until(lambda: bool(postgres.execute(waiting)), "the other one waits")
            quicker.commit()
            opening.result(20).close()
        assert postgres.execute("SELECT max(revision) FROM revisions", name) == [
            (len(migrations.MIGRATIONS),)
        ]

    def test_a_newer_state(self, postgres: Postgres, name: str) -> None:
        """A database with a revision that this version does not know is not touched."""
        with opened(postgres, name):
            pass
        postgres.execute("INSERT INTO revisions VALUES (999)", name)
        for way in (PostgresDatabase.open, PostgresDatabase.look):
            with pytest.raises(StateUnavailable, match="newer version of acmems"):
                way(Secret(postgres.url_of(name)))

    def test_a_command_that_looks(self, postgres: Postgres, name: str) -> None:
        """It makes no tables, and works where there are those of this version."""
        url = Secret(postgres.url_of(name))
        with pytest.raises(StateUnavailable, match="start the server, or run 'acmems state migrate'"):
            PostgresDatabase.look(url)
        assert postgres.execute("SELECT to_regclass('orders')", name) == [(None,)]
        with opened(postgres, name) as state:
            note(state)
            with closing(PostgresDatabase.look(url)) as beside:
                assert count(beside) == 1

    def test_a_migration_that_fails(
        self, postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A step that does not work leaves the database as it was before."""
        more = (*migrations.MIGRATIONS, "CREATE TABLE more (x BIGINT); CREATE TABLE orders (x BIGINT)")
        monkeypatch.setattr(migrations, "MIGRATIONS", more)
        with pytest.raises(StateUnavailable, match='cannot be used: relation "orders" already exists'):
            PostgresDatabase.open(Secret(postgres.url_of(name)))
        assert postgres.execute("SELECT to_regclass('orders'), to_regclass('more')", name) == [(None, None)]

    def test_a_server_that_stops_in_a_migration(
        self, postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The database lets go what it holds, before others that wait for it give up."""
        limit = "CREATE TABLE seen AS SELECT current_setting('idle_in_transaction_session_timeout')"
        monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, limit))
        with opened(postgres, name):
            assert postgres.execute("SELECT * FROM seen", name) == [("30s",)]

    def test_another_encoding(self, postgres: Postgres) -> None:
        """Names would not come back as they were."""
        name = postgres.make_database("ENCODING 'SQL_ASCII' TEMPLATE template0")
        with pytest.raises(StateUnavailable, match="has the encoding SQL_ASCII: make a database"):
            PostgresDatabase.open(Secret(postgres.url_of(name)))

    def test_a_database_that_can_only_be_read(self, postgres: Postgres, name: str) -> None:
        """One that stands by is no state; one that comes to stand by later is told, and left."""
        with opened(postgres, name) as state:
            note(state)
            postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            state._connections.close()
            with pytest.raises(StateUnavailable, match="read-only transaction") as caught:
                note(state)
            assert caught.value.retry_after
            assert state.failure is not None
        with pytest.raises(StateUnavailable, match=r"can only be read, .*: set 'url'"):
            PostgresDatabase.open(Secret(postgres.url_of(name)))

    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("postgresql://acmems:{wrong}@127.0.0.1:{port}/postgres", "password authentication failed"),
            ("postgresql://acmems:{wrong}@127.0.0.1:{free}/postgres", "Connection refused"),
            ("postgresql://acmems@127.0.0.1:{port}/none?password={wrong}", "password authentication failed"),
            ("postgresql://acmems:{wrong}/x@127.0.0.1:{port}/none", "as %XX"),
            ("postgresql://acmems:1234/{wrong}@127.0.0.1", "as %XX"),
            ("postgresql://acmems:{wrong}@x@127.0.0.1:{port}/none", "as %XX"),
            ("postgresql://acmems:x#{wrong}@127.0.0.1/none", "as %XX"),
            ("postgresql://acmems:%zz{wrong}@127.0.0.1/none", "as %XX"),
            ("postgresql://acmems:x@127.0.0.1:{port}/none?{wrong}=1", "as %XX"),
        ],
    )
    def test_no_password_is_told(
        self, postgres: Postgres, tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str, words: str
    ) -> None:
        """Why it cannot be used is told without the password, however the URL is written."""
        caplog.set_level(logging.DEBUG)
        text = url.format(wrong="S3CRET", port=postgres.port, free=free_port())
        with pytest.raises((ValueError, StateUnavailable), match=words) as caught:
            open_state(StateOptions(state_place(text)), tmp_path)
        cause: BaseException | None = caught.value
        while cause is not None:
            assert "S3CRET" not in f"{cause!r} {cause} {vars(cause)}"
            cause = cause.__cause__ or cause.__context__
        assert "S3CRET" not in caplog.text

    def test_no_password_is_shown(self, postgres: Postgres, name: str) -> None:
        """What a person may see of an open database is where it is."""
        with opened(postgres, name) as state:
            assert state.place == f"postgresql://127.0.0.1:{postgres.port}/{name}"
            for each in (state, state._connections, state._connections.target):
                assert postgres.password not in repr(each)
                assert postgres.password.split()[0] not in repr(each)


class TestShared:
    """Servers that write at the same time."""

    def test_changes_come_one_after_the_other(self, postgres: Postgres, name: str) -> None:
        """Of two servers that write to a row before they look, the second sees what the first has done."""
        entered, go = threading.Event(), threading.Event()

        def change(transaction: Transaction) -> bool:
            probe(transaction)
            [holders] = transaction.execute(COUNT).fetchone()
            entered.set()
            assert go.wait(20)
            transaction.execute(NOTE, (threading.current_thread().name, b""))
            return bool(holders == 0)

        with opened(postgres, name) as one, opened(postgres, name) as two:
            one.check().result(20)
            first = one.write(change)
            assert entered.wait(20)
            second = two.write(change)
            go.set()
            assert [each.result(20) for each in (first, second)] == [True, False]

    def test_who_waits_for_whom(self, postgres: Postgres, name: str) -> None:
        """Many changes of the same row from several servers are all made."""
        with opened(postgres, name) as one, opened(postgres, name) as two, ThreadPoolExecutor(8) as threads:
            list(threads.map(note, [one, two] * 50))
            assert count(one) == 1
            found = two.read(lambda transaction: transaction.execute("SELECT begun FROM orders").fetchone())
            assert found == (100,)

    def test_a_pooler(self, postgres: Postgres, name: str) -> None:
        """Where each transaction is in another session, servers notice nothing of it."""
        with (
            PgBouncer(postgres) as pooler,
            opened(postgres, name, pooler.port) as one,
            opened(postgres, name, pooler.port) as two,
            ThreadPoolExecutor(8) as threads,
        ):
            list(threads.map(note, [one, two] * 100))
            assert list(threads.map(count, [one, two] * 100)) == [1] * 200
            found = two.read(lambda transaction: transaction.execute("SELECT begun FROM orders").fetchone())
            assert found == (200,)

    def test_a_transaction_ends_with_its_last_request(
        self, postgres: Postgres, name: str, relay: Relay
    ) -> None:
        """Nothing is sent after it, for which a pooler would lend a connection that it never gets back."""
        with opened(postgres, name, relay.port) as state:
            note(state)
            with pytest.raises(StateUnavailable):
                state.read(lambda transaction: transaction.execute("SELECT no FROM orders").fetchone())
            relay.asked.clear()
            note(state)
            assert count(state) == 1
            assert relay.asked.endswith(SYNC)
            assert FLUSH not in relay.asked

    def test_connections_are_few(self, postgres: Postgres, name: str) -> None:
        """Many threads that read have few connections."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"

        def look(_: int) -> int:
            found: int = state.read(lambda transaction: transaction.execute(query).fetchone()[0])
            return found

        with opened(postgres, name) as state, ThreadPoolExecutor(30) as threads:
            note(state)
            assert max(threads.map(look, range(200))) <= 5


class TestAway:
    """A database that hangs, ends or cannot be reached: nobody waits for long, and all is well afterwards."""

    def test_an_answer_that_is_lost(self, postgres: Postgres, name: str, relay: Relay) -> None:
        """A change of which nobody knows whether it was committed is made again."""
        with opened(postgres, name, relay.port) as state:
            relay.lose_answer_to(b"COMMIT")
            note(state)
            assert state.failure is None
            found = state.read(lambda transaction: transaction.execute("SELECT begun FROM orders").fetchone())
            assert found == (2,)

    @pytest.mark.parametrize("how", ["stall", "cut"])
    def test_a_network_that_fails(self, postgres: Postgres, name: str, relay: Relay, how: str) -> None:
        """Who writes or reads hears of it, until the network works again."""
        with opened(postgres, name, relay.port, limits=HASTY) as state:
            note(state)
            getattr(relay, how)()
            with hasty():
                with pytest.raises(StateUnavailable, match="cannot be reached") as caught:
                    note(state)
                assert caught.value.retry_after
                assert str(state.failure) == str(caught.value)
                with pytest.raises(StateUnavailable, match="cannot be reached"):
                    count(state)
            relay.heal()
            wait_until(lambda: state.check().exception(60) is None, "it can be written again")
            assert state.failure is None
            assert count(state) == 1

    def test_attempts_are_far_between(self, postgres: Postgres, name: str, relay: Relay) -> None:
        """While it is away, it is not asked each time that somebody writes, and less and less often."""
        moment = Moment()
        with opened(postgres, name, relay.port, moment.clock()) as state:
            relay.cut()
            state._connections.close()
            asked = []
            for _ in range(120):
                before = relay.connections
                with pytest.raises(StateUnavailable):
                    note(state)
                asked.append(relay.connections - before)
                moment.pass_by(seconds=0.5)
            assert asked[:8] == [1, 0, 1, 0, 0, 0, 1, 0]
            assert sum(asked) < 12
            relay.heal()
            moment.pass_by(seconds=15)
            note(state)

    def test_a_server_that_is_killed_stopped_and_held(self) -> None:
        """Connections that have ended are replaced at once; one that hangs is given up."""
        with Postgres() as server:
            name = server.make_database()
            with opened(server, name) as state:
                for end in (signal.SIGKILL, signal.SIGINT):
                    note(state, str(end))
                    assert count(state)
                    server.restart(end)
                    note(state, f"after {end}")
            with opened(server, name, limits=HASTY) as state:
                note(state)
                with hasty(), server.paused(), pytest.raises(StateUnavailable):
                    note(state)
                wait_until(lambda: state.check().exception(60) is None, "it can be written again")
                assert count(state) >= 4

    @pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
    def test_a_change_that_takes_too_long(self, postgres: Postgres, name: str) -> None:
        """What it raises is raised, and nothing else is told of a connection that has ended meanwhile."""
        moment = Moment()

        def change(transaction: Transaction) -> None:
            transaction.execute(COUNT).fetchone()
            moment.pass_by(seconds=60)
            raise LookupError

        with opened(postgres, name, clock=moment.clock()) as state:
            with pytest.raises(LookupError):
                state.read(change)
            gc.collect()
            assert count(state) == 0

    def test_a_statement_that_takes_too_long(
        self, postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change that waits for a row of somebody else is given up, and others are made."""
        monkeypatch.setattr(connection, "_LIMITS", "SELECT set_config('lock_timeout', '100ms', true)")
        with opened(postgres, name) as state, opened(postgres, name) as other:
            note(state)
            entered, go = threading.Event(), threading.Event()

            def hold(transaction: Transaction) -> None:
                assert transaction.execute("DELETE FROM orders").rowcount == 1
                entered.set()
                assert go.wait(20)

            holding = other.write(hold)
            assert entered.wait(20)
            with pytest.raises(StateUnavailable, match="lock timeout"):
                note(state)
            note(state, "two")
            go.set()
            holding.result(20)

    def test_a_server_that_stops_in_the_middle(self, postgres: Postgres, name: str) -> None:
        """What it holds is let go by the database, so that others can go on."""
        with opened(postgres, name) as state:
            limits = "SELECT current_setting('idle_in_transaction_session_timeout')"
            for way in (state.read, lambda query: state.write(query).result(20)):
                assert way(lambda transaction: transaction.execute(limits).fetchone()) == ("4s",)

    @pytest.mark.parametrize("way", ["rowcount", "fetchone", "fetchall", "iteration"])
    def test_a_server_that_stops_after_an_answer(self, postgres: Postgres, name: str, way: str) -> None:
        """The database sees that it is idle in its transaction, which has an end, and in no statement."""
        seen: list[object] = []
        states = f"SELECT state FROM pg_stat_activity WHERE datname = '{name}'"  # noqa: S608 - ours

        def change(transaction: Transaction) -> None:
            rows = transaction.execute("UPDATE orders SET begun = 0 RETURNING identity")
            answer: Any = getattr(rows, way, None)
            _ = list(rows) if way == "iteration" else answer if way == "rowcount" else answer()
            seen.extend(postgres.execute(states))

        with opened(postgres, name) as state:
            state.write(change).result(20)
        assert seen == [("idle in transaction",)]

    def test_a_server_that_stops_while_it_asks(
        self, postgres: Postgres, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever waits for what it holds ends its session, and no other one."""
        monkeypatch.setattr(connection, "_LIMITS", "SELECT set_config('lock_timeout', '1s', true)")
        monkeypatch.setattr(postgresql, "_END_STOPPED", postgresql._END_STOPPED.replace("4s", "50ms"))
        entered, go = threading.Event(), threading.Event()

        def read(transaction: Transaction) -> object:
            found = transaction.execute("SELECT 1").fetchone()
            entered.set()
            assert go.wait(20)
            return found

        with opened(postgres, name) as state, ThreadPoolExecutor(1) as threads:
            note(state)
            busy = threads.submit(state.read, read)
            assert entered.wait(20)
            with (
                closing(psycopg.connect(postgres.url_of(name))) as stopped,
                closing(psycopg.connect(postgres.url_of(name))) as restoring,
                restoring.cursor().copy("COPY learnt_limits FROM STDIN"),
            ):
                pipeline = stopped.pipeline()
                pipeline.__enter__()
                stopped.execute("UPDATE orders SET begun = 100")  # sent, and nothing behind it
                note(state)
                with pytest.raises(psycopg.OperationalError, match="closed"):
                    pipeline.__exit__(None, None, None)
            go.set()
            assert busy.result(20) == (1,)
            assert state.read(lambda found: found.execute("SELECT begun FROM orders").fetchone()) == (2,)

    def test_round_trips(self, postgres: Postgres, name: str) -> None:
        """A batch of changes takes no more of them than one change."""
        with Relay(postgres.port) as relay, opened(postgres, name, relay.port) as state:
            alone = 0
            for _ in range(5):  # the answer to what ends a change may come with that to the next one
                before = relay.turns
                note(state)
                alone = max(alone, relay.turns - before)
            entered, go = threading.Event(), threading.Event()

            def hold(_: Transaction) -> None:
                entered.set()
                assert go.wait(20)

            state.write(hold)
            assert entered.wait(20)
            written = [noting(state, str(each)) for each in range(50)]
            before = relay.turns
            go.set()
            for each in written:
                each.result(20)
            assert relay.turns - before <= 2 * alone == 2  # that of `hold`, and that of the fifty
