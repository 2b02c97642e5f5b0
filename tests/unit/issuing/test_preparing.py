"""Names are proved before there is a CSR, and whoever brings one takes the order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Self

import pytest
from tests.chains import make_chain
from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHALLENGE,
    FINALIZE,
    KEY,
    NAME,
    NEW_ORDER,
    NO_JOURNAL,
    ORDER,
    FakeSession,
    FakeValidator,
    Said,
    authorization,
    make_request,
    order,
    problem,
)
from tests.issuing import IDENTITY, Authority, Memory, wait_for
from tests.steps import PATIENCE, LoopTime, in_loop, settle

from acmems.challenges import Validator
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.events import Bus
from acmems.exceptions import AcmeException, CAUnavailable, ChallengeFailed, DeadlinePassed, QueueFull
from acmems.issuers import breaker
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.orders.open_orders import OpenOrders
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuers.acme.proving import Proving
from acmems.issuing.failover.issuances import Issuances
from acmems.issuing.issuance import Issuance
from acmems.issuing.preparing.preparation import PreparationRequest
from acmems.issuing.requests import AcceptedRequest, Delivery
from acmems.state.sharing.together import OrderClaim
from acmems.storages import IssuerIdentity
from acmems.system.clock import Deadline
from acmems.system.steps import Signal, Steps
from acmems.x509.chain import OfferedChain
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier

NAMES = (Identifier.dns(NAME),)
OTHER = PreparationRequest((Identifier.dns("b.example.org"),), [FakeValidator()], Memory(is_immediate=True))


class PreparingIssuer(Authority):
    """An account at a CA that is a table."""

    def __init__(self, time: LoopTime) -> None:
        super().__init__(time.loop)
        self.preparing = self
        self.session = FakeSession(
            {
                NEW_ORDER: [Said(order(), {"Location": ORDER})],
                ORDER: [order("ready")],
                AUTHORIZATION: [authorization(), authorization("valid")],
                CHALLENGE: [{}],
                FINALIZE: [order("valid")],
                CERTIFICATE: [b""],
            }
        )
        clock = time.loop.clock
        self.open = OpenOrders(clock)
        proving = Proving(self.session, KEY, time.loop, PresentedProofs(clock, NO_JOURNAL))
        self.ordering = Ordering(self.session, proving, clock, open_orders=self.open)

    def has_prepared(self, identity: str) -> bool:
        return self.open.get(identity) is not None

    def prepare(
        self,
        identifiers: Sequence[Identifier],
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None,
    ) -> Steps[None]:
        return self.ordering.prepare(identifiers, validators, deadline, identity, terms)

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
        self.session.say(CERTIFICATE, Said(make_chain(request).pem))
        return self.ordering.obtain(request, validators, deadline, identity, terms, prepared=prepared)


class UncountedOrders:
    """Limits of a CA that has none; tells of which orders there is no CSR yet."""

    def __init__(self) -> None:
        self.ahead: list[bool] = []

    def placement(self, *_: object, is_ahead: bool) -> None:
        self.ahead.append(is_ahead)

    def note(self, *_: object) -> None:
        """Count nothing."""


class Site:
    """An issuance whose CA is a table, and whose validation may be held up."""

    def __init__(self, issuer: type[Authority] = PreparingIssuer, **options: Any) -> None:
        self.time = LoopTime()
        self.issuer: Any = issuer(self.time) if issuer is PreparingIssuer else issuer(self.time.loop)
        self.validator = FakeValidator()
        self.storage = Memory(is_immediate=True)
        options = {"identity": IDENTITY, "bus": Bus(), "clock": self.time.loop.clock, **options}
        self.issuance = Issuance(self.issuer, **options)
        self.issuances = Issuances({"": self.issuance}, self.time.loop.clock)

    @property
    def session(self) -> FakeSession:
        session: FakeSession = self.issuer.session
        return session

    @property
    def counts(self) -> list[int]:
        """How many orders, validations and finalizes the CA got."""
        return [self.session.count(url) for url in (NEW_ORDER, CHALLENGE, FINALIZE)]

    def begin(self, block: str | None = None, **fields: Any) -> Future[None]:
        prepared = PreparationRequest(NAMES, [self.validator], self.storage, block=block, **fields)
        return self.issuances.prepare(prepared)

    def prepare(self) -> None:
        self.until(self.begin())

    def issue(self, request: CertificateRequest, **fields: Any) -> Future[Delivery]:
        return self.issuances.issue(AcceptedRequest(request, [self.validator], self.storage, **fields))

    def ask(self, request: CertificateRequest) -> Delivery:
        future = self.issue(request)
        self.until(future)
        return future.result()

    def until(self, future: Future[Any]) -> None:
        """Let time pass until something is done."""
        until(future, self)

    def hold(self) -> None:
        """Let the CA answer nothing from now on, and return once it is asked for something."""
        self.session.held = Signal()

    def release(self) -> None:
        held, self.session.held = self.session.held, None
        assert held is not None
        in_loop(self.time.loop, held.set)

    def close(self) -> None:
        self.issuance.close(self.time.loop.clock.deadline(0))
        self.time.loop.close()


def until(future: Future[Any], *sites: Site) -> None:
    """Let time pass at some sites until something is done."""
    for _ in range(200):
        for each in sites:
            settle(each.time.loop)
        if future.done():
            future.result()
            return
        for each in sites:
            each.time.move(1)
    raise AssertionError("it does not end")


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.fixture
def narrow() -> Iterator[Site]:
    """An issuance with one place, for which one waits at most."""
    made = Site(most_at_once=1, most_waiting=1)
    yield made
    made.close()


class TestTaken:
    """An order that was prepared is finalized by the next request for its names, whatever its key is."""

    def test_which_orders_are_ahead(self) -> None:
        """Limits know for which orders there is no CSR yet."""
        limits = UncountedOrders()
        site = Site(limits=limits)
        site.prepare()
        site.ask(make_request())
        assert limits.ahead == [True, False]

    def test_by_the_next_request(self, site: Site) -> None:
        """Between its CSR and its certificate stands the finalize alone."""
        site.prepare()
        assert site.counts == [1, 1, 0]
        assert site.validator.withdrawn == site.validator.presented
        assert site.ask(make_request()).source == "issued"
        assert site.counts == [1, 1, 1]

    def test_by_one_of_two(self, site: Site) -> None:
        """Each order has one CSR: the second key gets an order of its own."""
        site.prepare()
        first, second = make_request(), make_request()
        one = site.ask(first).chain
        other = site.ask(second).chain
        assert one != other
        assert site.counts[0] == 2
        assert site.counts[2] == 2

    def test_once_it_is_ready(self, site: Site) -> None:
        """A request that comes while names are being proved waits for that, and orders nothing itself."""
        site.hold()
        prepared, issued = site.begin(), site.issue(make_request())
        settle(site.time.loop)
        site.release()
        site.until(prepared)
        site.until(issued)
        assert site.counts == [1, 1, 1]

    def test_by_the_one_that_still_waits(self, site: Site) -> None:
        """A client that gave up before its CSR was sent has used nothing up: its next try has another key."""
        site.hold()
        prepared = site.begin()
        settle(site.time.loop)
        is_gone = False
        given_up = site.issue(make_request(), gone=lambda: is_gone, ends_with_client=True)
        settle(site.time.loop)
        is_gone = True
        second = make_request()
        issued = site.issue(second)
        site.release()
        site.until(prepared)
        site.until(issued)
        assert isinstance(given_up.exception(PATIENCE), DeadlinePassed)
        assert site.counts == [1, 1, 1]
        assert list(site.storage.chains) == [second.key_digest]

    def test_by_a_client_that_has_hung_up(self, site: Site) -> None:
        """A request that is going to be repeated as it is goes on without its client."""
        site.hold()
        site.begin()
        settle(site.time.loop)
        request = make_request()
        site.issue(request, gone=lambda: True)
        settle(site.time.loop)
        site.release()
        for _ in range(200):
            if not site.storage.chains:
                site.time.move(1)
        assert site.ask(request).source == "stored"
        assert site.counts == [1, 1, 1]

    def test_after_it_was_prepared_twice(self, site: Site) -> None:
        """Whoever prepares the same joins what runs, and later finds it ready."""
        site.hold()
        both = [site.begin("one"), site.begin("two")]
        settle(site.time.loop)
        site.release()
        for each in both:
            site.until(each)
        site.prepare()
        assert site.counts == [1, 1, 0]

    @pytest.mark.parametrize("end", ["invalid", "valid", "processing"])
    def test_not_where_it_is_of_no_use(self, site: Site, end: str) -> None:
        """What the CA has ended, or has got a CSR for from somewhere else, is replaced."""
        site.prepare()
        site.time.move(61)
        site.session.say(ORDER, order(end))
        assert site.ask(make_request()).source == "issued"
        assert site.counts[0] == 2

    def test_not_where_it_has_expired(self, site: Site) -> None:
        """The CA forgets orders, a day after they were placed where it does not say otherwise."""
        site.prepare()
        site.time.move(86_401)
        assert site.ask(make_request()).source == "issued"
        assert site.counts[0] == 2


class TestFailing:
    """What fails when it is prepared fails by the rules of all orders."""

    def test_a_name_that_cannot_be_proved(self, site: Site) -> None:
        """Whoever waits hears why, and the request that comes then costs no second order."""
        refused = authorization("invalid")
        site.session.say(AUTHORIZATION, authorization(), refused)
        prepared = site.begin()
        with pytest.raises(ChallengeFailed):
            site.until(prepared)
        with pytest.raises(ChallengeFailed):
            site.until(site.issue(make_request()))
        assert site.counts == [1, 1, 0]

    def test_what_passes(self, site: Site) -> None:
        """A CA that is down is asked once more when the CSR comes."""
        site.session.say(NEW_ORDER, CAUnavailable("down"))
        with pytest.raises(CAUnavailable):
            site.until(site.begin())
        site.session.say(NEW_ORDER, Said(order(), {"Location": ORDER}))
        assert site.ask(make_request()).source == "issued"

    def test_another_block_has_its_own_try(self, site: Site) -> None:
        """By the verifications of one auth block nothing is said of those of another."""
        site.hold()
        one, other = site.begin("one"), site.begin("two")
        settle(site.time.loop)
        site.session.say(NEW_ORDER, problem("malformed"), Said(order(), {"Location": ORDER}))
        site.release()
        site.until(other)
        assert isinstance(one.exception(PATIENCE), AcmeException)

    def test_a_stop(self, site: Site) -> None:
        """Who waits is told that the server stops."""
        site.hold()
        prepared = site.begin()
        settle(site.time.loop)
        site.time.loop.close()
        assert isinstance(prepared.exception(PATIENCE), CAUnavailable)
        assert isinstance(site.begin().exception(PATIENCE), CAUnavailable)


class TestTurns:
    """Preparations have places of their own."""

    def test_one_whose_turn_has_not_come(self, narrow: Site) -> None:
        """A request does not wait for its turn, but orders; who waited for it hears how that ended."""
        narrow.hold()
        running, queued = narrow.issuances.prepare(OTHER), narrow.begin()
        settle(narrow.time.loop)
        assert len(narrow.issuance.preparations) == 2
        held, narrow.session.held = narrow.session.held, None
        assert held is not None
        narrow.until(narrow.issue(make_request()))
        assert narrow.counts == [2, 1, 1]
        assert queued.result(PATIENCE) is None
        assert len(narrow.issuance.preparations) == 1
        narrow.session.say(NEW_ORDER, CAUnavailable("down"))
        in_loop(narrow.time.loop, held.set)
        with pytest.raises(AcmeException):  # the order that the CA answers with is for the other name
            narrow.until(running)
        settle(narrow.time.loop)
        assert narrow.counts == [2, 1, 1]

    def test_too_many(self, narrow: Site) -> None:
        """Who finds no place is told so: the order is placed when the CSR comes."""
        narrow.hold()
        several = [
            narrow.issuances.prepare(
                PreparationRequest((Identifier.dns(f"{name}.example.org"),), [], narrow.storage)
            )
            for name in "abc"
        ]
        settle(narrow.time.loop)
        assert [each.done() and type(each.exception()) for each in several] == [False, False, QueueFull]

    def test_what_they_use(self, site: Site) -> None:
        """A reload keeps the listeners of their verifications."""
        site.hold()
        site.begin()
        settle(site.time.loop)
        assert site.issuances.uses(site.validator)
        assert not site.issuances.uses(FakeValidator())


class AtAnotherServer:
    """Another server is at everything, for ever."""

    recovered = ()
    is_certain = False

    def __init__(self) -> None:
        self.claimed = threading.Event()

    @property
    def sharing(self) -> Self:
        return self

    def claim(self, *_: object) -> Future[OrderClaim]:
        self.claimed.set()
        future: Future[OrderClaim] = Future()
        future.set_result(OrderClaim(is_elsewhere=True))
        return future

    def intend(self, *_: object) -> None:
        raise NotImplementedError

    def issued(self, *_: object, soon: bool = True) -> Future[None]:
        raise NotImplementedError

    def end(self, identity: str) -> None:
        pass

    def forget(self, identity: str) -> None:
        raise NotImplementedError


class TestStop:
    """A server that stops begins nothing, and does not wait for others."""

    def test_what_has_not_begun(self, narrow: Site) -> None:
        """Who waits for it is told so, and so is who comes later; what runs goes on."""
        narrow.hold()
        running, queued = narrow.begin(), narrow.issuances.prepare(OTHER)
        settle(narrow.time.loop)
        narrow.issuance.drain(narrow.time.loop.clock.deadline(0))
        assert isinstance(queued.exception(PATIENCE), CAUnavailable)
        assert isinstance(narrow.begin().exception(PATIENCE), CAUnavailable)
        narrow.release()
        narrow.until(running)

    def test_what_another_server_is_at(self) -> None:
        """It waits no longer."""
        memory = AtAnotherServer()
        site = Site(memory=memory)
        prepared = site.begin()
        wait_for(memory.claimed)
        site.issuance.preparations.close()
        site.time.move(1)
        assert isinstance(prepared.exception(PATIENCE), CAUnavailable)
        site.close()


class TestIssuers:
    """Not each issuer has something to prepare, and not each can."""

    def test_one_that_needs_no_proof(self) -> None:
        """It is done at once."""
        site = Site(Authority)
        assert site.begin().result(0) is None
        site.close()

    def test_where_the_first_cannot(self) -> None:
        """The second prepares it, and the request goes there, too."""
        first = Site()
        second = Site(identity=IssuerIdentity("https://b.example.org/directory", None))
        issuances = Issuances({"": first.issuance, "b": second.issuance}, first.time.loop.clock)
        first.session.say(NEW_ORDER, CAUnavailable("down"))
        names = PreparationRequest(NAMES, [second.validator], second.storage, issuers=("", "b"))
        until(issuances.prepare(names), first, second)
        first.issuance.breaker.note(None)
        first.session.say(NEW_ORDER, Said(order(), {"Location": ORDER}))
        accepted = AcceptedRequest(make_request(), [second.validator], second.storage, issuers=("", "b"))
        until(issuances.issue(accepted), first, second)
        assert (first.counts[0], second.counts) == (1, [1, 1, 1])
        first.close()
        second.close()

    def test_only_who_needs_it_tries_a_ca(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names that the first has prepared are no try of the second, whose turn to be tried has come."""
        monkeypatch.setattr(breaker, "FIRST_SECONDS", 0.0)
        first = Site()
        second = Site(identity=IssuerIdentity("https://b.example.org/directory", None))
        issuances = Issuances({"": first.issuance, "b": second.issuance}, first.time.loop.clock)
        second.issuance.breaker.trip()
        names = PreparationRequest(NAMES, [first.validator], first.storage, issuers=("", "b"))
        until(issuances.prepare(names), first, second)
        assert second.issuance.breaker.admit()
        first.close()
        second.close()
