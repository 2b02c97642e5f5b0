"""What an issuance is asked for, and what it delivers, as values."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from acmems.challenges import Validator
from acmems.events import Source
from acmems.exceptions import CertificateUnusable
from acmems.storages import IssuerIdentity, Storage, identity_digest
from acmems.x509.chain import Chain, check_names
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier
from acmems.x509.leaf import Grants, SubjectPolicy

_IPV4 = 4
_NETWORK_BITS = 64


@dataclass(frozen=True, slots=True)
class AcceptedRequest:
    """A request that policy grants.

    Args:
        request: what is asked for.
        validators: what can prove its names, best first.
        storage: where its chain is kept.
        reference: names it in the log.
        client: who asks.
        block: the auth block that grants it.
        gone: tells whether the client has hung up.
        grants: tells whether that block grants a name that the CA has added.
        most_orders: how many orders of that block may run at once, in place of its share; None for that.
        arrived: when it came, in seconds of the monotonic clock; None: now.
        seconds: how long the client waits; None: as long as the issuance lets all wait.
        subject: what the subject of the certificate may hold; None: what the issuance lets all hold.
        is_wanted_anew: whether no chain will do that is there already.
        issuers: names of the accounts that may order it, best first.
        takes_stale: whether a stored chain that is due will do where there is no new one.
        ends_with_client: whether nothing is to be issued any more once the client has hung up, as far as that
            can still be had by its next try, which has another key.
        replaces: what the CA calls the certificate that the client wants to be replaced; None: the newest for
            the same, if any.
    """

    request: CertificateRequest
    validators: Sequence[Validator]
    storage: Storage
    reference: str = "-"
    client: str = "-"
    block: str | None = None
    gone: Callable[[], bool] = field(default=lambda: False, repr=False)
    grants: Grants = field(default=lambda _: False, repr=False)
    most_orders: int | None = None
    arrived: float | None = None
    seconds: float | None = None
    subject: SubjectPolicy | None = None
    is_wanted_anew: bool = False
    issuers: tuple[str, ...] = ("",)
    takes_stale: bool = True
    ends_with_client: bool = False
    replaces: str | None = None

    @property
    def owner(self) -> tuple[str | None, str]:
        """Whose share of this server it takes: auth block and client, all of an IPv6 network as one."""
        return owner_of(self.block, self.client)

    def refusal(self, chain: Chain) -> CertificateUnusable | None:
        """Return why a chain may not be delivered to whoever made this request, None if it may."""
        try:
            check_names(chain, self.request, self.grants)
        except CertificateUnusable as error:
            return error
        return None

    def known(self, account: str | None) -> dict[str, Any]:
        """Return what is known of it, as fields of an event.

        Args:
            account: the URL of the account that it is ordered with.
        """
        return {
            "reference": self.reference,
            "client": self.client,
            "names": self.request.names,
            "block": self.block,
            "account": account,
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """A chain to send, and where it came from.

    Args:
        chain: the chain.
        source: where it came from.
    """

    chain: Chain
    source: Source


@dataclass(frozen=True, slots=True)
class IssuanceKey:
    """What makes two requests the same: the same names and key of the same account and profile."""

    issuer: IssuerIdentity
    identifiers: tuple[Identifier, ...]
    public_key: str
    must_staple: bool

    @property
    def of_names(self) -> IssuanceKey:
        """What makes two preparations the same, whose keys are not known yet."""
        return IssuanceKey(self.issuer, self.identifiers, "", must_staple=False)

    @property
    def digest(self) -> str:
        """The same as a text of fixed length, for what must be found again after a restart."""
        return identity_digest(self.issuer, self.public_key, self.must_staple, self.identifiers)


def owner_of(block: str | None, client: str) -> tuple[str | None, str]:
    """Return whose share a client of an auth block takes: all of an IPv6 network are as one."""
    return block, _network(client)


@lru_cache(maxsize=4096)
def _network(client: str) -> str:
    """Return the network of 64 bits of an IPv6 address: one machine may have all of that; others stay."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == _IPV4:
        return client
    return str(ipaddress.ip_network((address, _NETWORK_BITS), strict=False))
