"""What is noted in the state of chains as they are issued and delivered."""

from __future__ import annotations

import datetime

from acmems.events import DeliveredEvent, Event
from acmems.issuing.requests import AcceptedRequest
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.storages import IssuerIdentity
from acmems.system.clock import Clock
from acmems.x509.chain import Chain

_NOBODY = "-"  # in the place of a client, or of a reference, where there is none


class DeliveryNotes:
    """Notes who gets which chain; it is subscribed to the bus.

    Args:
        records: where chains are noted.
        clock: for dates.
    """

    def __init__(self, records: ChainRecords, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def __call__(self, event: Event) -> None:
        """Count a chain that was sent."""
        if isinstance(event, DeliveredEvent) and event.fingerprint is not None:
            self._records.asked(event.fingerprint, event.client, self._clock.now())


class RecordedHistory:
    """Notes chains that are issued by one account: `acmems.issuing.contract.ChainHistory`.

    Args:
        records: where chains are noted.
        issuer: whose chains these are.
        clock: for dates.
    """

    def __init__(self, records: ChainRecords, issuer: IssuerIdentity, clock: Clock) -> None:
        self._records = records
        self._issuer = issuer
        self._clock = clock

    def issued(self, identity: str, accepted: AcceptedRequest, chain: Chain) -> None:
        """Note a chain, which is written with the next change: a storage that keeps it waits by itself."""
        self._records.add(self.record(identity, accepted, chain), soon=False)

    def record(self, identity: str, accepted: AcceptedRequest, chain: Chain) -> ChainRecord:
        """Return what is noted of a chain."""
        return ChainRecord.of(
            chain,
            identity=identity,
            directory=self._issuer.directory,
            profile=self._issuer.profile,
            issued=self._clock.now(),
            block=accepted.block,
            storage=accepted.storage.name,
            client=_known(accepted.client),
            reference=_known(accepted.reference),
            csr=accepted.request.pem,
        )

    def is_older(self, identity: str, moment: datetime.datetime) -> bool:
        """Tell whether the chain to deliver for an identity was issued before a time, or in its second."""
        newest = self._records.newest(identity)
        return newest is not None and newest.issued <= moment

    def is_revoked(self, chain: Chain) -> bool:
        """Tell whether a chain is revoked, or being revoked."""
        return self._records.is_revoked(chain.fingerprint)

    def is_compromised(self, key_digest: str) -> bool:
        """Tell whether a public key was reported as compromised."""
        return self._records.is_compromised(key_digest)


def _known(word: str) -> str | None:
    return None if word == _NOBODY else word
