"""What each node presents and withdraws, for the other nodes and for whoever comes after a crash."""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from acmems.state.engines.contract import Change, Database, Transaction, Value, marks
from acmems.state.engines.gathering import GatheredChanges
from acmems.state.sharing.leases import Lease, Leases

ANSWERED = "answered"
"""The nodes answer the CA themselves; nothing of it is anywhere else."""
PLACED = "placed"
"""In a record somewhere else, which stays until it is withdrawn."""
LEAVING = "leaving"
"""Being withdrawn by its node; where it has none, that has failed."""

_MOST_ADDED = 500  # rows in one statement
_MOST_ABANDONED = 500  # rows that are withdrawn in one go

# In what follows `(*)` stands for a list of values, and `ALIVE(node)` for the condition that a node lives.
_ADD = """
    INSERT INTO proofs (id, verification, type, name, token, key_authorization, account_url, is_wildcard,
        issuers, place, presented, stage, node)
    VALUES * ON CONFLICT (id) DO NOTHING
"""
_ADDED_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, acmems_now(), ?, ?)"
_SELECT = """
    SELECT id, verification, type, name, token, key_authorization, account_url, is_wildcard, issuers, place,
        presented
    FROM proofs WHERE id IN (*) ORDER BY presented, verification
"""
_ARE_BEING_WITHDRAWN = """
    SELECT 1 FROM proofs mine JOIN proofs other
        ON other.verification = mine.verification AND other.name = mine.name
        AND other.key_authorization = mine.key_authorization AND other.place = mine.place
    WHERE mine.id IN (*) AND other.stage = 'leaving' AND ALIVE(other.node) LIMIT 1
"""
_LEAVE = "UPDATE proofs SET stage = 'leaving' WHERE id IN (*) AND node = ?"
_LEAVING = "SELECT id FROM proofs WHERE id IN (*) AND stage = 'leaving' AND node = ?"
_NEEDED = """
    SELECT mine.id FROM proofs mine JOIN proofs other
        ON other.verification = mine.verification AND other.name = mine.name
        AND other.key_authorization = mine.key_authorization AND other.place = mine.place
    WHERE mine.id IN (*) AND other.stage = 'placed' AND ALIVE(other.node)
"""
_ABANDONED = "SELECT id FROM proofs WHERE node = '' OR NOT ALIVE(node) ORDER BY presented LIMIT ?"
_DROP_ANSWERED = "DELETE FROM proofs WHERE id IN (*) AND stage = 'answered' AND NOT ALIVE(node)"
_TAKE_OVER = """
    UPDATE proofs SET stage = 'leaving', node = ? WHERE id IN (*) AND (node = '' OR NOT ALIVE(node))
"""
_REMOVE = "DELETE FROM proofs WHERE id IN (*) AND node = ?"
_GIVE_UP = "UPDATE proofs SET stage = 'leaving', node = '' WHERE id IN (*) AND node = ?"

_ALIVE = re.compile(r"ALIVE\(([a-z.]+)\)")
_ALIVE_ALONE = r"\1 = ?"
_ALIVE_OF_SEVERAL = r"(\1 = ? OR \1 IN (SELECT node FROM nodes WHERE expires > acmems_now()))"


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """A proof that is presented.

    Args:
        id: its own, whoever presents the same.
        verification: the name of the validator that presents it.
        type: of the challenge.
        name: what is proved, a DNS name without `*.` or an address.
        token: the challenge's; empty for types that have none.
        key_authorization: what the CA wants to see.
        account_url: the account's.
        is_wildcard: whether the wildcard below the name is proved.
        issuers: the names of the CA, where the challenge gives them.
        place: where it is found, as its validator spells it.
        presented: when, in seconds since 1970; 0 where it is not noted yet.
    """

    id: str
    verification: str
    type: str
    name: str
    token: str
    key_authorization: str = field(repr=False)
    account_url: str = ""
    is_wildcard: bool = False
    issuers: tuple[str, ...] = ()
    place: str = ""
    presented: int = 0


class ProofRecords:
    """Keeps what a node presents, for the other nodes, and for whoever comes after a crash.

    Whoever presents a record notes it first and looks then whether it is being withdrawn; whoever withdraws
    one notes that first and looks then whether others present it. So one of the two sees the other, and no
    record is withdrawn that somebody needs.

    Args:
        database: where they are kept.
        node: the name of this node, which no earlier process had.
        leases: of this node.
    """

    def __init__(self, database: Database, node: str, leases: Leases) -> None:
        self.is_shared = database.is_shared
        self._leases = leases
        self._database = database
        self._node = node
        self._additions = GatheredChanges(database, _add_all)
        self._lock = threading.Lock()  # guards what follows
        self._failed: list[Change[None]] = []  # which are made again, because others may wait for them

    def add(
        self, records: Sequence[ProofRecord], *, is_answered: bool, turns: Sequence[str] = ()
    ) -> Future[Sequence[Lease] | None]:
        """Note what is going to be presented.

        Args:
            records: all that one order presents by one validator.
            is_answered: whether the nodes answer for it themselves, so that nothing is to be withdrawn.
            turns: what only one node may show at a time.

        Returns:
            a future; it has the leases of the turns, in their order, once that is durable; None where another
            node has one of them, so that nothing is noted.
        """
        stage = ANSWERED if is_answered else PLACED
        rows = [(*_row(record), stage, self._node) for record in records]
        if not turns:
            return self._additions.write(rows)

        def change(transaction: Transaction) -> Sequence[Lease] | None:
            taken = self._take_turns(transaction, turns)
            if taken is not None:
                _add_all(transaction, [rows])
            return taken

        return self._database.write(change)

    def are_being_withdrawn(self, ids: Collection[str]) -> bool:
        """Tell whether somebody withdraws one of these records, who has noted the same.

        Raises:
            StateUnavailable: nobody knows.
        """
        return bool(self._read(_ARE_BEING_WITHDRAWN, ids, self._node))

    def leave(self, ids: Collection[str]) -> frozenset[str]:
        """Return which records this node is to withdraw now: those that no living node needs.

        The others are removed. What is returned is to be removed, or given up, afterwards.

        Raises:
            StateUnavailable: nobody knows.
        """
        if not self.is_shared:
            return frozenset(ids)
        self._database.write(lambda transaction: self._execute(transaction, _LEAVE, ids, self._node)).result()
        return self._needless(ids)

    def take_abandoned(self) -> list[ProofRecord]:
        """Return records that no living node withdraws, and that are this node's to withdraw from now on.

        Raises:
            StateUnavailable: nobody knows.
        """
        self._try_again()
        ids = [each[0] for each in self._read(_ABANDONED, (), self._node, _MOST_ABANDONED)]
        if not ids:
            return []

        def change(transaction: Transaction) -> None:
            self._execute(transaction, _DROP_ANSWERED, ids, self._node)
            statement = self._statement(_TAKE_OVER, ids)
            transaction.execute(statement, (self._node, *ids, self._node))

        self._database.write(change).result()
        needless = self._needless(ids)
        return [_record(row) for row in self._read(_SELECT, needless)] if needless else []

    def remove(self, ids: Collection[str], turns: Collection[Lease] = (), *, soon: bool = False) -> None:
        """Forget records that are withdrawn, and let others have their turns; later again where that fails.

        Args:
            ids: of the records.
            turns: of these records, as `add` has returned them.
            soon: whether somebody may wait for that.
        """

        def change(transaction: Transaction) -> None:
            self._execute(transaction, _REMOVE, ids, self._node)
            for turn in turns:
                self._leases.drop(transaction, turn)

        self._insist(change, soon=soon)

    def give_up(self, ids: Collection[str]) -> None:
        """Leave records that cannot be withdrawn now to whoever takes those that are abandoned."""
        self._insist(lambda transaction: self._execute(transaction, _GIVE_UP, ids, self._node), soon=True)

    def _needless(self, ids: Collection[str]) -> frozenset[str]:
        """Return which of the records that leave nobody else needs, and remove the others."""

        def query(transaction: Transaction) -> tuple[set[str], set[str]]:
            row = (*ids, self._node)
            leaving = {each[0] for each in transaction.execute(self._statement(_LEAVING, ids), row)}
            needed = {each[0] for each in transaction.execute(self._statement(_NEEDED, ids), row)}
            return leaving - needed, leaving & needed

        needless, needed = self._database.read(query)
        if needed:
            self.remove(needed, soon=True)
        return frozenset(needless)

    def _take_turns(self, transaction: Transaction, turns: Sequence[str]) -> Sequence[Lease] | None:
        """Take all of the turns, or none."""
        taken: dict[str, Lease] = {}
        for turn in sorted(turns):  # in one order everywhere, so that no two wait for each other's rows
            lease = self._leases.take(transaction, turn)
            if lease is None:
                for each in taken.values():
                    self._leases.drop(transaction, each)
                return None
            taken[turn] = lease
        return [taken[turn] for turn in turns]

    def _execute(
        self, transaction: Transaction, statement: str, ids: Collection[str], *values: Value
    ) -> None:
        transaction.execute(self._statement(statement, ids), (*ids, *values))

    def _read(self, statement: str, ids: Collection[str], *values: Value) -> list[Any]:
        text = self._statement(statement, ids)
        return self._database.read(lambda transaction: transaction.execute(text, (*ids, *values)).fetchall())

    def _statement(self, text: str, values: Collection[str] = ()) -> str:
        alive = _ALIVE_OF_SEVERAL if self.is_shared else _ALIVE_ALONE
        return _ALIVE.sub(alive, text).replace("(*)", f"({marks(values)})")

    def _insist(self, change: Change[None], *, soon: bool) -> None:
        """Make a change, later again where that fails."""

        def over(written: Future[None]) -> None:
            if written.exception() is not None:
                with self._lock:
                    self._failed.append(change)

        self._database.write(change, soon=soon).add_done_callback(over)

    def _try_again(self) -> None:
        with self._lock:
            failed, self._failed = self._failed, []
        for change in failed:
            self._insist(change, soon=True)


def _add_all(
    transaction: Transaction, added: Sequence[Sequence[tuple[Value, ...]]]
) -> list[Sequence[Lease] | None]:
    """Note what several orders are going to present, without turns."""
    rows = [row for each in added for row in each]
    for start in range(0, len(rows), _MOST_ADDED):
        some = rows[start : start + _MOST_ADDED]
        statement = _ADD.replace("*", ", ".join([_ADDED_ROW] * len(some)), 1)
        transaction.execute(statement, [value for row in some for value in row])
    return [[] for _ in added]


def _row(record: ProofRecord) -> tuple[Value, ...]:
    return (
        record.id,
        record.verification,
        record.type,
        record.name,
        record.token,
        record.key_authorization,
        record.account_url,
        int(record.is_wildcard),
        "\n".join(record.issuers),
        record.place,
    )


def _record(row: Sequence[Any]) -> ProofRecord:
    (
        number,
        verification,
        kind,
        name,
        token,
        key_authorization,
        account_url,
        is_wildcard,
        issuers,
        place,
        at,
    ) = row
    return ProofRecord(
        number,
        verification,
        kind,
        name,
        token,
        key_authorization,
        account_url,
        bool(is_wildcard),
        tuple(issuers.split("\n") if issuers else ()),
        place,
        at,
    )
