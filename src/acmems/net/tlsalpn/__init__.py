"""What answers the CA over TLS for tls-alpn-01 (RFC 8737): certificates, the handshake, a listener."""

from __future__ import annotations

from acmems.net.tlsalpn.certificate import server_name
from acmems.net.tlsalpn.service import TlsAlpnService
from acmems.net.tlsalpn.shown import ChallengeCertificates

__all__ = ["ChallengeCertificates", "TlsAlpnService", "server_name"]
