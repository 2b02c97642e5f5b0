"""Where records go that programs and providers change: along the CNAMEs of their names."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dns.name

from acmems.dns.client.cnames import follow, plain, refusal
from acmems.dns.client.delegations import Delegations
from acmems.exceptions import ValidatorUnavailable
from acmems.text import one_line

logger = logging.getLogger(__name__)

_SIDE_BY_SIDE = 16  # names that are looked up at the same time

Record = tuple[dns.name.Name, str]
"""The name that the CA asks for, and a value."""


@dataclass(frozen=True, slots=True)
class AliasEnd:
    """Where CNAMEs lead from a name in the end.

    Args:
        name: the name there.
        zone: the zone that it is in; None: nobody was asked, or nobody tells.
    """

    name: dns.name.Name
    zone: dns.name.Name | None = None


class Aliases:
    """Finds where records belong, and remembers it until they are withdrawn.

    Name servers are asked, and a resolver for a name only if there is no place for its record unless it is
    a CNAME. Where nobody tells, a record belongs at its own name: not every site lets acmems ask.

    Args:
        delegations: tells where CNAMEs lead.
        zones: those that may be changed; empty: not known.
        follow: whether CNAMEs are followed at all.
        strict: whether a CNAME must not lead out of the zone of its record, where `zones` are not known.
    """

    def __init__(
        self,
        delegations: Delegations,
        zones: Sequence[dns.name.Name] = (),
        *,
        follow: bool = True,
        strict: bool = False,
    ) -> None:
        self.delegations = delegations
        self.zones = tuple(zones)
        self.follow = follow
        self.strict = strict
        # Where each record was put; None: nowhere, because no place was found. The lock guards it.
        self._ends: dict[Record, AliasEnd | None] = {}
        self._lock = threading.Lock()

    def take(self, records: Sequence[Record]) -> dict[Record, AliasEnd]:
        """Find where records belong that are about to be added.

        Raises:
            ValidatorUnavailable: one of them must not go there.
        """
        with self._lock:
            for record in records:
                self._ends.setdefault(record, None)
        found = self._look_up(records)
        with self._lock:
            self._ends.update(found)
        return found

    def restore(self, ends: Mapping[Record, AliasEnd]) -> None:
        """Remember where another process has put records."""
        with self._lock:
            self._ends.update(ends)

    def known(self, records: Sequence[Record]) -> dict[Record, AliasEnd]:
        """Return where records belong that are about to be added; those not taken yet are taken.

        Raises:
            ValidatorUnavailable: one of them must not go there.
        """
        with self._lock:
            ends = {record: end for record in records if (end := self._ends.get(record)) is not None}
        return {**ends, **self.take([record for record in records if record not in ends])}

    def recall(self, records: Iterable[Record]) -> dict[Record, AliasEnd]:
        """Return where records were put, by this process or another; without those that never were.

        Raises:
            ValidatorUnavailable: one that another process may have put there must not go there.
        """
        known: dict[Record, AliasEnd] = {}
        unknown = []
        with self._lock:
            for record in records:
                if record not in self._ends:
                    unknown.append(record)
                elif (end := self._ends[record]) is not None:
                    known[record] = end
        return {**known, **self._look_up(unknown)}

    def forget(self, records: Iterable[Record]) -> None:
        """Remember records no more that are withdrawn."""
        with self._lock:
            for record in records:
                self._ends.pop(record, None)

    def places(self, records: Iterable[Record]) -> Mapping[dns.name.Name, dns.name.Name]:
        """Return where records were put, by their names, as far as name servers have told it."""
        with self._lock:
            return {
                name: end.name
                for name, value in records
                if (end := self._ends.get((name, value))) is not None and end.zone is not None
            }

    def _look_up(self, records: Iterable[Record]) -> dict[Record, AliasEnd]:
        records = tuple(records)
        names = tuple(dict.fromkeys(name for name, _ in records))
        if not self.follow:
            for name in names:
                self._check(name, name, None)
            return {record: AliasEnd(record[0]) for record in records}
        unknown: dict[dns.name.Name, str] = {}

        def end(name: dns.name.Name) -> AliasEnd:
            return self._end(name, unknown)

        ends = dict(zip(names, _side_by_side(end, names), strict=True))
        for name, reason in tuple(unknown.items())[:1]:
            logger.warning(
                "whether the name of the TXT record %s%s is a CNAME is not known, so it is added there: "
                "%s; see `resolver` and `nameserver`, or set `follow-cnames = no`",
                plain(name),
                f" (and of {len(unknown) - 1} more)" if len(unknown) > 1 else "",
                reason,
            )
        return {record: ends[record[0]] for record in records}

    def _end(self, record: dns.name.Name, unknown: dict[dns.name.Name, str]) -> AliasEnd:
        def look(name: dns.name.Name) -> tuple[dns.name.Name | None, dns.name.Name | None]:
            try:
                return self._next(name)
            except ValidatorUnavailable as error:
                unknown[name] = one_line(error)
                return None, None

        name, zone = follow(record, look)
        self._check(record, name, zone)
        return AliasEnd(name, zone)

    def _next(self, name: dns.name.Name) -> tuple[dns.name.Name | None, dns.name.Name | None]:
        """Return where the CNAME of a name leads, or else the zone of the name, as far as it is known."""
        is_ours = not self.zones or self._is_allowed(name)
        try:
            found = self.delegations.find(name)
        except ValidatorUnavailable:
            if is_ours:
                raise
            # Without a CNAME there is no place for the record: a resolver that keeps that does no harm.
            return self.delegations.target(name, last_resort=True), None
        if found.target is None:
            return None, found.zone
        # A wildcard's CNAME is not meant for challenges, and is gone as soon as the record has been added.
        if is_ours and self.delegations.is_by_wildcard(name):
            return None, self.delegations.zone_above(name)
        return found.target, None

    def _check(self, record: dns.name.Name, name: dns.name.Name, zone: dns.name.Name | None) -> None:
        """Raise ValidatorUnavailable where a record must not be put."""
        if self.zones:
            if not self._is_allowed(name):
                where = "it is" if name == record else f"its CNAME leads to {plain(name)},"
                raise refusal(
                    record,
                    f"{where} in none of the zones that may be changed",
                    "add the zone as `zone`, or grant no such names",
                )
        elif self.strict and name != record and (zone is None or zone != self.delegations.zone_above(record)):
            where = "in a zone" if zone is None else f"in the zone {plain(zone)}"
            raise refusal(
                record,
                f"its CNAME leads to {plain(name)}, {where} that is not its own",
                "if the zone of that name may be changed, add it as `zone`, and all others that may",
            )

    def _is_allowed(self, name: dns.name.Name) -> bool:
        return any(name.is_subdomain(zone) for zone in self.zones)


def _side_by_side(
    end: Callable[[dns.name.Name], AliasEnd], names: Sequence[dns.name.Name]
) -> Iterable[AliasEnd]:
    if len(names) < 2:  # noqa: PLR2004 - one needs no thread
        return map(end, names)
    with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(names)), thread_name_prefix="acmems-aliases") as pool:
        return list(pool.map(end, names))
