"""Nonces that were used, and the secret that all servers with this state make and know nonces by."""

from __future__ import annotations

import secrets
from concurrent.futures import Future
from dataclasses import dataclass, field

from acmems.state.engines.contract import Database, Transaction

SECRET_OCTETS = 32
_SECRET = "nonces"  # noqa: S105 - what it is called

_USE = "INSERT INTO acme_nonces (nonce, expires, mark) VALUES (?, ?, ?) ON CONFLICT (nonce) DO NOTHING"
_MARK = "SELECT mark FROM acme_nonces WHERE nonce = ?"


@dataclass(frozen=True, slots=True)
class NonceUse:
    """The one use of a nonce, as a part of a transaction.

    Args:
        nonce: the nonce.
        expires: until when it has to be known that it was used, in seconds since 1970.
        mark: by it, a change that is done again knows its own row.
    """

    nonce: str
    expires: int
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def __call__(self, transaction: Transaction) -> bool:
        """Note it, and tell whether nobody had used the nonce."""
        if transaction.execute(_USE, (self.nonce, self.expires, self.mark)).rowcount:
            return True
        [found] = transaction.execute(_MARK, (self.nonce,)).fetchone()
        return bool(found == self.mark)


class NonceRecords:
    """Keeps which nonces were used, until they would not be taken any more; for any thread.

    Args:
        database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def is_shared(self) -> bool:
        """Whether other processes take nonces by the same state."""
        return self._database.is_shared

    def secret(self) -> bytes:
        """Return the secret; the first server with this state makes it.

        Raises:
            StateUnavailable: it cannot be read or written.
        """
        made = secrets.token_bytes(SECRET_OCTETS)

        def change(transaction: Transaction) -> bytes:
            transaction.execute(
                "INSERT INTO acme_secrets (name, secret) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
                (_SECRET, made),
            )
            [kept] = transaction.execute(
                "SELECT secret FROM acme_secrets WHERE name = ?", (_SECRET,)
            ).fetchone()
            return bytes(kept)

        return self._database.write(change).result()

    def used(self, now: int) -> list[tuple[str, int]]:
        """Return the nonces that were used and are still valid, and when each expires.

        Args:
            now: seconds since 1970.

        Raises:
            StateUnavailable: they cannot be read.
        """
        rows = self._database.read(
            lambda transaction: transaction.execute(
                "SELECT nonce, expires FROM acme_nonces WHERE expires > ?", (now,)
            ).fetchall()
        )
        return [(nonce, expires) for nonce, expires in rows]

    def use(self, use: NonceUse) -> Future[bool]:
        """Note that a nonce is used, unless it was.

        Returns:
            a future; it tells, once that is durable, whether nobody had used it; or has a
            `StateUnavailable`.
        """
        return self._database.write(use)

    def note(self, use: NonceUse, *, soon: bool) -> None:
        """Have it noted that a nonce is used, whoever has used it: with the next change that is made.

        A change that comes later is durable no sooner than this.

        Args:
            use: the nonce.
            soon: whether to begin at once.
        """
        self._database.write(use, soon=soon)

    def forget(self, now: int) -> None:
        """Forget those that are not valid any more; called from time to time.

        Args:
            now: seconds since 1970.
        """
        self._database.write(
            lambda transaction: transaction.execute("DELETE FROM acme_nonces WHERE expires <= ?", (now,)),
            soon=False,
        )
