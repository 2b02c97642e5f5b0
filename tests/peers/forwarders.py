"""Programs that have port 443 and pass TLS on undecrypted, as they stand in front of acmems' tls-alpn01."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.peers.process import FETCHED, Peer, PeerFailed, program

_STREAM = "usr/lib/nginx/modules/ngx_stream_module.so"
_NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 256; }}
{text}
"""
_HAPROXY = """
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
{text}
"""


class Forwarder(Peer):
    """A program that listens on loopback.

    Args:
        port: where it listens.
        text: what its documentation says, beside what every configuration of it has.
    """

    def __init__(self, port: int, text: str) -> None:
        super().__init__()
        self.port = port
        self.text = text

    def ready(self) -> bool:
        """Tell whether it takes connections."""
        socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        return True


class NginxStream(Forwarder):
    """nginx with a `stream` block."""

    name = "nginx"

    def prepare(self) -> None:
        """Write configuration."""
        found = [path for path in (FETCHED / _STREAM, Path("/") / _STREAM) if path.exists()]
        if not found:
            raise PeerFailed("nginx has no module stream: run scripts/peers")
        text = _NGINX.format(module=found[0], folder=self.folder, text=self.text)
        (self.folder / "nginx.conf").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), "-e", "stderr", "-p", str(self.folder), "-c", "nginx.conf"]


class HAProxy(Forwarder):
    """HAProxy with some frontends and backends."""

    name = "haproxy"

    def prepare(self) -> None:
        """Write configuration."""
        (self.folder / "haproxy.cfg").write_text(_HAPROXY.format(text=self.text), encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), "-db", "-f", "haproxy.cfg"]
