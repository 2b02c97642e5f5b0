"""What goes on when a client's time is over: the work for it, and who gets its result."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request
from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHALLENGE,
    FINALIZE,
    KEY,
    NEW_ORDER,
    NO_JOURNAL,
    ORDER,
    FakeSession,
    FakeValidator,
    Said,
    authorization,
    order,
)
from tests.issuing import IDENTITY, House, Memory
from tests.steps import LoopTime, settle, wait_for

from acmems.challenges import Proof, Validator
from acmems.challenges.presented.proofs import PresentedProofs
from acmems.events import Bus
from acmems.exceptions import ChallengeFailed, DeadlinePassed
from acmems.issuers.acme.ordering import Ordering
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuers.acme.proving import Proving
from acmems.issuing.issuance import Issuance
from acmems.issuing.requests import AcceptedRequest
from acmems.storages import NoStorage
from acmems.system.clock import Deadline
from acmems.system.steps import StepLoop, Steps
from acmems.x509.chain import OfferedChain
from acmems.x509.csr import CertificateRequest

SECONDS = 110.0  # that a client waits, by default


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA does not decide before it is told to go."""
    made = House(most_at_once=1)
    made.authority.go.clear()
    yield made
    made.close()


class TestClients:
    """A client's time ends its wait, not the work."""

    def test_the_next_request_gets_the_certificate(self, house: House) -> None:
        """Who has waited in vain is told for how long and when to come again; the chain is then stored."""
        request = make_request()
        late = house.begin(request)
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(SECONDS)
        error = late.exception(30)
        assert isinstance(error, DeadlinePassed)
        assert error.retry_after
        assert "after 110 s" in str(error)
        house.authority.go.set()
        wait_for(lambda: bool(house.storage.chains))
        assert house.ask(request).source == "stored"
        assert len(house.authority.orders) == 1

    def test_the_next_request_joins(self, house: House) -> None:
        """Who asks again while the work goes on waits for it, and not less long."""
        request = make_request()
        late = house.begin(request)
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(SECONDS)
        assert late.exception(30)
        again = house.begin(request)
        house.pass_time(SECONDS - 1)
        assert not again.done()
        house.authority.go.set()
        assert again.result(30).source == "issued"
        assert len(house.authority.orders) == 1

    def test_everyone_has_a_time_of_its_own(self, house: House) -> None:
        """Who joined later waits longer."""
        request = make_request()
        first = house.begin(request)
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(60)
        second = house.begin(request)
        house.pass_time(50)
        assert first.exception(30)
        assert not second.done()
        house.pass_time(59)
        assert not second.done()
        house.pass_time(1)
        assert isinstance(second.exception(30), DeadlinePassed)

    def test_the_chain_is_kept_wherever_it_was_asked_for(self, house: House) -> None:
        """It is stored where those keep theirs who have stopped waiting, and in memory where nothing does."""
        other, nothing, key = Memory("other"), NoStorage("none"), ec.generate_private_key(ec.SECP256R1())
        request = make_request(key=key)
        late = [house.begin(request, storage) for storage in (house.storage, other, nothing)]
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(SECONDS)
        assert all(isinstance(each.exception(30), DeadlinePassed) for each in late)
        house.authority.go.set()
        wait_for(lambda: not house.issuance._table)
        assert other.chains == house.storage.chains != {}
        assert house.ask(request, nothing).source == "stored"
        assert len(house.authority.orders) == 1

    def test_a_renewal(self, house: House) -> None:
        """A client whose stored chain is valid gets that when its time is over."""
        request = make_request()
        house.storage.chains[request.key_digest] = make_chain(request, days=3)
        late = house.begin(request)
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(SECONDS)
        assert late.result(30).source == "stale"
        house.authority.go.set()
        wait_for(lambda: house.storage.chains[request.key_digest] != late.result().chain)

    def test_a_bug_of_a_storage(self, house: House) -> None:
        """Whatever the storage raises when a client's time is over, that client hears of it."""
        late = house.begin(make_request())
        wait_for(lambda: bool(house.authority.orders))
        house.storage.find_hook = dict[str, str]().popitem
        house.pass_time(SECONDS)
        assert isinstance(late.exception(30), KeyError)

    def test_a_failure_that_nobody_hears_is_logged(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What fails behind a 504 stands in the log, and the next request is told why."""
        request = make_request()
        late = house.begin(request)
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(SECONDS)
        assert late.exception(30)
        house.authority.error = ChallengeFailed("a.example.org", "no route", "")
        house.authority.go.set()
        wait_for(lambda: "no route" in caplog.text)
        assert isinstance(house.begin(request).exception(30), ChallengeFailed)
        assert len(house.authority.orders) == 1


class TestTurns:
    """What nobody waits for keeps nobody else from his turn."""

    def test_another_one_begins(self, house: House) -> None:
        """An issuance that nobody waits for any more takes no turn."""
        house.begin(make_request())
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(10)
        second = house.begin(make_request())
        settle(house.loop)
        assert len(house.authority.orders) == 1
        house.pass_time(SECONDS - 10)
        wait_for(lambda: len(house.authority.orders) == 2)
        house.authority.go.set()
        wait_for(second.done)
        wait_for(lambda: len(house.storage.chains) == 2)
        assert house.ask(make_request()).source == "issued"

    def test_not_too_many(self) -> None:
        """There is a limit to how many go on so."""
        house = House(most_at_once=1, most_behind=0)
        house.authority.go.clear()
        first = house.begin(make_request())
        wait_for(lambda: bool(house.authority.orders))
        house.begin(make_request())
        house.pass_time(SECONDS)
        assert first.exception(30)
        settle(house.loop)
        assert len(house.authority.orders) == 1
        house.close()

    def test_a_stop_does_not_wait_for_it(self, house: House) -> None:
        """To drain is to wait for what somebody waits for; the clock stands still, so else it would hang."""
        late = house.begin(make_request())
        wait_for(lambda: bool(house.authority.orders))
        house.pass_time(SECONDS)
        assert late.exception(30)
        house.issuance.drain(house.time.clock().deadline(30))


class AtTheCA:
    """Orders one name at a CA that is a table."""

    key_digest = account_url = preparing = alternates = None
    silence = 0.0

    def __init__(self, loop: StepLoop, session: FakeSession) -> None:
        self.loop = loop
        proving = Proving(session, KEY, loop, PresentedProofs(loop.clock, NO_JOURNAL))
        self.ordering = Ordering(session, proving, loop.clock)

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
        return self.ordering.obtain(request, validators, deadline, identity, terms)


class Slow(FakeValidator):
    """Its proofs are seen after five minutes, by the clock that a test moves."""

    is_immediate = False

    def __init__(self, time: LoopTime) -> None:
        super().__init__("http-01")
        self._seen_at = time.now + 300
        self.deadline: Deadline | None = None
        self.are_seen = threading.Event()

    def wait(self, proofs: Sequence[Proof], deadline: Deadline, stopping: threading.Event) -> None:
        """Wait, and be late where the deadline is earlier."""
        self.deadline = deadline
        assert deadline.at > self._seen_at
        assert self.are_seen.wait(30)


class TestSlowly:
    """What is slow ends in a certificate that the next request gets: one order, one proof, no failure."""

    @pytest.fixture
    def time(self) -> Iterator[LoopTime]:
        """Time that a test moves."""
        time = LoopTime()
        yield time
        time.loop.close()

    @pytest.mark.parametrize("slow", ["validation", "propagation"])
    def test_a_certificate_behind_a_504(self, time: LoopTime, slow: str) -> None:
        """The proof stays presented until the CA has decided, minutes after the client has got its 504."""
        request = make_request()
        pending = slow == "validation"
        session = FakeSession(
            {
                NEW_ORDER: [Said(order(), {"Location": ORDER})],
                AUTHORIZATION: [authorization()] if pending else [authorization(), authorization("valid")],
                CHALLENGE: [{}],
                FINALIZE: [order("valid")],
                CERTIFICATE: [Said(make_chain(request).pem)],
            }
        )
        validator = FakeValidator() if pending else Slow(time)
        storage = Memory()
        issuance = Issuance(AtTheCA(time.loop, session), IDENTITY, Bus(), clock=time.loop.clock)
        accepted = AcceptedRequest(request, [validator], storage)
        late = issuance.issue(accepted)
        wait_for(lambda: bool(validator.presented))
        time.move(SECONDS)
        assert isinstance(late.exception(30), DeadlinePassed)
        for _ in range(10):
            time.move(30)
        assert validator.withdrawn == []
        if isinstance(validator, Slow):
            validator.are_seen.set()
            wait_for(lambda: session.count(CHALLENGE) == 1)
        session.say(AUTHORIZATION, authorization("valid"))

        def is_stored() -> bool:
            time.move(0.5)  # little: what threads do takes real time, and the work has an end by this clock
            return bool(storage.chains)

        wait_for(is_stored)
        assert issuance.issue(accepted).result(30).source == "stored"
        assert validator.withdrawn == validator.presented
        assert len(validator.presented) == 1
        assert [session.count(url) for url in (NEW_ORDER, CHALLENGE, FINALIZE)] == [1, 1, 1]
