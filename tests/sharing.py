"""Several nodes with one state, in one process."""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.peers import Postgres

from acmems.exceptions import StateUnavailable
from acmems.state.chains import ChainRecord
from acmems.state.engines.contract import Change, Database
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase, take_lock
from acmems.state.limits.pauses import PauseRecords
from acmems.state.proofs import Found, FoundProof, ProofLookups
from acmems.state.sharing.leases import Leases
from acmems.state.sharing.nodes import Node
from acmems.state.sharing.shared_orders import SharedOrders
from acmems.text import Secret

T = TypeVar("T")


NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
LATER = NOW + datetime.timedelta(days=1)
URL = "https://ca.example/order/1"
CHAIN = ChainRecord(
    fingerprint="f1",
    identity="one",
    directory="https://ca.example/directory",
    names=("a.example.org",),
    serial="1",
    key_digest="k",
    pem=b"chain",
    not_before=NOW,
    not_after=LATER,
    issued=NOW,
)


class Sharer:
    """A node that has joined, with a connection of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.node = Node(database)
        self.node.join()
        self.node.thread.close()  # tests say when it renews
        self.leases = Leases(database, self.node.name)
        self.pauses = PauseRecords(database)
        self.orders = SharedOrders(database, self.leases, self.pauses)

    @property
    def name(self) -> str:
        return self.node.name

    def die(self) -> None:
        """Say nothing for so long that the others take it for dead."""
        expire(self.database, self.name)


class GatedDatabase:
    """A database whose reads wait at a gate, and are counted."""

    is_shared = True

    def __init__(self, database: Database) -> None:
        self.database = database
        self.reads = 0
        self.entered, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.error: StateUnavailable | None = None

    def read(self, query: Change[T]) -> T:
        self.reads += 1
        self.entered.release()
        assert self.gate.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        return self.database.read(query)

    def let(self, reads: int = 1) -> None:
        self.gate.release(reads)


class OtherNode(ProofLookups):
    """Looks up what another node presents, when the test says so."""

    is_active = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Collection[str], Callable[[Found | None], None]]] = []
        self.is_told = threading.Semaphore(0)

    def find(self, places: Collection[str], found: Callable[[Found | None], None]) -> None:
        self.asked.append((places, found))
        self.is_told.release()

    @property
    def places(self) -> list[str]:
        return [place for places, _ in self.asked for place in places]

    def answer(self, *key_authorizations: str, name: str = "www.example.org", is_known: bool = True) -> None:
        """Answer who waits longest: each place that was asked for has these proofs."""
        assert self.is_told.acquire(timeout=20)
        places, found = self.asked.pop(0)
        proofs = [FoundProof(name, key_authorization) for key_authorization in key_authorizations]
        found({place: proofs for place in places if proofs} if is_known else None)


def settle(sharer: Sharer) -> None:
    """Wait for what was written without waiting for it."""
    sharer.database.write(lambda _: None).result(20)


def expire(database: Database, node: str) -> None:
    """Let the time of a node be over."""
    database.write(
        lambda transaction: (
            transaction.execute("UPDATE nodes SET expires = acmems_now() WHERE node = ?", (node,)).rowcount
        )
    ).result(20)


def count(database: Database, table: str) -> int:
    """Return how many rows a table has."""
    found: int = database.read(
        lambda transaction: transaction.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - a test's
    )
    return found


@contextlib.contextmanager
def sharing(folder: Path, number: int = 2, server: Postgres | None = None) -> Iterator[list[Sharer]]:
    """Open one state several times: in a file, as the processes of one server do, or in a database.

    Args:
        folder: where the file is.
        number: how often.
        server: where the database is made; None for a file.
    """
    with contextlib.ExitStack() as stack:
        databases: list[Database] = []
        if server is None:
            path = folder / "state.sqlite"
            lock = take_lock(path)
            stack.callback(os.close, lock)
            databases += [SqliteDatabase.open(path, lock=lock, is_shared=True) for _ in range(number)]
        else:
            url = Secret(server.url_of(stack.enter_context(server.lent_database())))
            databases += [PostgresDatabase.open(url) for _ in range(number)]
        for database in databases:
            stack.callback(database.close)
        yield [Sharer(database) for database in databases]


ENGINES = ("sqlite", "postgresql")


def server_for(request: pytest.FixtureRequest) -> Postgres | None:
    """Return the server that a fixture with a parameter of `ENGINES` needs."""
    found: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    return found


@contextlib.contextmanager
def unwritable(database: Database) -> Iterator[None]:
    """Within this context no change can be made, whatever the engine; reading works."""
    assert isinstance(database, SqliteDatabase | PostgresDatabase)
    commits = database._commits

    def fail(_: Any) -> list[Any]:
        raise StateUnavailable("the disk is full")

    transact, commits._transact = commits._transact, fail
    try:
        yield
    finally:
        commits._transact = transact
