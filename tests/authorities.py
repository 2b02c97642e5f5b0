"""A small DNS of real name servers: a top-level domain, what it delegates, and what is wrong with some of it.

`Hierarchy` runs BIND for `org` and zones below it, Knot for others, at addresses that only tests know: what
asks a server is told its port here.
"""

from __future__ import annotations

import contextlib
import socket
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Self

import dns.message
import dns.name
from dns.rdatatype import RdataType
from tests.peers import Bind, Key, Knot
from tests.peers.dns import KNOT

from acmems.dns.client.question import ask
from acmems.dns.client.resolver import Resolver, ResolverSilent
from acmems.net.address import Address

BIND, KNOT_ADDRESS, DEAD, REFUSED = "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"
HEAD = "$TTL {ttl}\n@ SOA ns hostmaster 1 3600 600 86400 {ttl}\n@ NS ns\n"

ORG = """
ns A 192.0.2.1
$ORIGIN org.
example NS ns.example
ns.example A 192.0.2.1
knot NS ns.knot
ns.knot A 192.0.2.2
broken NS ns.broken
ns.broken A 192.0.2.2
lame NS ns.lame
ns.lame A 192.0.2.1
half NS a.ns.half
half NS b.ns.half
a.ns.half A 192.0.2.3
b.ns.half A 192.0.2.2
dead NS ns.dead
ns.dead A 192.0.2.3
far NS ns.provider.test.
"""
EXAMPLE = """
ns A 192.0.2.1
@ CAA 0 issue "ca.example"
www A 192.0.2.80
v6 AAAA 2001:db8::80
text TXT "no address"
closed CAA 0 issue ";"
host.closed A 192.0.2.80
alias CNAME cdn.knot.org.
nowhere CNAME missing.knot.org.
circle CNAME circle
*.wild A 192.0.2.80
*.wild CAA 0 issue "wild.example"
free CAA 0 iodef "mailto:caa@example.org"
*.dn TXT "x"
tree DNAME deep.knot.org.
"""
KNOT_ZONE = """
ns A 192.0.2.2
cdn A 192.0.2.81
cdn CAA 0 issue "cdn.example"
www.deep A 192.0.2.82
www.deep CAA 128 tbs "unknown"
"""


class ZoneBind(Bind):
    """BIND with zone files as they are given.

    Args:
        contents: the zones, and what stands in them after SOA and NS.
        ttl: of all records.
    """

    def __init__(self, contents: Mapping[str, str], ttl: int = 60) -> None:
        super().__init__(*contents)
        self.contents, self.ttl = contents, ttl

    def prepare(self) -> None:
        """Write the zones."""
        super().prepare()
        for zone, text in self.contents.items():
            file = self.folder / f"{zone}.zone"
            file.write_text(HEAD.format(ttl=self.ttl) + text, encoding="utf-8")


class ZoneKnot(Knot):
    """Knot with one zone as it is given, and others whose files are missing, so that they are SERVFAIL."""

    def __init__(self, zone: str, text: str, *missing: str) -> None:
        super().__init__(zone, key=Key())
        self.text, self.missing = text, missing

    def prepare(self) -> None:
        """Write the zone."""
        super().prepare()
        (self.folder / f"{self.zones[0]}.zone").write_text(HEAD.format(ttl=60) + self.text, encoding="utf-8")
        text = KNOT.format(folder=self.folder, port=self.port, key=self.key)
        for zone in (*self.zones, *self.missing):
            text += textwrap.indent(f"- domain: {zone}\n  file: {self.folder}/{zone}.zone\n", "  ")
        (self.folder / "knot.conf").write_text(text, encoding="utf-8")


class TopResolver(Resolver):
    """Knows the name servers of org, and the address of one that no delegation tells.

    Attributes:
        asked: what it was asked for.
        is_silent: whether it does not answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.is_silent = False

    def nameservers(self, zone: dns.name.Name) -> tuple[dns.name.Name, ...]:
        """Return those of org."""
        self._hear(zone)
        return (dns.name.from_text("ns.org"),) if self.asked[-1] == "org" else ()

    def addresses(self, host: dns.name.Name) -> tuple[str, ...]:
        """Return where BIND is, and for a provider's server where Knot is."""
        self._hear(host)
        return {"ns.org": (BIND,), "ns.provider.test": ("2001:db8::2", KNOT_ADDRESS)}.get(self.asked[-1], ())

    def _hear(self, name: dns.name.Name) -> None:
        self.asked.append(name.to_text(omit_final_dot=True))
        if self.is_silent:
            raise ResolverSilent("no answer in time")


class Hierarchy:
    """The servers, running between `__enter__` and `__exit__`.

    Attributes:
        asked: how often each address was asked.
        resolver: what knows the top.
    """

    def __init__(self) -> None:
        zones = {"org": ORG, "example.org": EXAMPLE, "inner.example.org": "ns A 192.0.2.1\n"}
        self.bind = ZoneBind(zones)
        self.knot = ZoneKnot("knot.org", KNOT_ZONE, "broken.org", "half.org")
        self.asked: Counter[str] = Counter()
        self.resolver = TopResolver()
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.bind)
            stack.enter_context(self.knot)
            self._hole = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            self._hole.bind(("127.0.0.1", 0))
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def forget(self) -> None:
        """Begin anew with counting, and with a resolver that answers."""
        self.asked.clear()
        self.resolver = TopResolver()

    def ask(
        self, server: Address, name: dns.name.Name, kind: RdataType, seconds: float
    ) -> dns.message.Message:
        """Ask the server that is meant; the dead one is a socket that nobody reads from."""
        self.asked[server.host] += 1
        if server.host in (DEAD, "2001:db8::2"):
            return ask(Address("127.0.0.1", self._hole.getsockname()[1]), name, kind, min(seconds, 0.05))
        port = {BIND: self.bind.port, KNOT_ADDRESS: self.knot.port}[server.host]
        return ask(Address("127.0.0.1", port), name, kind, 30.0)
