"""Whether chains are due: by the word of their CA where it has spoken, else by their lifetime."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from acmems.exceptions import StateUnavailable
from acmems.state.chains.renewals import RenewalRecords
from acmems.storages import Storage
from acmems.x509.chain import Chain

logger = logging.getLogger(__name__)

MOST_DUE = 200_000
"""Chains that are known to be due, or will be within a day; of more, those that are due first."""
MOST_POSTPONED = 10_000
"""Chains whose CA wants them later than their lifetime tells, in memory."""

LONGEST_REST = datetime.timedelta(days=1)
"""No client is told to ask later than after this: a CA may move its windows, and chains are revoked."""
AHEAD_REST = datetime.timedelta(minutes=10)
"""After a renewal is due for so long, a chain that is renewed ahead is usually there."""


@dataclass(frozen=True, slots=True)
class RenewalOutlook:
    """What a client may know of the renewal of its chain.

    Args:
        due: when it is due, as far as that is known now (aware).
        useful: before that, it is useless to ask for another chain (aware).
    """

    due: datetime.datetime
    useful: datetime.datetime


class RenewalTimes:
    """Tells whether chains are fresh; for any thread.

    A chain that is delivered costs a look into a set: only what would be ordered is looked up in the state.

    Args:
        plans: when chains are to be renewed; None for their lifetime alone.
    """

    def __init__(self, plans: RenewalRecords | None = None) -> None:
        self._plans = plans
        self._due: Mapping[str, datetime.datetime] = {}  # when, by fingerprint, of the next day and before
        self._postponed: dict[str, datetime.datetime] = {}  # until when, by fingerprint

    def refresh(self, now: datetime.datetime) -> None:
        """See which chains are due by the word of their CA, or will be soon; called from time to time.

        Args:
            now: the time (aware).

        Raises:
            StateUnavailable: it cannot be read.
        """
        if self._plans is not None:
            self._due = dict(self._plans.due(now + LONGEST_REST, MOST_DUE))
            self._postponed = {}

    def is_overdue(self, fingerprint: str, now: datetime.datetime) -> bool:
        """Tell whether the CA wants a chain to be renewed, as far as this process knows, and without I/O.

        Args:
            fingerprint: the chain's.
            now: the time (aware).
        """
        due = self._due.get(fingerprint)
        return due is not None and due <= now

    def outlook(self, chain: Chain, storage: Storage, now: datetime.datetime) -> RenewalOutlook:
        """Return when a chain that is delivered is to be renewed, without I/O.

        What the CA wants for a time that is more than a day away is not in memory, and matters to nobody yet.

        Args:
            chain: the chain.
            storage: where it is kept.
            now: the time (aware).
        """
        due = self._due.get(chain.fingerprint) or self._postponed.get(chain.fingerprint)
        due = due or chain.renewal_time(storage.renew_within)
        there = due + AHEAD_REST if storage.renews_ahead else due
        return RenewalOutlook(due, min(there, now + LONGEST_REST))

    def is_fresh(self, chain: Chain, within: datetime.timedelta | None, now: datetime.datetime) -> bool:
        """Tell whether a chain needs no renewal.

        Args:
            chain: the chain.
            within: how long before its end it is to be replaced where its CA says nothing, as
                `Storage.renew_within`.
            now: the time (aware).
        """
        if self.is_overdue(chain.fingerprint, now):
            return False
        return chain.is_fresh(now, within) or self._is_postponed(chain, now)

    def _is_postponed(self, chain: Chain, now: datetime.datetime) -> bool:
        """Tell whether the CA wants a chain to be renewed later than its lifetime tells."""
        if self._plans is None or not chain.is_valid(now):
            return False
        until = self._postponed.get(chain.fingerprint)
        if until is None:
            try:
                plan = self._plans.of(chain.fingerprint)
            except StateUnavailable as error:
                logger.debug("when %s is to be renewed is not known: %s", chain.fingerprint, error)
                return False
            until = now if plan is None or plan.starts is None else plan.due
            if len(self._postponed) < MOST_POSTPONED:
                self._postponed[chain.fingerprint] = until
        return now < until
