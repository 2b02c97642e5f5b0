"""What orders have told of CAs and accounts, by whichever process has seen it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.state.engines.contract import Database, Transaction

_PUT = """
    INSERT INTO sightings (subject, kind, directory, began, seen, reason) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (subject) DO UPDATE SET seen = excluded.seen, reason = excluded.reason
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingRecord:
    """Something that does not work, as it was seen; all times are aware.

    Args:
        subject: what makes it the same.
        kind: what does not work.
        directory: the URL of the CA's directory.
        began: when that was seen first.
        seen: when it was seen last.
        reason: why, as it was seen last.
    """

    subject: str
    kind: str
    directory: str
    began: datetime.datetime
    seen: datetime.datetime
    reason: str


class SightingRecords:
    """Keeps what was seen until somebody sees that it works again; for any thread.

    Args:
        database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, bad: Sequence[SightingRecord], good: Sequence[str]) -> Future[None]:
        """Take note of what does not work, and of what works.

        Args:
            bad: what does not work; when it began is kept where that is known already.
            good: the subjects of what works.
        """
        rows = [
            (
                each.subject,
                each.kind,
                each.directory,
                int(each.began.timestamp()),
                int(each.seen.timestamp()),
                each.reason,
            )
            for each in bad
        ]

        def change(transaction: Transaction) -> None:
            transaction.executemany("DELETE FROM sightings WHERE subject = ?", [(each,) for each in good])
            transaction.executemany(_PUT, rows)

        return self._database.write(change)

    def all(self) -> list[SightingRecord]:
        """Return what does not work.

        Raises:
            StateUnavailable: it cannot be read.
        """

        def query(transaction: Transaction) -> list[SightingRecord]:
            rows = transaction.execute(
                "SELECT subject, kind, directory, began, seen, reason FROM sightings ORDER BY subject"
            )
            return [
                SightingRecord(
                    subject=subject,
                    kind=kind,
                    directory=directory,
                    began=datetime.datetime.fromtimestamp(began, datetime.UTC),
                    seen=datetime.datetime.fromtimestamp(seen, datetime.UTC),
                    reason=reason,
                )
                for subject, kind, directory, began, seen, reason in rows.fetchall()
            ]

        return self._database.read(query)
