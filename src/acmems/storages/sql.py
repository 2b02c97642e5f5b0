"""A storage in the state, beside all else that is known of chains."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from typing import Self

from acmems.exceptions import StorageUnavailable
from acmems.settings.options import Options
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.storages import renewal
from acmems.storages.contract import IssuerIdentity, digest_of
from acmems.x509 import chain as chains
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

logger = logging.getLogger(__name__)


class SqlStorage:
    """Keeps chains in the state; its methods do what `acmems.storages.Storage` says.

    Args:
        name: its name in the configuration.
        renew_within: how long before its end a chain is to be replaced, None for the share of its lifetime.
        renews_ahead: whether chains that are due are renewed before their clients ask.
        now: the time (aware).
    """

    is_immediate = False
    is_durable = True

    def __init__(
        self,
        name: str,
        renew_within: datetime.timedelta | None = None,
        *,
        renews_ahead: bool = True,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        self.name = name
        self.renew_within = renew_within
        self.renews_ahead = renews_ahead
        self._now = now
        self._attached: ChainRecords | None = None

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make one from its section of the configuration; whoever serves attaches it to the state."""
        is_ahead = renewal.renews_ahead(options, default=True)
        return cls(name, renewal.renew_within(options), renews_ahead=is_ahead)

    def attach(self, records: ChainRecords) -> None:
        """Keep chains there from now on.

        Args:
            records: the chains of the state, which is open.
        """
        self._attached = records

    @property
    def is_local(self) -> bool:
        """Whether nobody else may have to be waited for: a state of this process alone."""
        return not self._records.is_shared

    def self_check(self) -> tuple[()]:
        """Find nothing wrong: what it names is the state, which is looked at by itself."""
        return ()

    def check(self) -> None:
        """Write a little to the state."""
        self._records.check().result()

    def find(self, request: CertificateRequest, issuer: IssuerIdentity) -> Chain | None:
        """Look for the newest chain, which is often in memory."""
        chain = self._records.current(digest_of(request, issuer), self.name)
        if chain is None or chains.matches(chain, request):
            return chain
        logger.warning(
            "the chain %s in the state is for another key or other names; it is not used", chain.fingerprint
        )
        return None

    def store(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        """Keep a chain."""
        self.store_all([(request, chain)], issuer)

    def store_all(self, entries: Sequence[tuple[CertificateRequest, Chain]], issuer: IssuerIdentity) -> None:
        """Keep all of them, most often in one transaction; it may be that of others, too."""
        written = [self._records.add(self._record(*entry, issuer)) for entry in entries]
        wait(written)
        for each in written:
            each.result()
        for request, _ in entries:
            self.find(request, issuer)  # so that it is in memory if the database is away later

    def entries(self) -> Iterator[tuple[str, int]]:
        """Name the chains that are current."""
        for fingerprint in self._records.current_of(self.name):
            yield fingerprint, hash(fingerprint)

    def read_entry(self, key: str) -> Chain | None:
        """Read one of these."""
        pem = self._records.pem_of(key)
        try:
            return None if pem is None else chains.parse_once(pem)
        except ValueError:
            return None

    def _record(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> ChainRecord:
        return ChainRecord.of(
            chain,
            identity=digest_of(request, issuer),
            directory=issuer.directory,
            profile=issuer.profile,
            issued=self._now(),
            storage=self.name,
            csr=request.pem,
        )

    @property
    def _records(self) -> ChainRecords:
        if self._attached is None:
            raise StorageUnavailable(f"storage '{self.name}' is in the state, which is not open here")
        return self._attached
