"""Further chains of certificates, which CAs offer beside the first (RFC 8555 section 7.4.2)."""

from __future__ import annotations

from concurrent.futures import Future

from acmems.state.engines.contract import Database, Transaction
from acmems.x509.chain import OfferedChain

_AT_ONCE = 1000  # rows that are forgotten in one transaction
_OFFERED = "SELECT pem, alternates FROM chains WHERE fingerprint = ?"
_FIND = "SELECT pem FROM alternates WHERE fingerprint = ? AND number = ?"
_PUT = """
    INSERT INTO alternates (fingerprint, number, pem, ends) VALUES (?, ?, ?, ?)
    ON CONFLICT (fingerprint, number) DO NOTHING
"""
_FORGET = """
    DELETE FROM alternates WHERE (fingerprint, number) IN (
        SELECT fingerprint, number FROM alternates WHERE ends <= ? LIMIT ?
    )
"""


class AlternateRecords:
    """Keeps the alternates that clients have asked for, until they expire; for any thread.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def offered(self, fingerprint: str) -> OfferedChain | None:
        """Return the first chain of a certificate and the URLs of others, None where it is not kept.

        Raises:
            StateUnavailable: it cannot be read.
        """
        row = self._database.read(
            lambda transaction: transaction.execute(_OFFERED, (fingerprint,)).fetchone()
        )
        return None if row is None else OfferedChain(bytes(row[0]), tuple((row[1] or "").split()))

    def find(self, fingerprint: str, number: int) -> bytes | None:
        """Return an alternate in PEM, None where it is not kept.

        Args:
            fingerprint: the certificate's.
            number: the place of its URL among those of the certificate, from 1.

        Raises:
            StateUnavailable: it cannot be read.
        """
        row = self._database.read(
            lambda transaction: transaction.execute(_FIND, (fingerprint, number)).fetchone()
        )
        return None if row is None else bytes(row[0])

    def keep(self, fingerprint: str, number: int, pem: bytes, ends: int) -> Future[None]:
        """Keep an alternate.

        Args:
            fingerprint: the certificate's.
            number: as for `find`.
            pem: the chain.
            ends: when the certificate expires, in seconds since 1970.

        Returns:
            a future that is done when it is durable, and holds a `StateUnavailable` where that cannot be.
        """

        def change(transaction: Transaction) -> None:
            transaction.execute(_PUT, (fingerprint, number, pem, ends))

        return self._database.write(change)

    def forget(self, now: int) -> None:
        """Forget those of certificates that have expired; called from time to time.

        Args:
            now: the time, in seconds since 1970.
        """

        def change(transaction: Transaction) -> None:
            transaction.execute(_FORGET, (now, _AT_ONCE))

        self._database.write(change, soon=False)
