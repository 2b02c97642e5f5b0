"""What exists in the zone: its own records, and the TXT records that are presented."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
from dns.rdatatype import RdataType

TTL = 0  # seconds: the next order shows other values at the same name, and no cache may hide them
NAMES_TTL = 3600  # of what does not change: the zone's name servers and their addresses


@dataclass(frozen=True, slots=True)
class NameServer:
    """A name server of the zone.

    Args:
        name: its name.
        addresses: its addresses, needed where its name lies in the zone.
    """

    name: dns.name.Name
    addresses: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.name.to_text(omit_final_dot=True), *map(str, self.addresses)])


@dataclass(slots=True)
class _PresentedRecords:
    """The TXT records of one name, and who wants to know when somebody asks for them."""

    values: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    rdataset: dns.rdataset.Rdataset | None = None


class TxtTable:
    """The TXT records that are presented in a zone, which outlive a `Zone` whose name servers change.

    Safe to use from several threads.

    Args:
        origin: the name of the zone.
        serial: the serial number to begin with; it grows with each change.
    """

    def __init__(self, origin: dns.name.Name, serial: int = 1) -> None:
        self.origin = origin
        self._lock = threading.Lock()  # guards what follows
        self._serial = serial
        self._presented: dict[dns.name.Name, _PresentedRecords] = {}
        self._inner: Counter[dns.name.Name] = Counter()  # names that only exist because of names below

    @property
    def serial(self) -> int:
        """The serial number of the zone."""
        return self._serial

    def add(self, name: dns.name.Name, value: str, on_request: Callable[[], None]) -> None:
        """Present a TXT record, beside others of its name.

        Args:
            name: its owner, in the zone.
            value: its text.
            on_request: called, from the thread that answers, each time the record is asked for.
        """
        with self._lock:
            presented = self._presented.get(name)
            if presented is None:
                presented = self._presented[name] = _PresentedRecords()
                self._inner.update(_between(name, self.origin))
            watchers = presented.values.setdefault(value, [])
            if on_request not in watchers:  # presented again, it is still withdrawn once
                watchers.append(on_request)
            self._changed(presented)

    def remove(self, name: dns.name.Name, value: str, on_request: Callable[[], None]) -> None:
        """Withdraw a TXT record, unless somebody else presents the same; another is left alone.

        Args:
            name: as it was added.
            value: as it was added.
            on_request: as it was added.
        """
        with self._lock:
            presented = self._presented.get(name)
            watchers = presented.values.get(value, []) if presented else []
            if presented is None or on_request not in watchers:
                return
            watchers.remove(on_request)
            if not watchers:
                del presented.values[value]
            if not presented.values:
                del self._presented[name]
                for inner in _between(name, self.origin):
                    self._inner[inner] -= 1
                    if not self._inner[inner]:
                        del self._inner[inner]
            self._changed(presented)

    def find(
        self, name: dns.name.Name
    ) -> tuple[dns.rdataset.Rdataset | None, tuple[Callable[[], None], ...]] | None:
        """Return the TXT records of a name, and who wants to know of it; None if there is no such name.

        Args:
            name: a name in the zone.
        """
        with self._lock:
            presented = self._presented.get(name)
            if presented is not None:
                watchers = tuple(watcher for all_of in presented.values.values() for watcher in all_of)
                return presented.rdataset, watchers
            return (None, ()) if name in self._inner else None

    def _changed(self, presented: _PresentedRecords) -> None:
        presented.rdataset = _rdataset("TXT", [f'"{value}"' for value in presented.values], TTL)
        self._serial = (self._serial + 1) % 2**32


class OtherTexts(Protocol):
    """Looks up TXT values that other servers of the zone present."""

    @property
    def is_active(self) -> bool:
        """Whether there may be other servers."""

    def find(self, name: dns.name.Name, found: Callable[[Sequence[str] | None], None]) -> bool:
        """Look up a name; return False where there is nothing to look up.

        Args:
            name: a name in the zone.
            found: called with the values, in another thread or at once; with None where they are not known.
        """


class Zone:
    """The zone. Safe to use from several threads.

    Args:
        origin: its name.
        nameservers: its name servers, the first one named in the SOA.
        serial: the serial number to begin with.
        table: the TXT records that are presented; none by default.
        others: looks up what other servers present; None: there are none.
    """

    def __init__(
        self,
        origin: dns.name.Name,
        nameservers: Sequence[NameServer],
        serial: int = 1,
        table: TxtTable | None = None,
        others: OtherTexts | None = None,
    ) -> None:
        self.origin = origin
        self.nameservers = tuple(nameservers)
        self.others = others
        self._table = table or TxtTable(origin, serial)
        self._inner: set[dns.name.Name] = set()  # names that only exist because of a name server below
        self._fixed: dict[dns.name.Name, dict[RdataType, dns.rdataset.Rdataset]] = {origin: {}}
        if nameservers:
            names = [f"{server.name.to_text()}" for server in nameservers]
            self._fixed[origin][dns.rdatatype.NS] = _rdataset("NS", names, NAMES_TTL)
        for server in nameservers:
            if server.addresses and server.name.is_subdomain(origin):
                self._fix(server)
        self._soa = self._make_soa(self._table.serial)

    def _fix(self, server: NameServer) -> None:
        records = self._fixed.setdefault(server.name, {})
        for kind, version in ((dns.rdatatype.A, 4), (dns.rdatatype.AAAA, 6)):
            texts = [str(address) for address in server.addresses if address.version == version]
            if texts:
                records[kind] = _rdataset(kind.name, texts, NAMES_TTL)
        self._inner.update(_between(server.name, self.origin))

    def add(self, name: dns.name.Name, value: str, on_request: Callable[[], None]) -> None:
        """Present a TXT record, as `TxtTable.add`."""
        self._table.add(name, value, on_request)

    def remove(self, name: dns.name.Name, value: str, on_request: Callable[[], None]) -> None:
        """Withdraw a TXT record, as `TxtTable.remove`."""
        self._table.remove(name, value, on_request)

    def find(
        self, name: dns.name.Name, elsewhere: Sequence[str] = ()
    ) -> tuple[Mapping[RdataType, dns.rdataset.Rdataset], tuple[Callable[[], None], ...]] | None:
        """Return the records of a name by type, and who wants to know of it; None if there is no such name.

        Args:
            name: a name in the zone.
            elsewhere: TXT values of the name that other servers present.
        """
        fixed = self._fixed.get(name, {})
        records = {dns.rdatatype.SOA: self.soa, **fixed} if name == self.origin else fixed
        presented = self._table.find(name)
        if presented is not None or elsewhere:
            texts, watchers = presented or (None, ())
            if elsewhere:
                texts = _united(texts, elsewhere)
            return ({**records, dns.rdatatype.TXT: texts} if texts is not None else records), watchers
        # Another server may present a record at a name below, so that none can be denied.
        if records or name in self._inner or (self.others is not None and self.others.is_active):
            return records, ()
        return None

    @property
    def soa(self) -> dns.rdataset.Rdataset:
        """The SOA record, whose minimum says how long to remember that there is nothing (RFC 2308)."""
        serial, soa = self._soa
        if serial != self._table.serial:
            serial, soa = self._soa = self._make_soa(self._table.serial)
        return soa

    def _make_soa(self, serial: int) -> tuple[int, dns.rdataset.Rdataset]:
        primary = self.nameservers[0].name if self.nameservers else self.origin
        text = f"{primary.to_text()} hostmaster.{self.origin.to_text()} {serial} 3600 600 86400 {TTL}"
        return serial, _rdataset("SOA", [text], TTL)


def _between(name: dns.name.Name, origin: dns.name.Name) -> list[dns.name.Name]:
    """Return the names between one and an origin above it."""
    found: list[dns.name.Name] = []
    if name == origin:  # a name server may be called as the zone is
        return found
    name = name.parent()
    while name != origin:
        found.append(name)
        name = name.parent()
    return found


def _united(own: dns.rdataset.Rdataset | None, values: Sequence[str]) -> dns.rdataset.Rdataset:
    """Return TXT records together with further values."""
    united = _rdataset("TXT", [f'"{value}"' for value in values], TTL)
    for record in own or ():
        united.add(record)
    return united


def _rdataset(kind: str, texts: Sequence[str], ttl: int) -> dns.rdataset.Rdataset:
    return dns.rdataset.from_text(dns.rdataclass.IN, kind, ttl, *texts)
