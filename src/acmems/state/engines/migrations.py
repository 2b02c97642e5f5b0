"""The tables of the state, as the steps from one revision to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an engine spells what engines spell differently.

    Args:
        octets: the type of a column that holds octets.
    """

    octets: str


_OPEN_ORDERS = """
    CREATE TABLE orders (
        identity TEXT PRIMARY KEY,  -- SHA-256 of what makes two requests the same
        csr {octets} NOT NULL,      -- as the client sent it
        block TEXT,                 -- the auth block that granted it
        begun BIGINT NOT NULL,      -- seconds since 1970, as all times
        account TEXT,               -- the URL of the account
        url TEXT,                   -- NULL until the CA has answered the new order
        expires BIGINT              -- when the CA forgets it
    )
"""

_NODES = """
    CREATE TABLE nodes (            -- processes that work with this state
        node TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        process BIGINT NOT NULL,
        started BIGINT NOT NULL,
        expires BIGINT NOT NULL     -- until then it is taken for alive, by the database's clock
    );
    CREATE TABLE leases (           -- who works at what
        name TEXT PRIMARY KEY,
        node TEXT NOT NULL,
        epoch BIGINT NOT NULL       -- grows with each holder
    );
    ALTER TABLE orders ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0; -- of the lease of who wrote it
    CREATE TABLE probes (           -- written to see whether that works
        id BIGINT PRIMARY KEY,
        at BIGINT NOT NULL
    )
"""

_CHAINS = """
    CREATE TABLE chains (           -- every chain that was issued
        fingerprint TEXT PRIMARY KEY, -- SHA-256 of the leaf
        identity TEXT NOT NULL,     -- as in orders
        directory TEXT NOT NULL,    -- the CA's
        profile TEXT,
        names TEXT NOT NULL,        -- one a line
        block TEXT,
        storage TEXT,
        client TEXT,                -- who asked for it
        reference TEXT,             -- of that request in the log
        serial TEXT NOT NULL,       -- hexadecimal
        key_digest TEXT NOT NULL,   -- SHA-256 of the public key
        order_url TEXT,
        not_before BIGINT NOT NULL,
        not_after BIGINT NOT NULL,
        issued BIGINT NOT NULL,
        superseded BIGINT,          -- when a newer one for the same identity came
        revoked BIGINT,
        reason TEXT,                -- of the revocation
        last_asked BIGINT,
        asked_by TEXT,
        asked BIGINT NOT NULL DEFAULT 0, -- how often
        csr {octets},               -- long, and therefore last: what is looked through lies together
        pem {octets} NOT NULL
    );
    CREATE INDEX chains_identity ON chains (identity, not_after);
    CREATE INDEX chains_serial ON chains (serial);
    CREATE INDEX chains_key ON chains (key_digest);
    CREATE INDEX chains_end ON chains (not_after, fingerprint);
    CREATE INDEX chains_current ON chains (storage, fingerprint) WHERE superseded IS NULL AND reason IS NULL;
    CREATE INDEX chains_revoked ON chains (not_after, fingerprint) WHERE reason IS NOT NULL
"""

_EVENTS = """
    CREATE TABLE events (
        id TEXT PRIMARY KEY,        -- grows with the time
        at BIGINT NOT NULL,
        word TEXT NOT NULL,
        client TEXT NOT NULL,
        block TEXT,
        names TEXT NOT NULL,        -- one a line
        account TEXT,
        reference TEXT,
        status BIGINT,              -- HTTP
        outcome TEXT,
        reason TEXT,
        count BIGINT NOT NULL,      -- how many like it are one row
        node TEXT
    );
    CREATE INDEX events_at ON events (at)
"""

_PROOFS = """
    CREATE TABLE proofs (           -- what is presented to a CA
        id TEXT PRIMARY KEY,
        verification TEXT NOT NULL,
        type TEXT NOT NULL,         -- of the challenge
        name TEXT NOT NULL,
        token TEXT NOT NULL,
        key_authorization TEXT NOT NULL,
        account_url TEXT NOT NULL,
        is_wildcard BIGINT NOT NULL,
        issuers TEXT NOT NULL,      -- one a line
        place TEXT NOT NULL,        -- where it is found, as its validator spells it
        stage TEXT NOT NULL,        -- answered (by the nodes), placed (in DNS), leaving (being withdrawn)
        node TEXT NOT NULL,         -- who presents or withdraws it; '' where that has failed
        presented BIGINT NOT NULL
    );
    CREATE INDEX proofs_place ON proofs (place)
"""

_PAUSES = """
    CREATE TABLE pauses (           -- what is not tried again for now
        subject TEXT PRIMARY KEY,
        error TEXT NOT NULL,        -- as a JSON document
        failures BIGINT NOT NULL,
        until BIGINT NOT NULL
    )
"""

_ACCOUNTS = """
    CREATE TABLE accounts (
        directory TEXT NOT NULL,    -- the CA's
        name TEXT NOT NULL,         -- of its section; empty for the one without a name
        registration TEXT,          -- as registration.json; NULL until the CA has registered it
        key {octets} NOT NULL,      -- PEM
        thumbprint TEXT NOT NULL,   -- of the key (RFC 7638)
        former TEXT NOT NULL DEFAULT '', -- the thumbprints of keys that it has had, one a line
        PRIMARY KEY (directory, name)
    )
"""

_BUCKETS = """
    CREATE TABLE buckets (          -- how far the limits of CAs are used
        name TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        limited TEXT NOT NULL,      -- the name of the limit
        subject TEXT NOT NULL,      -- what is counted; empty for the account
        instant BIGINT NOT NULL,    -- when it will be empty, in milliseconds since 1970
        used_by TEXT                -- the auth block that took the last place
    )
"""

_RENEWALS = """
    CREATE TABLE renewals (         -- of the chains that are current
        fingerprint TEXT PRIMARY KEY,
        directory TEXT NOT NULL,    -- the CA's
        certificate TEXT,           -- what the CA calls it, NULL where it has no name for it
        ends_at BIGINT NOT NULL,    -- when the chain expires
        due BIGINT NOT NULL,
        starts BIGINT,              -- the CA's window, NULL where it has told none
        ends BIGINT,
        explanation TEXT,
        next_question BIGINT NOT NULL, -- when to ask the CA about it again
        next_try BIGINT NOT NULL,   -- due, or later after a failure
        failures BIGINT NOT NULL DEFAULT 0,
        reason TEXT,                -- why the last try has failed
        told BIGINT                 -- when it was told last that it is overdue
    );
    CREATE INDEX renewals_question ON renewals (next_question);
    CREATE INDEX renewals_try ON renewals (next_try);
    CREATE INDEX renewals_due ON renewals (due) WHERE starts IS NOT NULL;
    ALTER TABLE chains ADD COLUMN is_planned BIGINT NOT NULL DEFAULT 0;
    CREATE INDEX chains_unplanned ON chains (fingerprint) WHERE is_planned = 0;
    ALTER TABLE chains ADD COLUMN names_digest TEXT; -- SHA-256 of the sorted names
    CREATE INDEX chains_names ON chains (names_digest, directory, issued)
"""

_LEARNT_LIMITS = """
    CREATE TABLE learnt_limits (    -- what CAs have told of their limits where they refused an order
        account TEXT NOT NULL,      -- as in buckets
        counts TEXT NOT NULL,       -- what it counts
        count BIGINT NOT NULL,      -- how many there may be
        period BIGINT NOT NULL,     -- in so many milliseconds
        exempts BIGINT NOT NULL,    -- 1 if renewals do not count
        learnt BIGINT NOT NULL,     -- when the CA said so first
        confirmed BIGINT NOT NULL,  -- and when last
        words TEXT NOT NULL,        -- the CA's
        PRIMARY KEY (account, counts)
    );
    ALTER TABLE buckets ADD COLUMN client TEXT -- that took the last place
"""

_REQUESTS = """
    CREATE TABLE requests (         -- whose clients fetch the answer later
        id TEXT PRIMARY KEY,        -- random, in its URL
        identity TEXT NOT NULL,     -- as in orders
        block TEXT NOT NULL,
        client TEXT NOT NULL,       -- whose share of all requests it takes
        csr {octets} NOT NULL,
        begun BIGINT NOT NULL,
        expires BIGINT NOT NULL,    -- when it is forgotten
        fingerprint TEXT,           -- of the chain that was the answer
        status BIGINT,              -- HTTP, where the answer is an error
        reason TEXT,                -- of the error
        retry_at BIGINT
    );
    CREATE UNIQUE INDEX requests_identity ON requests (identity, block);
    CREATE INDEX requests_client ON requests (client);
    CREATE INDEX requests_end ON requests (expires);
    CREATE INDEX requests_begun ON requests (begun)
"""

_NOTICES = """
    CREATE TABLE causes (           -- what has been told, and is not over
        cause TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        began BIGINT NOT NULL,
        seen BIGINT NOT NULL,       -- when it was last seen to be so
        told BIGINT NOT NULL,
        times BIGINT NOT NULL,      -- how often it was told
        stage BIGINT NOT NULL,      -- how bad it was then
        number BIGINT NOT NULL,     -- of what it is about, then
        severity TEXT NOT NULL,     -- the worst that was told
        directory TEXT NOT NULL,    -- the CA's; empty where it is about none
        reason TEXT NOT NULL
    );
    CREATE TABLE notices (          -- which are not delivered yet
        target TEXT NOT NULL,       -- the section that says where to
        cause TEXT NOT NULL,        -- of several for one cause only the last is kept
        id TEXT NOT NULL,           -- the same for all targets, and at each try
        notice TEXT NOT NULL,       -- as a JSON document
        made BIGINT NOT NULL,
        tries BIGINT NOT NULL DEFAULT 0,
        next_try BIGINT NOT NULL,
        reason TEXT,                -- why the last try has failed
        PRIMARY KEY (target, cause)
    );
    CREATE INDEX notices_try ON notices (next_try);
    CREATE TABLE sightings (        -- what orders have told of CAs and accounts, until one tells otherwise
        subject TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        directory TEXT NOT NULL,
        began BIGINT NOT NULL,
        seen BIGINT NOT NULL,
        reason TEXT NOT NULL
    );
    CREATE TABLE summaries (        -- when each target got its last summary
        target TEXT PRIMARY KEY,
        made BIGINT NOT NULL
    );
    ALTER TABLE renewals ADD COLUMN fault TEXT; -- the class of the error that the last try has met
    CREATE INDEX renewals_failing ON renewals (fingerprint) WHERE failures > 0
"""

_ACME_CLIENTS = """
    CREATE TABLE acme_secrets (     -- what all servers with this state must have in common
        name TEXT PRIMARY KEY,
        secret {octets} NOT NULL
    );
    CREATE TABLE acme_nonces (      -- that were used
        nonce TEXT PRIMARY KEY,
        expires BIGINT NOT NULL,    -- from then on it is not taken any more
        mark TEXT NOT NULL          -- of the request that has used it
    );
    CREATE INDEX acme_nonces_end ON acme_nonces (expires);
    CREATE TABLE acme_accounts (    -- of the clients of the ACME front end
        id TEXT PRIMARY KEY,        -- random, in its URL
        key TEXT NOT NULL,          -- public, as JSON
        thumbprint TEXT NOT NULL,   -- of that key (RFC 7638)
        status TEXT NOT NULL,
        contacts TEXT NOT NULL,     -- URLs, one a line
        external_account TEXT,      -- the kid of the block that it is bound to
        agreed BIGINT NOT NULL,     -- 1 if the client has agreed to terms of service
        created BIGINT NOT NULL,
        client TEXT NOT NULL        -- who asked for it
    );
    CREATE TABLE acme_keys (        -- that accounts have, or had when they were ended
        thumbprint TEXT PRIMARY KEY,
        account TEXT NOT NULL
    );
    CREATE TABLE acme_bindings (    -- of external accounts that may be bound to one account only
        kid TEXT PRIMARY KEY,
        account TEXT NOT NULL
    );
    CREATE INDEX acme_bindings_account ON acme_bindings (account)
"""

_CLIENT_ORDERS = """
    CREATE TABLE acme_orders (      -- of ACME clients
        id TEXT PRIMARY KEY,        -- random, in its URLs
        account TEXT NOT NULL,      -- the id of the client's account
        status TEXT NOT NULL,
        created BIGINT NOT NULL,
        expires BIGINT NOT NULL,    -- until when it may be finalized; of an ended one, when it is forgotten
        block TEXT NOT NULL,        -- the auth block that grants its names
        client TEXT NOT NULL,
        profile TEXT,
        replaces TEXT,              -- what the certificate is called that it replaces
        finalized BIGINT,
        certificate TEXT,           -- the fingerprint of its chain
        error TEXT,                 -- as a problem document
        names TEXT NOT NULL,        -- as the client sent them, in JSON
        authorizations TEXT NOT NULL, -- with their challenges, in JSON
        changes BIGINT NOT NULL DEFAULT 0,
        csr {octets}
    );
    CREATE INDEX acme_orders_account ON acme_orders (account, id);
    CREATE INDEX acme_orders_waiting ON acme_orders (account, created, id)
        WHERE status IN ('pending', 'ready', 'invalid');
    CREATE INDEX acme_orders_end ON acme_orders (expires);
    CREATE INDEX acme_orders_replaces ON acme_orders (replaces) WHERE replaces IS NOT NULL;
    CREATE TABLE acme_certificates ( -- which account has got which certificate
        fingerprint TEXT NOT NULL,
        account TEXT NOT NULL,
        name TEXT NOT NULL,         -- what it is called where it is renewed; empty for nothing
        ends BIGINT NOT NULL,
        replaced_by TEXT,           -- the id of an order
        PRIMARY KEY (fingerprint, account)
    );
    CREATE INDEX acme_certificates_name ON acme_certificates (name);
    CREATE INDEX acme_certificates_end ON acme_certificates (ends)
"""

_ALTERNATES = """
    ALTER TABLE chains ADD COLUMN alternates TEXT; -- where the CA has further chains, with blanks between
    CREATE TABLE alternates (       -- further chains of certificates that the CA was asked for
        fingerprint TEXT NOT NULL,
        number BIGINT NOT NULL,     -- the place of its URL, from 1
        pem {octets} NOT NULL,
        ends BIGINT NOT NULL,       -- when the certificate expires
        PRIMARY KEY (fingerprint, number)
    );
    CREATE INDEX alternates_end ON alternates (ends)
"""

# Of an identity with a history, only what is newest is looked for each time.
_NEWEST_CHAINS = "CREATE INDEX chains_newest ON chains (identity) WHERE superseded IS NULL"

MIGRATIONS = (
    _OPEN_ORDERS,
    f"{_NODES};{_CHAINS};{_EVENTS};{_PROOFS};{_PAUSES};{_ACCOUNTS}",
    f"{_BUCKETS};{_RENEWALS}",
    _LEARNT_LIMITS,
    _REQUESTS,
    _NOTICES,
    _ACME_CLIENTS,
    _CLIENT_ORDERS,
    _ALTERNATES,
    _NEWEST_CHAINS,
)
"""One for each revision, in order; what users have run is never changed, only added to."""

TABLES = tuple(re.findall(r"CREATE TABLE (\w+)", " ".join(MIGRATIONS)))
"""The tables that these make."""
PROBES = "probes"
"""The one of them that holds nothing."""


def steps(found: int, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yield what brings a database from a revision to the last one: each revision and its statements."""
    for revision, migration in enumerate(MIGRATIONS[found:], found + 1):
        lines = (line.partition("--")[0] for line in migration.splitlines())
        statements = " ".join(lines).format(octets=dialect.octets).split(";")
        yield revision, [" ".join(each.split()) for each in statements]


def migrated(place: str, found: int) -> str:
    """Say for the log that a database of a revision has been brought to the last one."""
    if found == 0:
        return f"the state {place} has been made (revision {len(MIGRATIONS)})"
    return f"the state {place} has been brought from revision {found} to {len(MIGRATIONS)}"


def newer(place: str, found: int) -> str:
    """Return what to do with a state that a newer version of acmems has written."""
    return (
        f"{place} was written by a newer version of acmems (revision {found}, this one knows "
        f"{len(MIGRATIONS)}): install that version, or set 'url' in [state] to another state"
    )
