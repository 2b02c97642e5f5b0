"""What was issued before for the same: what a new order replaces, and whether it is a renewal for the CA."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from acmems.issuers.acme.certificates.renewal_info import serial_of
from acmems.issuing.renewal.due import Window
from acmems.issuing.renewal.plan import certificate_of
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

LATELY = datetime.timedelta(days=120)
"""For how long after a certificate another one for the same names is a renewal, as Let's Encrypt sees it."""


@dataclass(frozen=True, slots=True)
class PriorIssue:
    """What was issued before.

    Args:
        is_known: whether there was a certificate for exactly these names lately.
        certificate: what the CA calls the chain that is to be replaced (RFC 9773 section 4.1), None for none.
        is_wanted: whether the CA wants that to be replaced now.
        is_current: whether there is one for exactly these names that is valid, however old.
    """

    is_known: bool = False
    certificate: str | None = None
    is_wanted: bool = False
    is_current: bool = False


class PriorChains:
    """Tells what was issued by one CA before.

    Args:
        chains: what was issued.
        plans: when that is to be renewed.
        directory: the URL of the CA's directory.
        clock: for dates.
    """

    def __init__(self, chains: ChainRecords, plans: RenewalRecords, directory: str, clock: Clock) -> None:
        self._chains = chains
        self._plans = plans
        self._directory = directory
        self._clock = clock

    @property
    def is_local(self) -> bool:
        """Whether `of` takes no longer than reading a file: it waits for no other process."""
        return not self._chains.is_shared

    def of(self, identity: str, identifiers: Sequence[Identifier], replaces: str | None = None) -> PriorIssue:
        """Return what was issued before an order; it blocks.

        Args:
            identity: what makes two requests the same.
            identifiers: what is to be ordered; none: it does not matter whether that is known.
            replaces: what the CA calls the certificate that is replaced; None: the newest of the identity.

        Raises:
            StateUnavailable: it cannot be read.
        """
        now = self._clock.now()
        names = [each.value for each in identifiers]
        is_known = bool(names) and self._chains.have_names(names, self._directory, now - LATELY)
        is_current = is_known or (bool(names) and self._chains.have_valid(names, self._directory, now))
        newest = self._chains.newest(identity) if replaces is None else self._named(replaces)
        if newest is None or newest.directory != self._directory or newest.not_after <= now:
            return PriorIssue(is_known, is_current=is_current)
        window = self._plans.window(newest.fingerprint)
        is_wanted = window is not None and Window(*window).has(now)
        return PriorIssue(is_known, certificate_of(newest), is_wanted, is_current)

    def _named(self, certificate: str) -> ChainRecord | None:
        serial = serial_of(certificate)
        found = [] if serial is None else self._chains.with_serial(serial)
        return next((each for each in found if certificate_of(each) == certificate), None)
