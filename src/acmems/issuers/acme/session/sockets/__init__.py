"""Sockets to a CA: connecting to one of its addresses, and steps on what is connected."""

from __future__ import annotations

from acmems.issuers.acme.session.sockets.race import Addresses, Lane, Place, Race
from acmems.issuers.acme.session.sockets.streams import (
    addresses_of,
    handshake,
    has_bytes,
    is_silent,
    pending,
    receive,
    send,
    tls_context,
)

__all__ = [
    "Addresses",
    "Lane",
    "Place",
    "Race",
    "addresses_of",
    "handshake",
    "has_bytes",
    "is_silent",
    "pending",
    "receive",
    "send",
    "tls_context",
]
