"""An issuance with stand-ins for the CA, for storages and for time, all of which do as they are told."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key
from tests.chains import CA_KEY, certificate
from tests.steps import settle

from acmems.challenges import Validator
from acmems.events import Bus, Event
from acmems.exceptions import StorageUnavailable
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuing.contract import AlternateSource, Preparing
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.settings.options import Options
from acmems.state.chains import ChainRecord
from acmems.storages import IssuerIdentity, Storage
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import StepLoop, Steps, in_thread
from acmems.x509.chain import Chain, OfferedChain
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

IDENTITY = IssuerIdentity("https://ca.example.org/directory", None)


class Authority:
    """Signs certificates, or fails as told; stands in for an ACME issuer and the CA behind it."""

    key_digest: str | None = "the account's"
    account_url: str | None = "https://ca.example.org/account/1"
    silence = 0.0
    preparing: Preparing | None = None
    alternates: AlternateSource | None = None

    def __init__(self, loop: StepLoop) -> None:
        self.loop = loop
        self.orders: list[CertificateRequest] = []
        self.days = 90
        self.error: Exception | None = None
        self.errors: list[Exception] = []  # of the first orders that end
        self.began: Callable[[], object] = lambda: None
        self.names: list[str] | None = None
        self.subject = x509.Name([])
        self.go = threading.Event()
        self.go.set()

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None,
        *,
        prepared: str | None = None,
    ) -> Steps[OfferedChain]:
        self.orders.append(request)
        self.began()
        yield from in_thread(lambda: wait_for(self.go))
        if self.errors:
            raise self.errors.pop(0)
        if self.error is not None:
            raise self.error
        key = load_der_public_key(request.spki)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in self.names or request.names])
        leaf = certificate(key, self.subject, self.days).add_extension(san, critical=False)
        return OfferedChain(leaf.sign(CA_KEY, hashes.SHA256()).public_bytes(Encoding.PEM))


@dataclass(eq=False)
class Memory:
    """A storage in memory that fails as told, and waits before it writes.

    Attributes:
        checks: how often it was tried.
        batches: how many chains came at once, one number a call.
        chains: what it keeps, by the digest of the public key.
        write: set unless writing, or trying to, shall wait.
        find_hook: called between each look and its answer.
        store_hook: called before each write.
    """

    name: str = "memory"
    renew_within: datetime.timedelta | None = None
    renews_ahead: bool = False
    is_immediate: bool = False
    is_local: bool = True
    is_durable: bool = True
    check_error: Exception | None = None
    store_error: Exception | None = None
    refused: str | None = None
    checks: int = 0
    batches: list[int] = field(default_factory=list)
    chains: dict[str, Chain] = field(default_factory=dict)
    write: threading.Event = field(default_factory=threading.Event)
    find_hook: Callable[[], object] = lambda: None
    store_hook: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.write.set()

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        raise NotImplementedError

    def self_check(self) -> tuple[()]:
        return ()

    def check(self) -> None:
        self.checks += 1
        wait_for(self.write)
        if self.check_error is not None:
            raise self.check_error

    def find(self, request: CertificateRequest, issuer: IssuerIdentity) -> Chain | None:
        found = self.chains.get(request.key_digest)
        self.find_hook()
        return found

    def store(self, request: CertificateRequest, chain: Chain, issuer: IssuerIdentity) -> None:
        self.store_all([(request, chain)], issuer)

    def store_all(self, entries: Sequence[tuple[CertificateRequest, Chain]], issuer: IssuerIdentity) -> None:
        self.batches.append(len(entries))
        self.store_hook()
        wait_for(self.write)
        if self.store_error is not None:
            raise self.store_error
        if self.refused in {request.key_digest for request, _ in entries}:
            raise StorageUnavailable("one of them cannot be kept")
        self.chains.update({request.key_digest: chain for request, chain in entries})


class KnownChains:
    """In the place of what is known of chains that were issued."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.compromised: set[str] = set()

    def issued(self, identity: str, accepted: AcceptedRequest, chain: Chain) -> None:
        pass

    def record(self, identity: str, accepted: AcceptedRequest, chain: Chain) -> ChainRecord:
        raise NotImplementedError

    def is_older(self, identity: str, moment: datetime.datetime) -> bool:
        return False

    def is_revoked(self, chain: Chain) -> bool:
        return chain.fingerprint in self.revoked

    def is_compromised(self, key_digest: str) -> bool:
        return key_digest in self.compromised


class StandingTime:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.seconds)


class House:
    """An issuance with everything around it.

    Args:
        clock: one that runs, None for one that stands still.
        options: those of the issuance.
    """

    def __init__(self, clock: Clock | None = None, **options: Any) -> None:
        self.time = StandingTime()
        self.clock = clock or self.time.clock()
        self.loop = StepLoop(self.clock)
        self.authority = Authority(self.loop)
        self.storage = Memory()
        self.events: list[Event] = []
        bus = Bus()
        bus.subscribe(self.events.append)
        self.issuance = Issuance(self.authority, IDENTITY, bus, clock=self.clock, **options)
        self.issuances = Issuances({"": self.issuance}, self.clock)

    def begin(
        self,
        request: CertificateRequest,
        storage: Storage | None = None,
        gone: Callable[[], bool] = lambda: False,
        grants: Callable[[Identifier], bool] = lambda _: False,
    ) -> Future[Delivery]:
        """Ask for a chain, and do not wait for it."""
        accepted = AcceptedRequest(request, (), storage or self.storage, gone=gone, grants=grants)
        return self.issuance.issue(accepted)

    def accept(self, request: CertificateRequest, **fields: Any) -> AcceptedRequest:
        """Return an accepted request, by default for this house's storage."""
        return AcceptedRequest(request, (), **{"storage": self.storage, **fields})

    def ask(
        self,
        request: CertificateRequest,
        storage: Storage | None = None,
        gone: Callable[[], bool] = lambda: False,
        grants: Callable[[Identifier], bool] = lambda _: False,
    ) -> Delivery:
        """Ask for a chain, and wait for it."""
        return self.begin(request, storage, gone, grants).result(30)

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all who wait, those included who have just begun to."""
        settle(self.loop)
        self.time.seconds += seconds
        settle(self.loop)

    def close(self) -> None:
        """End what goes on."""
        self.authority.go.set()
        self.storage.write.set()
        self.issuance.close(self.clock.deadline(0))
        self.loop.close()


def wait_for(event: threading.Event) -> None:
    assert event.wait(100)  # for all that a test does before it lets others go on
