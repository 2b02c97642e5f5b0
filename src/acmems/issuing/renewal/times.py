"""Whether chains are due: by the word of their CA where it has spoken, else by their lifetime."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Collection

from acmems.exceptions import StateUnavailable
from acmems.state.chains.renewals import RenewalRecords
from acmems.x509.chain import Chain

logger = logging.getLogger(__name__)

MOST_DUE = 200_000
"""Chains that are known to be due; of more, those that are the most overdue."""
MOST_POSTPONED = 10_000
"""Chains whose CA wants them later than their lifetime tells, in memory."""


class RenewalTimes:
    """Tells whether chains are fresh; for any thread.

    A chain that is delivered costs a look into a set: only what would be ordered is looked up in the state.

    Args:
        plans: when chains are to be renewed; None for their lifetime alone.
    """

    def __init__(self, plans: RenewalRecords | None = None) -> None:
        self._plans = plans
        self._due: Collection[str] = frozenset()  # fingerprints
        self._postponed: dict[str, datetime.datetime] = {}  # until when, by fingerprint

    def refresh(self, now: datetime.datetime) -> None:
        """See which chains have become due by the word of their CA; called from time to time.

        Args:
            now: the time (aware).

        Raises:
            StateUnavailable: it cannot be read.
        """
        if self._plans is not None:
            self._due = frozenset(self._plans.due(now, MOST_DUE))
            self._postponed = {}

    def is_overdue(self, fingerprint: str) -> bool:
        """Tell whether the CA wants a chain to be renewed, as far as this process knows, and without I/O."""
        return fingerprint in self._due

    def is_fresh(self, chain: Chain, within: datetime.timedelta | None, now: datetime.datetime) -> bool:
        """Tell whether a chain needs no renewal.

        Args:
            chain: the chain.
            within: how long before its end it is to be replaced where its CA says nothing, as
                `Storage.renew_within`.
            now: the time (aware).
        """
        if chain.fingerprint in self._due:
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
