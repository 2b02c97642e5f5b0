"""A chain that was issued, as a row of the state and as a value."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from acmems.state.engines.contract import Value
from acmems.x509.chain import Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRecord:
    """A chain that was issued, and what is known of it; all times are aware.

    Args:
        fingerprint: SHA-256 of the leaf, in hex.
        identity: what makes two requests the same, as a digest.
        directory: the URL of the CA's directory.
        profile: the ACME profile of its order, None for the CA's default.
        names: the names in the leaf.
        block: the auth block that granted it, None where that is not known.
        storage: the storage that it is delivered from.
        client: who asked for it, None where that is not known.
        reference: names that request in the log.
        serial: the leaf's serial number, in hex.
        key_digest: SHA-256 of the leaf's public key, in hex.
        csr: the certificate request as the client sent it, None where that is not known.
        pem: the chain.
        order_url: the order at the CA, None where that is not known.
        not_before: when the leaf becomes valid.
        not_after: the last moment at which it is.
        issued: when it was.
        superseded: when a newer one for the same identity came, None while this is the newest.
        revoked: when the CA has revoked it.
        reason: why it is revoked, or being revoked; None for a chain that may be delivered.
        last_asked: when a client got it last.
        asked_by: that client.
        asked: how often clients got it.
        alternates: the URLs of further chains for it at the CA.
    """

    fingerprint: str
    identity: str
    directory: str
    profile: str | None = None
    names: tuple[str, ...]
    block: str | None = None
    storage: str | None = None
    client: str | None = None
    reference: str | None = None
    serial: str
    key_digest: str
    csr: bytes | None = field(default=None, repr=False)
    pem: bytes = field(repr=False)
    order_url: str | None = None
    not_before: datetime.datetime
    not_after: datetime.datetime
    issued: datetime.datetime
    superseded: datetime.datetime | None = None
    revoked: datetime.datetime | None = None
    reason: str | None = None
    last_asked: datetime.datetime | None = None
    asked_by: str | None = None
    asked: int = 0
    alternates: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        chain: Chain,
        *,
        identity: str,
        directory: str,
        profile: str | None,
        issued: datetime.datetime,
        block: str | None = None,
        storage: str | None = None,
        client: str | None = None,
        reference: str | None = None,
        csr: bytes | None = None,
    ) -> Self:
        """Return what is to be kept of a chain."""
        return cls(
            fingerprint=chain.fingerprint,
            identity=identity,
            directory=directory,
            profile=profile,
            names=tuple(identifier.value for identifier in chain.identifiers),
            block=block,
            storage=storage,
            client=client,
            reference=reference,
            serial=f"{chain.serial:x}",
            key_digest=hashlib.sha256(chain.spki).hexdigest(),
            csr=csr,
            pem=chain.pem,
            not_before=chain.not_before,
            not_after=chain.not_after,
            issued=issued,
            alternates=chain.alternates,
        )

    @property
    def is_current(self) -> bool:
        """Whether it may be delivered: it is the newest one, and neither revoked nor being revoked."""
        return self.superseded is None and self.reason is None

    @property
    def names_digest(self) -> str:
        """What its names are found by."""
        return digest_of_names(self.names)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Return the record that a row holds, whose columns are `COLUMNS`."""
        # One by one: there are very many rows, and to look for each column by its name costs more.
        (
            fingerprint,
            identity,
            directory,
            profile,
            names,
            block,
            storage,
            client,
            reference,
            serial,
            key_digest,
            csr,
            pem,
            order_url,
            not_before,
            not_after,
            issued,
            superseded,
            revoked,
            reason,
            last_asked,
            asked_by,
            asked,
            alternates,
        ) = row
        return cls(
            fingerprint=fingerprint,
            identity=identity,
            directory=directory,
            profile=profile,
            names=tuple(names.split("\n")),
            block=block,
            storage=storage,
            client=client,
            reference=reference,
            serial=serial,
            key_digest=key_digest,
            csr=csr,
            pem=pem,
            order_url=order_url,
            not_before=_time(not_before),
            not_after=_time(not_after),
            issued=_time(issued),
            superseded=None if superseded is None else _time(superseded),
            revoked=None if revoked is None else _time(revoked),
            reason=reason,
            last_asked=None if last_asked is None else _time(last_asked),
            asked_by=asked_by,
            asked=asked,
            alternates=tuple(alternates.split()) if alternates else (),
        )

    @property
    def row(self) -> tuple[Value, ...]:
        """The values of `COLUMNS`, in their order."""
        return (
            self.fingerprint,
            self.identity,
            self.directory,
            self.profile,
            "\n".join(self.names),
            self.block,
            self.storage,
            self.client,
            self.reference,
            self.serial,
            self.key_digest,
            self.csr,
            self.pem,
            self.order_url,
            seconds(self.not_before),
            seconds(self.not_after),
            seconds(self.issued),
            None if self.superseded is None else seconds(self.superseded),
            None if self.revoked is None else seconds(self.revoked),
            self.reason,
            None if self.last_asked is None else seconds(self.last_asked),
            self.asked_by,
            self.asked,
            " ".join(self.alternates) or None,
        )


COLUMNS = tuple(each.name for each in dataclasses.fields(ChainRecord))


def digest_of_names(names: Iterable[str]) -> str:
    """Return what a set of names is found by, however long it is and whatever its order."""
    return hashlib.sha256("\n".join(sorted(set(names))).encode()).hexdigest()


def seconds(at: datetime.datetime) -> int:
    """Return a time as the state keeps it."""
    return int(at.timestamp())


def _time(seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
