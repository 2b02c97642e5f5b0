"""What answers the CA over TLS for tls-alpn-01 (RFC 8737): certificates, the handshake, a listener."""

from __future__ import annotations

from acmems.tlsalpn.certificate import server_name
from acmems.tlsalpn.service import TlsAlpnService
from acmems.tlsalpn.shown import Shown

__all__ = ["Shown", "TlsAlpnService", "server_name"]
