"""BIND, a name server that takes dynamic updates (RFC 2136)."""

from __future__ import annotations

from collections.abc import Sequence

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
from tests.peers.process import Peer, free_port, program

OPTIONS = """
options {{
    directory "{folder}";
    pid-file "{folder}/pid";
    session-keyfile "{folder}/session.key";
    lock-file none;
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    recursion no;
    dnssec-validation no;
    notify no;
}};
controls {{ }};
"""

ZONE = """
zone "{zone}" {{
    type primary;
    file "{folder}/{zone}.zone";
    allow-update {{ 127.0.0.1; }};
}};
"""

RECORDS = """
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
@ A 127.0.0.1
* A 127.0.0.1
"""


class Bind(Peer):
    """An authoritative name server whose zones anyone on this machine may update.

    Args:
        zones: the zones; every name in them has the address 127.0.0.1.

    Attributes:
        port: of its DNS, UDP and TCP.
        address: `host:port` of its DNS, for Pebble.
    """

    name = "named"

    def __init__(self, *zones: str) -> None:
        super().__init__()
        self.zones = zones or ("example.org",)

    def prepare(self) -> None:
        """Choose a port and write configuration and zones."""
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        text = OPTIONS.format(folder=self.folder, port=self.port)
        for zone in self.zones:
            text += ZONE.format(folder=self.folder, zone=zone)
            (self.folder / f"{zone}.zone").write_text(RECORDS, encoding="utf-8")
        (self.folder / "named.conf").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), "-g", "-n", "1", "-c", str(self.folder / "named.conf")]

    def ready(self) -> bool:
        """Tell whether it answers for its zones."""
        try:
            return all(self._query(zone, "SOA").answer for zone in self.zones)
        except dns.exception.DNSException:
            return False

    def texts(self, name: str) -> set[str]:
        """Return the TXT records of a name."""
        return {
            b"".join(record.strings).decode()
            for answer in self._query(name, "TXT").answer
            if answer.rdtype == dns.rdatatype.TXT
            for record in answer
        }

    def _query(self, name: str, kind: str) -> dns.message.Message:
        return dns.query.tcp(dns.message.make_query(name, kind), "127.0.0.1", timeout=5, port=self.port)
