"""The tables of the state, as the steps from one revision to the next."""

from __future__ import annotations

MIGRATIONS = (
    """
    CREATE TABLE orders (
        identity TEXT PRIMARY KEY,  -- SHA-256 of what makes two requests the same
        csr BLOB NOT NULL,          -- as the client sent it
        block TEXT,                 -- the auth block that granted it
        begun INTEGER NOT NULL,     -- seconds since 1970, as all times
        account TEXT,               -- SHA-256 of the account's public key
        url TEXT,                   -- NULL until the CA has answered the new order
        expires INTEGER             -- when the CA forgets it
    ) WITHOUT ROWID
    """,
)
"""One for each revision, in order; what users have run is never changed, only added to."""
