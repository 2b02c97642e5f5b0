"""Handshakes that prove names to a CA by tls-alpn-01 (RFC 8737): what is presented, and to whom."""

from __future__ import annotations

from acmems.net.tlsalpn.certificate import server_name
from acmems.net.tlsalpn.connection import HANDSHAKE_LIMITS, HandshakeService
from acmems.net.tlsalpn.presented import ChallengeCertificates, OtherProofs

__all__ = ["HANDSHAKE_LIMITS", "ChallengeCertificates", "HandshakeService", "OtherProofs", "server_name"]
