"""Which of the certificates of a CA are revoked."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from acmems.state.chains.record import seconds
from acmems.state.engines.contract import Database

# A certificate stays in the list of its CA beyond its end (RFC 5280 section 3.3).
_TOLD_AFTER_END = datetime.timedelta(days=2)
_REVOKED = """
    SELECT serial, COALESCE(revoked, issued), reason FROM chains
    WHERE directory = ? AND reason IS NOT NULL AND not_after > ?
"""


class RevocationRecords:
    """Tells what is revoked; for any thread.

    Args:
        database: where it is kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, directory: str, now: datetime.datetime) -> Iterator[tuple[int, datetime.datetime, str]]:
        """Yield the serial numbers of what a CA has revoked, or is revoking, with times and reasons.

        Those that have expired some days ago are left out.

        Args:
            directory: the URL of the CA's directory, or what stands for a local CA.
            now: the time (aware).

        Raises:
            StateUnavailable: they cannot be read.
        """
        row = directory, seconds(now - _TOLD_AFTER_END)
        found = self._database.read(lambda transaction: transaction.execute(_REVOKED, row).fetchall())
        for serial, at, reason in found:
            yield int(serial, 16), datetime.datetime.fromtimestamp(at, datetime.UTC), reason
