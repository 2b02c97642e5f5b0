"""The storage that keeps nothing."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Self

from acmems.settings.options import Options
from acmems.storages.contract import IssuerIdentity
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest


class NoStorage:
    """Keeps nothing, so that every request is ordered."""

    renew_within: datetime.timedelta | None = None
    renews_ahead = False
    is_immediate = True
    is_durable = False
    is_local = True

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:  # noqa: ARG003 - the contract's; it has none
        """Make the storage that a section describes, which has no keys of its own."""
        return cls(name)

    def self_check(self) -> tuple[()]:
        """Find nothing wrong: it names nothing."""
        return ()

    def check(self) -> None:
        """Find nothing to check."""

    def find(self, request: CertificateRequest, issuer: IssuerIdentity) -> Chain | None:  # noqa: ARG002 - the contract's
        """Return None."""
        return None

    def store(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        """Keep nothing."""

    def store_all(self, entries: Sequence[tuple[CertificateRequest, Chain]], issuer: IssuerIdentity) -> None:
        """Keep nothing."""
