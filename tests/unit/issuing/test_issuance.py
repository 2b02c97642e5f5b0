"""One accepted request becomes one chain: stored, joined, held, stale, refused for a while."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.peers import wait_until

from acmems.challenges import Validator
from acmems.events import Bus, Event, FailedEvent, IssuedEvent
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    CertificateUnusable,
    ChallengeFailed,
    InvalidDomainName,
    PayloadInvalid,
    RateLimited,
    StorageUnavailable,
)
from acmems.issuing.issuance import AcceptedRequest, Delivery, Issuance
from acmems.settings.options import Options
from acmems.storages import IssuerIdentity, NoStorage, Storage
from acmems.system.clock import Clock, Deadline
from acmems.x509 import csr
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

ORIGIN = IssuerIdentity("https://ca.example.org/directory", None)
PEM = serialization.Encoding.PEM
CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a CA")])


class Authority:
    """Signs certificates, or fails as told; stands in for an ACME manager and the CA behind it."""

    key_digest: str | None = "the account's"
    account_url: str | None = "https://ca.example.org/account/1"

    def __init__(self) -> None:
        self.orders: list[CertificateRequest] = []
        self.days = 90
        self.error: Exception | None = None
        self.names: list[str] | None = None
        self.go = threading.Event()
        self.go.set()

    def obtain(
        self, request: CertificateRequest, validators: Sequence[Validator], deadline: Deadline, key: object
    ) -> bytes:
        self.orders.append(request)
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        now = datetime.datetime.now(datetime.UTC)
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in self.names or request.names])
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(CA_NAME)
            .public_key(serialization.load_der_public_key(request.spki))  # type: ignore[arg-type]  # EC here
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(days=self.days))
            .add_extension(san, critical=False)
            .sign(CA_KEY, hashes.SHA256())
            .public_bytes(PEM)
        )


@dataclass
class Memory:
    """A storage in memory that fails as told."""

    name: str = "memory"
    renew_within: datetime.timedelta | None = None
    chains: dict[str, Chain] = field(default_factory=dict)
    check_fails: bool = False
    store_fails: bool = False

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        raise NotImplementedError

    def self_check(self) -> tuple[()]:
        return ()

    def check(self) -> None:
        if self.check_fails:
            raise StorageUnavailable("not writable")

    def find(self, request: CertificateRequest, origin: IssuerIdentity) -> Chain | None:
        return self.chains.get(request.key_digest)

    def store(self, request: CertificateRequest, chain: Chain, origin: IssuerIdentity) -> None:
        if self.store_fails:
            raise StorageUnavailable("disk full")
        self.chains[request.key_digest] = chain


class Time:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.seconds)


def make_request(*names: str, key: ec.EllipticCurvePrivateKey | None = None) -> CertificateRequest:
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names or ("a.example.org",)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return csr.parse(signed.public_bytes(PEM), csr.Rules())


class House:
    """An issuance with everything around it."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.storage = Memory()
        self.time = Time()
        self.events: list[Event] = []
        bus = Bus()
        bus.subscribe(self.events.append)
        self.issuance = Issuance(self.authority, ORIGIN, bus, clock=self.time.clock(), workers=8)

    def ask(
        self,
        request: CertificateRequest,
        storage: Storage | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Delivery:
        return self.begin(request, storage, gone).result(30)

    def begin(
        self,
        request: CertificateRequest,
        storage: Storage | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Future[Delivery]:
        return self.issuance.issue(AcceptedRequest(request, (), storage or self.storage, gone=gone))


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA works."""
    made = House()
    yield made
    made.issuance.close(made.time.clock().deadline(0))


class TestStored:
    """What is there already is not ordered."""

    def test_a_fresh_chain_is_delivered_again(self, house: House) -> None:
        """The second request for the same gets the stored chain, without an order."""
        request = make_request()
        first, second = house.ask(request), house.ask(request)
        assert (first.source, second.source) == ("issued", "stored")
        assert first.chain == second.chain
        assert len(house.authority.orders) == 1

    def test_a_chain_due_for_renewal_is_replaced(self, house: House) -> None:
        """A chain of which less is left than a third of its life is ordered anew."""
        request = make_request()
        first = house.ask(request)
        house.storage.chains[request.key_digest] = make_short(first.chain)
        assert house.ask(request).source == "issued"
        assert len(house.authority.orders) == 2

    def test_another_csr_of_the_same_key_shares_the_flight(self, house: House) -> None:
        """Two CSRs of one key and the same names, asked at once, are one order."""
        key = ec.generate_private_key(ec.SECP256R1())
        house.authority.go.clear()
        futures = [
            house.issuance.issue(AcceptedRequest(make_request("a.example.org", key=key), (), house.storage))
            for _ in range(20)
        ]
        house.authority.go.set()
        deliveries = [future.result(30) for future in futures]
        assert len(house.authority.orders) == 1
        assert {delivery.source for delivery in deliveries} <= {"issued", "joined"}
        assert sum(isinstance(event, IssuedEvent) for event in house.events) == 1

    def test_other_names_are_another_order(self, house: House) -> None:
        """The same key with other names is another issuance."""
        key = ec.generate_private_key(ec.SECP256R1())
        nothing = NoStorage("none")
        house.ask(make_request("a.example.org", key=key), nothing)
        house.ask(make_request("b.example.org", key=key), nothing)
        assert len(house.authority.orders) == 2

    def test_a_valid_chain_outlives_a_failing_ca(self, house: House) -> None:
        """While the CA is failing, a stored chain that is due for renewal but valid is delivered."""
        request = make_request()
        first = house.ask(request)
        house.storage.renew_within = datetime.timedelta(days=3650)
        short = make_short(first.chain)
        house.storage.chains[request.key_digest] = short
        house.authority.error = CAUnavailable("down")
        delivery = house.ask(request)
        assert (delivery.source, delivery.chain) == ("stale", short)
        assert any(isinstance(event, FailedEvent) and event.stage == "renew" for event in house.events)


def make_short(chain: Chain) -> Chain:
    """Return a chain that is valid and overdue for renewal: a hundred days old, one day left."""
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return Chain(
        pem=chain.pem,
        spki=chain.spki,
        identifiers=chain.identifiers,
        not_before=now - 100 * day,
        not_after=now + day,
        serial=chain.serial,
        issuer=chain.issuer,
    )


class TestKept:
    """Nothing issued is lost."""

    @pytest.mark.threat("disk", "a storage that cannot be written")
    def test_a_storage_that_cannot_be_written_costs_no_certificate(self, house: House) -> None:
        """Where the test write fails, nothing is ordered."""
        house.storage.check_fails = True
        with pytest.raises(StorageUnavailable):
            house.ask(make_request())
        assert house.authority.orders == []

    @pytest.mark.threat("disk", "a disk that is full")
    def test_a_full_disk_costs_no_certificate(self, house: House) -> None:
        """Where storing fails the client gets its chain, so does the next one, and storing is tried again."""
        house.storage.store_fails = True
        request = make_request()
        first = house.ask(request)
        assert house.ask(request).chain == first.chain
        assert len(house.authority.orders) == 1
        house.storage.store_fails = False
        house.issuance.save_held()
        assert house.storage.chains[request.key_digest] == first.chain

    def test_a_client_that_hung_up_finds_its_chain(self, house: House) -> None:
        """What nobody was left to take is held for the next request, once."""
        request, nothing = make_request(), NoStorage("none")
        house.ask(request, nothing, gone=lambda: True)
        assert house.ask(request, nothing).source == "stored"
        assert len(house.authority.orders) == 1
        house.ask(request, nothing)
        assert len(house.authority.orders) == 2

    @pytest.mark.threat("ca", "another certificate")
    def test_a_certificate_for_other_names_is_not_delivered(self, house: House) -> None:
        """What is not what was asked for is neither stored nor sent, nor ordered again at once."""
        house.authority.names = ["other.example.org"]
        request = make_request()
        for _ in range(2):
            with pytest.raises(CertificateUnusable):
                house.ask(request)
        assert house.storage.chains == {}
        assert len(house.authority.orders) == 1


class TestProtection:
    """One broken client does not burn the CA's limits."""

    @pytest.mark.parametrize(
        "error",
        [ChallengeFailed("a.example.org", "no route", ""), RateLimited("enough", retry_after=60)],
        ids=lambda error: type(error).__name__,
    )
    def test_what_failed_is_not_tried_again_at_once(self, house: House, error: AcmeException) -> None:
        """A failed validation and a rate limit are answered from memory until their pause is over."""
        house.authority.error = error
        request = make_request()
        with pytest.raises(type(error)):
            house.ask(request)
        with pytest.raises(type(error)) as caught:
            house.ask(request)
        assert vars(caught.value)["retry_after"] > 0
        assert len(house.authority.orders) == 1
        house.time.seconds += 61
        house.authority.error = None
        assert house.ask(request).source == "issued"

    @pytest.mark.threat("ca", "a name that cannot be validated")
    def test_a_name_is_spared_whoever_asks(self, house: House) -> None:
        """A name that could not be validated is not tried again for another key either."""
        house.authority.error = ChallengeFailed("a.example.org", "no route", "")
        with pytest.raises(ChallengeFailed):
            house.ask(make_request("a.example.org"))
        with pytest.raises(ChallengeFailed):
            house.ask(make_request("a.example.org", "b.example.org"))
        house.authority.error = None
        assert house.ask(make_request("b.example.org")).source == "issued"

    def test_pauses_grow(self, house: House) -> None:
        """Each failure of a name makes its pause twice as long."""
        house.authority.error = ChallengeFailed("a.example.org", "no route", "")
        waits = []
        for _ in range(3):
            with pytest.raises(ChallengeFailed):
                house.ask(make_request("a.example.org"))
            with pytest.raises(ChallengeFailed) as caught:
                house.ask(make_request("a.example.org"))
            waits.append(vars(caught.value)["retry_after"])
            house.time.seconds += waits[-1]
        assert waits == [30.0, 60.0, 120.0]

    @pytest.mark.parametrize(
        "error",
        [CertificateUnusable("x"), PayloadInvalid("x"), InvalidDomainName("a.example.org", "x")],
        ids=lambda error: type(error).__name__,
    )
    def test_asking_during_a_pause_does_not_lengthen_it(self, house: House, error: AcmeException) -> None:
        """However often a client asks meanwhile, a pause ends when it was to end."""
        house.authority.error = error
        request = make_request()
        for _ in range(5):
            with pytest.raises(type(error)):
                house.ask(request)
        house.time.seconds += 31
        house.authority.error = None
        assert house.ask(request).source == "issued"

    def test_an_unavailable_ca_is_asked_again(self, house: House) -> None:
        """A CA that was down is no reason to wait: the next request tries."""
        house.authority.error = CAUnavailable("down")
        request = make_request()
        with pytest.raises(CAUnavailable):
            house.ask(request)
        house.authority.error = None
        assert house.ask(request).source == "issued"

    @pytest.mark.threat("csr", "the account's own key")
    def test_the_accounts_key_gets_no_certificate(self, house: House) -> None:
        """A CSR for the account's own key is refused."""
        request = make_request()
        house.authority.key_digest = request.key_digest
        with pytest.raises(PayloadInvalid, match="account"):
            house.ask(request)

    def test_a_bug_reaches_whoever_waits(self, house: House) -> None:
        """An unforeseen error ends the wait of every client, and the next request works."""
        house.authority.error = KeyError("a bug")
        request = make_request()
        with pytest.raises(KeyError):
            house.ask(request)
        house.authority.error = None
        assert house.ask(request).source == "issued"


class TestClosing:
    """A server that stops begins nothing, and keeps nobody waiting."""

    def test_what_has_not_begun_is_refused(self, house: House) -> None:
        """What runs goes on to its end; what waits for a thread, or comes now, is told to ask again."""
        issuance = Issuance(house.authority, ORIGIN, Bus(), workers=1)
        running, waiting, late = (AcceptedRequest(make_request(), (), house.storage) for _ in range(3))
        house.authority.go.clear()
        first, second = issuance.issue(running), issuance.issue(waiting)
        wait_until(lambda: bool(house.authority.orders), "the first order")
        issuance.close(house.time.clock().deadline(0))
        error = second.exception(30)
        assert isinstance(error, CAUnavailable)
        assert error.retry_after
        with pytest.raises(CAUnavailable, match="stopping"):
            issuance.issue(late)
        house.authority.go.set()
        assert first.result(30).source == "issued"

    def test_what_is_stored_is_delivered_to_the_end(self, house: House) -> None:
        """A stored chain needs no order, so a stop does not keep it back."""
        request = make_request()
        first = house.ask(request)
        house.issuance.close(house.time.clock().deadline(0))
        assert house.ask(request).chain == first.chain


class TestHealth:
    """An issuance that hangs occupies a worker; without workers nothing is issued."""

    def test_workers_that_hang(self, house: House) -> None:
        """While one worker is left it is healthy; when all hang it is not, until one gets on."""
        house.authority.go.clear()
        waiting = [house.begin(make_request(f"{number}.example.org")) for number in range(7)]
        wait_until(lambda: len(house.authority.orders) == 7, "seven run")
        house.time.seconds += house.issuance.seconds + house.issuance.HANGING_SECONDS + 1
        assert house.issuance.is_healthy()
        waiting.append(house.begin(make_request("last.example.org")))
        wait_until(lambda: len(house.authority.orders) == 8, "eight run")
        assert house.issuance.is_healthy()
        house.time.seconds += house.issuance.seconds + house.issuance.HANGING_SECONDS + 1
        assert not house.issuance.is_healthy()
        house.authority.go.set()
        for future in waiting:
            future.result(30)
        wait_until(house.issuance.is_healthy, "it is healthy again")
