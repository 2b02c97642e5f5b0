"""ACME clients of others, each behind one small contract: registers, orders, renews, revokes.

A server that wants proofs gets TXT records, by `Directory.prover`, or what the client itself shows where it
is `Listening`. Without either it gets none, which Pebble believes with `PEBBLE_VA_ALWAYS_VALID`.
"""

from __future__ import annotations

from tests.peers.acme_clients.acme_sh import AcmeSh
from tests.peers.acme_clients.acme_tiny import AcmeTiny
from tests.peers.acme_clients.caddy import Caddy
from tests.peers.acme_clients.certbot import Certbot
from tests.peers.acme_clients.contract import Ability, Directory, ExternalAccount, ForeignClient, Listening
from tests.peers.acme_clients.dehydrated import Dehydrated
from tests.peers.acme_clients.haproxy import HAProxy
from tests.peers.acme_clients.lego import Lego
from tests.peers.acme_clients.python_acme import PythonAcme
from tests.peers.acme_clients.uacme import Uacme
from tests.peers.acme_clients.x_crypto import XCrypto

CLIENTS: tuple[type[ForeignClient], ...] = (
    AcmeSh,
    AcmeTiny,
    Caddy,
    Certbot,
    Dehydrated,
    HAProxy,
    Lego,
    PythonAcme,
    Uacme,
    XCrypto,
)
"""Every client that there is."""

__all__ = ["CLIENTS", "Ability", "Directory", "ExternalAccount", "ForeignClient", "Listening"]
