"""dns-01 by dynamic update: the proof is a TXT record (RFC 8555 section 8.4, RFC 2136)."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.update

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.challenges.dns_options import label_option, longest_wait, propagation_from, tsig_key_from
from acmems.challenges.txt import TxtRecord, place_text, possible_records, read_place, record_of
from acmems.dns.client.delegations import Delegations
from acmems.dns.client.propagation import Propagation
from acmems.dns.client.resolver import Resolver
from acmems.dns.client.servers import ServerFailed, Servers
from acmems.dns.client.tsig import TsigKey, dns_name
from acmems.dns.client.zones import Place, Zones
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address, parse_address
from acmems.settings.options import Options
from acmems.settings.values import positive_int, seconds
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.permissions import NamedFile
from acmems.x509.identifiers import Identifier, IdentifierType

T = TypeVar("T")

_DEFAULT_SERVER = Address("127.0.0.1", 53)
_AT_ONCE = 200  # records in one message, which holds 65535 octets: names may have 255
_SIDE_BY_SIDE = 16  # names that are looked up, or zones that are changed, at the same time
_PATIENCE = 2.0  # seconds that a resolver or another's name server may take for an answer
_ADVICE = {
    dns.rcode.REFUSED: "let this machine, or the key `tsig-name`, change TXT records there "
    "(BIND: `update-policy` or `allow-update`; Knot: an `acl` with `action: update`)",
    dns.rcode.NOTAUTH: "it is no primary of that zone, or its key is another: "
    "correct `dns-server`, `zone` or `tsig-name`",
    dns.rcode.NOTZONE: "the name is not in that zone: correct `zone`",
    dns.rcode.NOTIMP: "it takes no updates: correct `dns-server`",
}


class DnsUpdate:
    """Proves names by TXT records that it adds at a DNS server.

    Values are added beside others of the same name, never in their place: `example.org` and
    `*.example.org` are proved under one name.

    Args:
        servers: DNS servers that take updates; the first that does is enough.
        ttl: of the records, in seconds.
        timeout: how long the answer to each question, and to each update, may take, in seconds.
        key: signs the updates; None: nothing does.
        zones: the zones that may be changed; empty: those of the records themselves.
        challenge_type: `dns-01` or `dns-account-01`.
    """

    sees_requests = False
    leaves_traces = True
    is_immediate = False
    shows_one_at_a_time = False

    def __init__(
        self,
        name: str,
        servers: Sequence[Address] = (_DEFAULT_SERVER,),
        ttl: int = 60,
        timeout: float = 5.0,
        *,
        key: TsigKey | None = None,
        zones: Sequence[dns.name.Name] = (),
        challenge_type: str = "dns-01",
        propagation: Propagation | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.servers = Servers(servers, key, clock=clock)
        self.ttl = ttl
        self.timeout = timeout
        self.challenge_type = challenge_type
        self.propagation = propagation or Propagation(clock=clock)
        patience = min(timeout, _PATIENCE)
        resolver = Resolver(self.propagation.resolvers, patience)
        self.zones = Zones(
            self.servers,
            zones,
            Delegations(resolver, patience, nameservers=self.propagation.nameservers, clock=clock),
        )
        self._clock = clock
        # Where each record was put; None: nowhere, because no place was found. The lock guards it.
        self._places: dict[TxtRecord, Place | None] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:  # noqa: ARG003 - the contract
        """Make the validator that a section describes."""
        servers = options.many(
            "dns-server",
            functools.partial(parse_address, default_port=_DEFAULT_SERVER.port),
            (_DEFAULT_SERVER,),
            meaning="DNS server that accepts updates (the primary of the zones), `host` or `host:port`; "
            "several are tried in turn",
        )
        ttl = options.one("ttl", positive_int, 60, meaning="time to live of the records, in seconds")
        timeout = options.one(
            "timeout",
            seconds,
            5.0,
            meaning="seconds that the answer to each query or update may take",
        )
        key = tsig_key_from(options)
        zones = options.many(
            "zone",
            dns_name,
            meaning="zone that may be changed, also as the target of CNAMEs; of several, the longest match "
            "counts; default: the zone of the record according to the server",
        )
        return cls(
            name,
            servers or (_DEFAULT_SERVER,),
            ttl,
            timeout,
            key=key,
            zones=zones,
            challenge_type=label_option(options),
            propagation=propagation_from(options),
        )

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether it is a DNS name, wildcard or not."""
        return identifier.type is IdentifierType.DNS

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the key file."""
        if self.servers.key is not None:
            try:
                self.servers.key.load()
            except ValidatorUnavailable as error:
                yield "tsig-key-file", error.advice or str(error)

    def named_files(self) -> Iterable[NamedFile]:
        """Name the key file."""
        if self.servers.key is not None and self.servers.key.file is not None:
            yield NamedFile("tsig-key-file", self.servers.key.file, is_secret=True)

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Find where the records belong."""
        records = {proof: record_of(proof, self.challenge_type) for proof in proofs}
        places = self._take(list(dict.fromkeys(records.values())))
        return {
            proof: place_text(places[record].name, places[record].zone) for proof, record in records.items()
        }

    def recall(self, places: Mapping[Proof, str]) -> None:
        """Take over where records were added."""
        for record, proof in possible_records(places, self.challenge_type):
            name, zone = read_place(places[proof]) or (None, None)
            if name is not None and zone is not None:
                with self._lock:
                    self._places[record] = Place(zone, name)

    def forget(self, proofs: Sequence[Proof]) -> None:
        """Remember no more where records are."""
        with self._lock:
            for record, _ in possible_records(proofs, self.challenge_type):
                self._places.pop(record, None)

    def present(self, proofs: Sequence[Proof]) -> None:
        """Add the TXT records, those of one zone in one message."""
        records = list(dict.fromkeys(record_of(proof, self.challenge_type) for proof in proofs))
        with self._lock:
            places = {record: place for record in records if (place := self._places.get(record)) is not None}
        places.update(self._take([record for record in records if record not in places]))
        self._update(places, add=True)

    def _take(self, records: Sequence[TxtRecord]) -> dict[TxtRecord, Place]:
        with self._lock:
            for record in records:
                self._places.setdefault(record, None)
        places = self._look_up(records)
        with self._lock:
            self._places.update(places)
        return places

    @property
    def longest_wait(self) -> float:
        """Seconds that the records may take to be seen."""
        return longest_wait(self.propagation)

    def wait(self, proofs: Sequence[Proof], deadline: Deadline, stopping: threading.Event) -> None:
        """Return when the records are seen, as `propagation` says."""
        records = dict.fromkeys(record_of(proof, self.challenge_type) for proof in proofs)
        with self._lock:
            places = {
                record.name: place.name
                for record in records
                if (place := self._places.get(record)) is not None
            }
        self.propagation.wait([(record.name, record.value) for record in records], deadline, stopping, places)

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Delete exactly these TXT records; other values of their names stay (RFC 2136 section 2.5.4)."""
        known: dict[TxtRecord, Place] = {}
        unknown: list[TxtRecord] = []
        for record, _ in possible_records(proofs, self.challenge_type):
            with self._lock:
                if record not in self._places:
                    unknown.append(record)
                elif (place := self._places[record]) is not None:
                    known[record] = place
        known.update(self._look_up(list(dict.fromkeys(unknown))))
        self._update(known, add=False)
        self.forget(proofs)

    def _look_up(self, records: Sequence[TxtRecord]) -> dict[TxtRecord, Place]:
        names = list(dict.fromkeys(record.name for record in records))
        found = dict(zip(names, _each(lambda name: self.zones.place(name, self.timeout), names), strict=True))
        return {record: found[record.name] for record in records}

    def _update(self, places: dict[TxtRecord, Place], *, add: bool) -> None:
        by_zone: dict[dns.name.Name, list[TxtRecord]] = {}
        for record, place in places.items():
            by_zone.setdefault(place.zone, []).append(record)

        def change(zone: dns.name.Name) -> ValidatorUnavailable | None:
            failed = None
            records = by_zone[zone]
            for start in range(0, len(records), _AT_ONCE):
                try:
                    self._send(zone, records[start : start + _AT_ONCE], places, add=add)
                except ValidatorUnavailable as error:
                    failed = failed or error  # what other messages are about can be changed all the same
            return failed

        for failed in _each(change, list(by_zone)):
            if failed is not None:
                raise failed

    def _send(
        self,
        zone: dns.name.Name,
        records: Sequence[TxtRecord],
        places: dict[TxtRecord, Place],
        *,
        add: bool,
    ) -> None:
        message = dns.update.UpdateMessage(zone)
        for record in records:
            if add:
                message.add(places[record].name, self.ttl, dns.rdatatype.TXT, record.value)
            else:
                message.delete(places[record].name, dns.rdatatype.TXT, record.value)
        verb = "add" if add else "delete"

        def judge(server: Address, answer: dns.message.Message) -> None:
            code = answer.rcode()
            if code != dns.rcode.NOERROR:
                raise ServerFailed(
                    server,
                    f"refused to {verb} it: {dns.rcode.to_text(code)}",
                    advice=_ADVICE.get(code, "look at the log of that server"),
                )

        first, more = records[0], len({record.name for record in records}) - 1
        about = f"{first} (and {more} more)" if more else str(first)
        self.servers.ask(message, about, self._clock.deadline(self.timeout), judge)

    def __repr__(self) -> str:
        return f"DnsUpdate({self.name!r}, {', '.join(map(str, self.servers.addresses))})"


def _each(do: Callable[[dns.name.Name], T], names: Sequence[dns.name.Name]) -> list[T]:
    """Do something for each name or zone, side by side.

    The first comes alone: it finds out which server answers, and costs what a dead one costs.
    """
    found = [do(name) for name in names[:1]]
    if rest := names[1:]:
        pool = ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(rest)), thread_name_prefix="acmems-zones")
        try:
            found.extend(pool.map(do, rest))
        finally:
            pool.shutdown(cancel_futures=True)
    return found
