"""A storage that keeps nothing: every request is answered by a new certificate."""

from __future__ import annotations

import datetime
from typing import Self

from acmems.chain import Chain
from acmems.csr import CertificateRequest
from acmems.ini import Options
from acmems.storages.contract import Origin


class NoStorage:
    """Keeps nothing; its methods do what `acmems.storages.Storage` says, trivially.

    Args:
        name: its name in the configuration.
    """

    renew_within: datetime.timedelta | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:  # noqa: ARG003 - the contract's; it has none
        """Make one; it has no options."""
        return cls(name)

    def look(self) -> tuple[()]:
        """Find nothing wrong: it names nothing."""
        return ()

    def check(self) -> None:
        """Find nothing to check."""

    def find(self, request: CertificateRequest, origin: Origin) -> Chain | None:  # noqa: ARG002 - the contract's
        """Return None."""
        return None

    def store(self, request: CertificateRequest, chain: Chain, origin: Origin) -> None:
        """Keep nothing."""
