"""nginx, as it stands in front of acmems' challenge listener."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tests.peers.process import Peer, program

CONFIGURATION = """
user root;  # where root runs it, who may have no other user to leave it to
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {sites}
}}
"""

FORWARDING = """
    server {{
        listen 127.0.0.1:{port};
        location /.well-known/acme-challenge {{
            proxy_set_header Host $http_host;
            proxy_pass http://127.0.0.1:{upstream};
        }}
    }}
"""


class Nginx(Peer):
    """A web server that forwards challenges.

    Args:
        port: where it listens.
        upstream: the port to forward challenges to, on loopback.
        sites: what stands in its `http` block instead, listening on `port` too.
        address: where it listens with these sites.
    """

    name = "nginx"

    def __init__(
        self, port: int, upstream: int = 0, sites: str | None = None, address: str = "127.0.0.1"
    ) -> None:
        super().__init__()
        self.address = address
        self.port = port
        self.sites = FORWARDING.format(port=port, upstream=upstream) if sites is None else sites

    def prepare(self) -> None:
        """Write configuration."""
        text = CONFIGURATION.format(folder=self.folder, sites=self.sites)
        (self.folder / "nginx.conf").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), "-e", "stderr", "-p", str(self.folder), "-c", "nginx.conf"]

    def ready(self) -> bool:
        """Tell whether it takes connections."""
        socket.create_connection((self.address, self.port), timeout=5).close()
        return True
