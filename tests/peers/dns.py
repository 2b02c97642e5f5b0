"""Name servers that take dynamic updates (RFC 2136): BIND and Knot."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
import dns.update
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
    notify {notify};
    also-notify {{ {also_notify} }};
    allow-transfer {{ 127.0.0.1; }};
    notify-delay 0;
    serial-query-rate 1000;
    tcp-clients 2000;
    tcp-listen-queue 1000;
}};
controls {{ }};
"""

KEY = """
key "{name}" {{
    algorithm {algorithm};
    secret "{secret}";
}};
"""

PRIMARY = """
zone "{zone}" {{
    type primary;
    file "{folder}/{zone}.zone";
    {policy}
}};
"""

SECONDARY = """
zone "{zone}" {{
    type secondary;
    file "{folder}/{zone}.zone";
    primaries {{ 127.0.0.1 port {primary}; }};
    allow-update-forwarding {{ {forwards}; }};
}};
"""

ANYONE = "allow-update { 127.0.0.1; };"
KEY_FOR_TEXTS = 'update-policy {{ grant "{name}" zonesub TXT; }};'

RECORDS = """
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
@ A 127.0.0.1
* A 127.0.0.1
"""


@dataclass(frozen=True)
class Key:
    """A TSIG key.

    Args:
        name: its name.
        secret: its secret, in base64.
        algorithm: its algorithm.
    """

    name: str = "acmems"
    secret: str = base64.b64encode(b"known to everyone who reads tests").decode()
    algorithm: str = "hmac-sha256"

    def file(self) -> str:
        """Return it as a key file of BIND."""
        return KEY.format_map(vars(self))


PATIENCE = 30.0  # seconds for an answer


class NameServer(Peer):
    """What BIND and Knot have in common.

    Attributes:
        port: of its DNS, UDP and TCP.
        address: `host:port` of its DNS, for Pebble.
    """

    zones: Sequence[str] = ()

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

    def serial(self, zone: str) -> int:
        """Return the serial number of a zone: it grows with each update."""
        (answer,) = self._query(zone, "SOA").answer
        return int(answer[0].serial)

    def _query(self, name: str, kind: str) -> dns.message.Message:
        return dns.query.tcp(
            dns.message.make_query(name, kind), "127.0.0.1", timeout=PATIENCE, port=self.port
        )

    def _take_port(self) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"


class Bind(NameServer):
    """An authoritative name server whose zones anyone on this machine may update, or a key alone.

    Args:
        zones: the zones; every name in them has the address 127.0.0.1.
        key: who has it, and nobody else, may change TXT records.
        records: further lines for every zone file.
        primary: the port of the server that the zones are transferred from, as a secondary does.
        forwards: whether a secondary forwards updates to its primary.
        notified: ports of servers that are told of every change.
    """

    name = "named"

    def __init__(
        self,
        *zones: str,
        key: Key | None = None,
        records: str = "",
        primary: int | None = None,
        notified: Sequence[int] = (),
        forwards: bool = False,
    ) -> None:
        super().__init__()
        self.zones = zones or ("example.org",)
        self.key = key
        self.records = records
        self.primary = primary
        self.notified = notified
        self.forwards = forwards

    def prepare(self) -> None:
        """Choose a port and write configuration and zones."""
        self._take_port()
        text = OPTIONS.format(
            folder=self.folder,
            port=self.port,
            notify="explicit" if self.notified else "no",
            also_notify="".join(f"127.0.0.1 port {port}; " for port in self.notified),
        )
        text += self.key.file() if self.key else ""
        for zone in self.zones:
            if self.primary is not None:
                text += SECONDARY.format(
                    folder=self.folder,
                    zone=zone,
                    primary=self.primary,
                    forwards="any" if self.forwards else "none",
                )
                continue
            policy = KEY_FOR_TEXTS.format(name=self.key.name) if self.key else ANYONE
            text += PRIMARY.format(folder=self.folder, zone=zone, policy=policy)
            (self.folder / f"{zone}.zone").write_text(RECORDS + self.records, encoding="utf-8")
        (self.folder / "named.conf").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), "-g", "-n", "1", "-c", str(self.folder / "named.conf")]


KNOT = """
server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {folder}/db
log:
  - target: stderr
    any: info
key:
  - id: {key.name}.
    algorithm: {key.algorithm}
    secret: {key.secret}
acl:
  - id: challenges
    key: {key.name}.
    action: update
    update-type: TXT
zone:
"""


class Resolver(Bind):
    """A resolver that has the site's zone, example.org, and asks acmems for a delegated one.

    Args:
        port: where acmems answers.
        cnames: lines of the zone file of example.org.
        zone: the delegated zone.
    """

    def __init__(self, port: int, *cnames: str, zone: str = "acme.example.net") -> None:
        super().__init__("example.org", records="\n".join(cnames))
        self.delegated = port
        self.zone = zone

    def add(self, name: str, target: str) -> None:
        """Add a CNAME."""
        update = dns.update.UpdateMessage("example.org")
        update.add(f"{name}.", 60, "CNAME", target)
        dns.query.tcp(update, "127.0.0.1", timeout=30, port=self.port)

    def prepare(self) -> None:
        """Forward queries for the delegated zone."""
        super().prepare()
        file = self.folder / "named.conf"
        text = file.read_text(encoding="utf-8").replace("recursion no", "recursion yes")
        text += (
            f'\nzone "{self.zone}" {{ type forward; forward only; '
            f"forwarders {{ 127.0.0.1 port {self.delegated}; }}; }};\n"
        )
        file.write_text(text, encoding="utf-8")


class Knot(NameServer):
    """An authoritative name server whose zones may be updated with a TSIG key.

    Args:
        zones: the zones; every name in them has the address 127.0.0.1.
        key: who has it may change TXT records.
    """

    name = "knotd"

    def __init__(self, *zones: str, key: Key) -> None:
        super().__init__()
        self.zones = zones or ("example.org",)
        self.key = key

    def prepare(self) -> None:
        """Choose a port and write configuration and zones."""
        self._take_port()
        (self.folder / "db").mkdir(exist_ok=True)
        text = KNOT.format(folder=self.folder, port=self.port, key=self.key)
        for zone in self.zones:
            (self.folder / f"{zone}.zone").write_text(RECORDS, encoding="utf-8")
            text += textwrap.indent(
                f"- domain: {zone}\n  file: {self.folder}/{zone}.zone\n  acl: challenges\n", "  "
            )
        (self.folder / "knot.conf").write_text(text, encoding="utf-8")

    def command(self) -> Sequence[str]:
        """Return the command line to run."""
        return [program(self.name), "-c", str(self.folder / "knot.conf")]
