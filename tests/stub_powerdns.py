"""The part of PowerDNS's HTTP API that changes records, in memory: whole sets are replaced, as there."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "the stub's key"


class StubPowerDns:
    """A context manager: an API on loopback.

    Args:
        zones: the zones that it has.

    Attributes:
        hang: while set, nothing is answered.
        status: what everything is answered with, 0 for what is due.
    """

    def __init__(self, *zones: str) -> None:
        self.sets: dict[str, dict[str, dict[str, Any]]] = {zone: {} for zone in zones}
        self.hang = threading.Event()
        self.status = 0
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def put(self, zone: str, name: str, text: str) -> None:
        """Add a TXT record as someone else would."""
        self.replace(
            zone,
            {
                "name": f"{name}.",
                "type": "TXT",
                "ttl": 60,
                "records": [{"content": f'"{text}"', "disabled": False}],
            },
        )

    def replace(self, zone: str, rrset: dict[str, Any]) -> None:
        """Replace all records of a name."""
        self.sets[zone][rrset["name"]] = {key: rrset[key] for key in ("name", "type", "ttl", "records")}

    def texts(self, name: str) -> set[str]:
        """Return the TXT records of a name, of all zones."""
        found = [
            rrset for zone in self.sets.values() for rrset in zone.values() if rrset["name"] == f"{name}."
        ]
        return {record["content"].strip('"') for rrset in found for record in rrset["records"]}

    def names(self, zone: str) -> set[str]:
        """Return the names in a zone that have records."""
        return {name.rstrip(".") for name, rrset in self.sets[zone].items() if rrset["records"]}

    def respond(self, method: str, path: str, key: str | None, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return status and document that a request is answered with."""
        zone = path.rpartition("/")[2].rstrip(".")
        if self.status:
            return self.status, {}
        if key != KEY:
            return 401, {"error": f"no such key: {key}"}
        if zone not in self.sets or not path.startswith("/api/v1/servers/localhost/zones/"):
            return 404, {}
        if method == "PATCH":
            for rrset in json.loads(body)["rrsets"]:
                self.replace(zone, rrset)
            return 200, {}
        return 200, {"kind": "Native", "rrsets": list(self.sets[zone].values())}


def _handler(stub: StubPowerDns) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if stub.hang.is_set():
                stub.closing.wait(30)
                return
            status, document = stub.respond(self.command, self.path, self.headers.get("X-API-Key"), body)
            answer = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PATCH = do_GET  # noqa: N815 - http.server calls it so

        def log_message(self, *_: object) -> None:
            pass

    return Handler
