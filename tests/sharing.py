"""Several nodes with one state, in one process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.peers import Postgres

from acmems.state.engines.contract import Database
from acmems.state.engines.postgresql import PostgresDatabase
from acmems.state.engines.sqlite import SqliteDatabase, take_lock
from acmems.state.leases import Leases
from acmems.state.nodes import Node
from acmems.state.pauses import PauseRecords
from acmems.state.shared_orders import SharedOrders
from acmems.text import Secret


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


ENGINES = ("sqlite", "postgresql")


@contextlib.contextmanager
def sharing_by(engine: str, folder: Path, postgres: Postgres, number: int = 2) -> Iterator[list[Sharer]]:
    """Open one state several times, of the engine that is named."""
    if engine == "sqlite":
        with sharing(folder, number) as made:
            yield made
        return
    url = Secret(postgres.url_of(postgres.make_database()))
    databases = [PostgresDatabase.open(url) for _ in range(number)]
    try:
        yield [Sharer(database) for database in databases]
    finally:
        for database in databases:
            database.close()


@contextlib.contextmanager
def sharing(folder: Path, number: int = 2) -> Iterator[list[Sharer]]:
    """Open one state several times, as the processes of one server do."""
    path = folder / "state.sqlite"
    lock = take_lock(path)
    databases = [SqliteDatabase.open(path, lock=lock, is_shared=True) for _ in range(number)]
    try:
        yield [Sharer(database) for database in databases]
    finally:
        for database in databases:
            database.close()
        os.close(lock)
