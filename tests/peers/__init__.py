"""The real programs that acmems is tested against, each started on loopback and free ports.

Every peer is a context manager and starts when entered:

- `Pebble`: a CA (RFC 8555), and `ChallTestSrv`: the DNS that it asks
- `Bind` and `Knot`: name servers that take dynamic updates, with a TSIG `Key` or without
- `Nginx`: a web server that forwards challenges
- `Postgres`: a database server, and `PgBouncer`: a pooler of connections to it
- `Prometheus`: a monitoring system
- `Acmems`: this project's own server, as a process of its own
- `tests.peers.acme_clients`: ACME clients of others
- `tests.peers.disk`: a disk that fails under any of them
- `make_key_and_csr`, `curl_sign`, `verify_chain` ...: openssl and curl, as a client machine has them
"""

from __future__ import annotations

from tests.peers.ca import CALM, ChallTestSrv, Pebble
from tests.peers.client import (
    Reply,
    curl,
    curl_sign,
    hmac_header,
    make_key_and_csr,
    names_of,
    run,
    verify_chain,
)
from tests.peers.dns import Bind, Key, Knot, Resolver
from tests.peers.monitoring import Prometheus
from tests.peers.postgresql import PgBouncer, Postgres
from tests.peers.process import Peer, PeerFailed, environment, free_port, program, wait_until
from tests.peers.server import Acmems, Settings, run_acmems
from tests.peers.web import Nginx

__all__ = [
    "CALM",
    "Acmems",
    "Bind",
    "ChallTestSrv",
    "Key",
    "Knot",
    "Nginx",
    "Pebble",
    "Peer",
    "PeerFailed",
    "PgBouncer",
    "Postgres",
    "Prometheus",
    "Reply",
    "Resolver",
    "Settings",
    "curl",
    "curl_sign",
    "environment",
    "free_port",
    "hmac_header",
    "make_key_and_csr",
    "names_of",
    "program",
    "run",
    "run_acmems",
    "verify_chain",
    "wait_until",
]
