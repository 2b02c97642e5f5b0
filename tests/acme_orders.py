"""The ACME front end with orders, in front of an issuer that does as it is told; without TLS."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.acme_client import AcmeClient, Answer, b64, flattened
from tests.acme_serving import Serving, serving
from tests.auth_blocks import block
from tests.chains import make_chain
from tests.fake_ca import FakeValidator
from tests.issuing import IDENTITY, Authority, House, wait_for

from acmems.auth import Block
from acmems.challenges import Validator
from acmems.events import Bus, Event
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.ordering import OrderResources
from acmems.frontends.acme.orders.parts import ORDER_RATE, OrderParts
from acmems.frontends.acme.policy import AcmePolicy
from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.validation import Validation
from acmems.frontends.history import RecordedHistory
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuing.limits.gcra import Rate
from acmems.state.acme.certificates import AccountCertificates
from acmems.state.acme.orders import ClientOrders
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.chains.alternates import AlternateRecords
from acmems.state.chains.renewals import RenewalRecords
from acmems.state.engines.contract import Database
from acmems.system.clock import SYSTEM, Deadline
from acmems.system.steps import Steps, in_thread
from acmems.x509.chain import OfferedChain
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

PRIVATE = ec.generate_private_key(ec.SECP256R1())


class ChainAuthority(Authority):
    """Signs chains of two, whose leaf tells by whom.

    Attributes:
        urls: where further chains are.
    """

    urls: tuple[str, ...] = ()

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
        return OfferedChain(make_chain(request, self.days).pem, self.urls)


def make_csr(*names: str, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """Return a certificate request in DER."""
    san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(san, False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def dns(*names: str) -> list[dict[str, str]]:
    """Return identifiers as clients send them."""
    return [{"type": "dns", "value": name} for name in names]


@dataclass
class Ordering:
    """A front end that takes orders.

    Attributes:
        served: where it serves.
        house: what issues.
        authority: that issues there.
        chains: those that were issued.
        parts: what its resources work with.
        revoked: what was revoked: serial numbers, reasons and clients.
        refuses: raised by the next revocations.
        proofs: what was looked for.
        failures: what is wrong with proofs, by the name.
        crowded: raised where a proof is to be looked for.
    """

    served: Serving
    house: House
    authority: ChainAuthority
    chains: ChainRecords
    parts: OrderParts
    revoked: list[tuple[str, str, str]] = field(default_factory=list)
    refuses: Exception | None = None
    proofs: list[Validation] = field(default_factory=list)
    failures: dict[str, AcmeProblem] = field(default_factory=dict)
    crowded: AcmeProblem | None = None

    @property
    def events(self) -> list[Event]:
        """What was told."""
        return [*self.served.events, *self.house.events]

    def client(self) -> Orderer:
        """Return a client with an account."""
        client = Orderer(f"{self.served.url}/directory")
        assert client.register().status == 201
        return client


class Orderer(AcmeClient):
    """A client that orders."""

    def order(self, *names: str, **members: Any) -> Answer:
        """Make an order."""
        return self.post(self.directory["newOrder"], {"identifiers": dns(*names), **members})

    def finalize(self, order: Mapping[str, Any], csr: bytes) -> Answer:
        """Finalize an order."""
        return self.post(order["finalize"], {"csr": b64(csr)})

    def obtain(self, *names: str, key: ec.EllipticCurvePrivateKey | None = None, **members: Any) -> Answer:
        """Return the answer that has a chain."""
        order = self.order(*names, **members)
        assert order.status == 201, order
        done = self.finalize(order.json, make_csr(*names, key=key))
        while done.status == 200 and done.json["status"] == "processing":  # an answer is not held for ever
            done = self.post(order.location)
        assert (done.status, done.json["status"]) == (200, "valid"), done
        return self.post(done.json["certificate"])

    def revoke(self, certificate: bytes, **members: Any) -> Answer:
        """Have a certificate revoked by the account."""
        return self.post(self.directory["revokeCert"], {"certificate": b64(certificate), **members})

    def post_accepting(self, url: str, accept: str) -> Answer:
        """Ask for something in some form."""
        body = json.dumps(flattened(self.key, self.header(url), b"")).encode()
        return self.exchange("POST", url, body, {"Content-Type": "application/jose+json", "Accept": accept})

    def clone(self) -> Self:
        """Return a client with the same account and connections of its own."""
        return type(self)(self.directory_url, self.key, kid=self.kid)


class AnyProof(FakeValidator):
    """Proves all names."""

    def proves(self, identifier: Identifier) -> bool:
        return True


@contextlib.contextmanager
def ordering(
    database: Database,
    *blocks: Block,
    hold_seconds: float = 15.0,
    url: str | None = None,
    order_rate: Rate = ORDER_RATE,
    looking: list[Future[AcmeProblem | None]] | None = None,
    **options: Any,
) -> Iterator[Ordering]:
    """Serve ACME clients that order.

    Args:
        database: the state.
        blocks: the auth blocks; anybody may have anything where there are none.
        hold_seconds: how long answers are held back.
        url: the base of all URLs; the address of the listener where it is not given.
        order_rate: how many orders one address may make.
        looking: gets the outcomes of looks for proofs, which a test ends; None where they end at once.
        options: of the issuance.
    """
    chains = ChainRecords(database)
    house = House(SYSTEM, history=RecordedHistory(chains, IDENTITY, SYSTEM), **options)
    authority = house.authority = ChainAuthority(house.loop)
    house.issuance.issuer = authority
    found: list[Ordering] = []

    def prove(validation: Validation) -> Future[AcmeProblem | None]:
        if found[0].crowded is not None:
            raise found[0].crowded
        found[0].proofs.append(validation)
        outcome: Future[AcmeProblem | None] = Future()
        if looking is None:
            outcome.set_result(found[0].failures.get(validation.identifier.value))
        else:
            looking.append(outcome)
        return outcome

    def revoke(chain: ChainRecord, reason: str, client: str) -> None:
        if found[0].refuses is not None:
            raise found[0].refuses
        chains.revoked(chain.fingerprint, datetime.datetime.now(datetime.UTC), reason).result(30)
        found[0].revoked.append((chain.serial, reason, client))

    made: list[OrderParts] = []

    def resources(policy: Callable[[], AcmePolicy], linker: Callable[[], Linker], bus: Bus) -> OrderResources:
        parts = OrderParts(
            policy=lambda: policy().signing,
            issuances=house.issuances,
            orders=ClientOrders(database),
            certificates=AccountCertificates(database),
            chains=chains,
            alternates=AlternateRecords(database),
            plans=RenewalRecords(database),
            linker=linker,
            bus=bus,
            loop=house.loop,
            prove=prove,
            order_rate=order_rate,
        )
        made.append(parts)
        return OrderResources.of(parts, revoke, lambda _: "192.0.2.1", hold_seconds=hold_seconds)

    granting = blocks or (block(("all", "yes"), ("domain", "**")),)
    for each in granting:
        each.storage, each.validators = house.storage, (AnyProof(),)
    try:
        with serving(database, *granting, url=url, orders=resources) as served:
            found.append(Ordering(served, house, authority, chains, made[0]))
            yield found[0]
    finally:
        house.close()
