"""The contract between an issuance and what keeps its chains."""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from acmems.settings.options import Options
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class IssuerIdentity:
    """Whose chains these are: a chain of another CA is never delivered as this one's.

    Args:
        directory: the URL of the CA's ACME directory.
        profile: the ACME profile of its orders, None for the CA's default.
        account: the name of the account, where it is not the first that orders so at this CA.
        owns_unmarked: whether chains are its own of which 0.3 to 0.5 did not note whose they are.
    """

    directory: str
    profile: str | None = None
    account: str | None = None
    owns_unmarked: bool = field(default=True, compare=False)

    @property
    def parts(self) -> list[str | None]:
        """What is written down of it."""
        return [self.directory, self.profile, *([] if self.account is None else [self.account])]


@functools.lru_cache(maxsize=1024)
def identity_digest(
    issuer: IssuerIdentity, key_digest: str, must_staple: bool, identifiers: tuple[Identifier, ...]
) -> str:
    """Return the digest of what makes two requests the same: one chain serves both.

    Storages and the state name chains and orders by it, so it must stay what it is.

    Args:
        issuer: whose chain is asked for.
        key_digest: SHA-256 of the public key, in hex.
        must_staple: whether a must-staple certificate is asked for.
        identifiers: the names, sorted.
    """
    names = [f"{identifier.type}:{identifier.value}" for identifier in identifiers]
    identity = [*issuer.parts[:2], key_digest, must_staple, names, *issuer.parts[2:]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def digest_of(request: CertificateRequest, issuer: IssuerIdentity) -> str:
    """Return the `identity_digest` of a request."""
    return identity_digest(issuer, request.key_digest, request.must_staple, request.identifiers)


class Storage(Protocol):
    """Keeps chains, and finds them again for the same key, the same names and the same CA.

    Every method is called from many threads at once, and MUST work beside other processes that use
    the same place. A storage decides nothing about freshness: it returns expired chains, too.
    """

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def renew_within(self) -> datetime.timedelta | None:
        """How long before its end a chain is to be replaced, None for the share of its lifetime."""

    @property
    def renews_ahead(self) -> bool:
        """Whether chains that are due are renewed before their clients ask."""

    @property
    def is_durable(self) -> bool:
        """Whether what it keeps outlives this process."""

    @property
    def is_immediate(self) -> bool:
        """Whether its methods return at once, without I/O."""

    @property
    def is_local(self) -> bool:
        """Whether looking a chain up takes no longer than reading a file: it waits for no other process."""

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong outside with what its section names, as pairs of a key and a reason.

        It MUST change nothing: `acmems check` calls it.
        """

    def check(self) -> None:
        """Find out whether a chain could be stored now; called at start and before orders.

        MUST try a write rather than guess: a certificate that cannot be kept is not ordered.

        Raises:
            StorageUnavailable: it could not.
        """

    def find(self, request: CertificateRequest, issuer: IssuerIdentity) -> Chain | None:
        """Return the stored chain of this issuer that expires last.

        MUST return only a chain that `chain.matches` the request. Anything damaged or foreign MUST be
        a miss: moved aside, logged, never delivered and never an error.

        Raises:
            StorageUnavailable: only if it cannot tell whether there is one.
        """

    def store(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        """Keep a chain, durably, in place of older ones.

        MUST be atomic: whoever looks meanwhile finds the old chain or the new one, and the old one
        stays if this fails.

        Raises:
            StorageUnavailable: it could not be kept.
        """

    def store_all(self, entries: Sequence[tuple[CertificateRequest, Chain]], issuer: IssuerIdentity) -> None:
        """Keep several chains, as `store` does, with fewer waits for a disk.

        Raises:
            StorageUnavailable: at least one could not be kept; each can be tried alone.
        """

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make the storage that a section describes.

        It MUST NOT touch anything outside, and MUST report problems to the options, not raise them.
        """


@runtime_checkable
class Enumerable(Protocol):
    """A storage that can tell what it keeps, for those who watch over renewals."""

    def entries(self) -> Iterator[tuple[str, int]]:
        """Yield what names each chain that is kept, and a number that changes with the chain.

        It MUST NOT read the chains, and SHOULD skip what cannot be listed.

        Raises:
            StorageUnavailable: nothing can be listed.
        """

    def read_entry(self, key: str) -> Chain | None:
        """Return a chain that `entries` has named, None where it is gone or damaged.

        It MUST change nothing, and MUST NOT raise for what is damaged.

        Raises:
            StorageUnavailable: whether there is one cannot be told.
        """


@runtime_checkable
class Discarding(Protocol):
    """A storage whose chains others may read, too, so that it lets go of those that are revoked."""

    def discard(self, fingerprint: str) -> int:
        """Let nobody find a certificate any more, durably, and return in how many places it was.

        It may look at every chain that is kept.

        Args:
            fingerprint: SHA-256 of the leaf, in hex.

        Raises:
            StorageUnavailable: it could not be moved away everywhere.
        """
