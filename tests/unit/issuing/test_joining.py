"""Several who ask at once: who joins whose issuance, and how many issuances run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request
from tests.issuing import IDENTITY, House, Memory, wait_for
from tests.peers import wait_until

from acmems.exceptions import (
    AccountError,
    AcmeException,
    CAProtocolError,
    CAUnavailable,
    CertificateUnusable,
    ChallengeFailed,
    DeadlinePassed,
    InvalidDomainName,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    RateLimited,
    StorageUnavailable,
    ValidatorUnavailable,
)
from acmems.issuing.requests import AcceptedRequest as Accepted
from acmems.issuing.requests import Delivery
from acmems.x509.csr import CertificateRequest

CURVE = ec.SECP256R1()
RequestOf = Callable[..., Accepted]


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA works."""
    made = House()
    yield made
    made.close()


class TestTurns:
    """How many issuances run at once."""

    def test_issuances_over_the_limit_wait_for_their_turn(self) -> None:
        """Further issuances wait for their turn, and get it in the order of their arrival."""
        house = House(most_at_once=8)
        house.authority.go.clear()
        requests = [make_request() for _ in range(6)]
        futures = [house.begin(request) for request in requests]
        wait_until(lambda: len(house.authority.orders) == 2, "two orders")
        house.authority.go.set()
        assert [future.result(30).source for future in futures] == ["issued"] * 6
        assert house.authority.orders[:2] == requests[:2]
        assert len(house.authority.orders) == 6
        house.close()

    def test_a_failed_issuance_lets_the_next_one_begin(self) -> None:
        """An issuance that fails, for whatever reason, lets the next one begin."""
        house = House(most_at_once=1)
        for error in (CAUnavailable("down"), KeyError("a bug")):
            house.authority.error = error
            failed = house.begin(make_request(f"{type(error).__name__.lower()}.example.org"))
            assert isinstance(failed.exception(30), type(error))
        house.authority.error = None
        assert house.ask(make_request()).source == "issued"
        house.close()


class TestJoining:
    """Who asks for what is being issued gets it, and it is kept where that client's chains are."""

    def test_a_joined_chain_is_stored_in_both_storages(self, house: House) -> None:
        """A chain that two wait for is stored in the storages of both."""
        other, key = Memory("other"), ec.generate_private_key(CURVE)
        house.authority.go.clear()
        first = house.begin(make_request(key=key))
        second = house.begin(make_request(key=key), other)
        house.authority.go.set()
        assert (first.result(30).source, second.result(30).source) == ("issued", "joined")
        assert first.result(0).chain == second.result(0).chain
        assert house.storage.chains == other.chains != {}

    def test_joining_during_storing_stores_in_the_other_storage_too(self, house: House) -> None:
        """Who joins with another storage while the first one is written to has the chain there as well."""
        other, key = Memory("other"), ec.generate_private_key(CURVE)
        house.ask(make_request())  # the storage has been checked
        house.storage.batches.clear()
        house.storage.write.clear()
        first = house.begin(make_request(key=key))
        wait_until(lambda: bool(house.storage.batches), "the chain is being stored")
        second = house.begin(make_request(key=key), other)
        house.storage.write.set()
        assert first.result(30).chain == second.result(30).chain
        assert house.ask(make_request(key=key), other).source == "stored"
        assert len(house.authority.orders) == 2

    def test_every_joiner_has_the_chain_in_its_own_storage(self, house: House) -> None:
        """However many join, one after the other and each with a storage of its own, all are stored."""
        key = ec.generate_private_key(CURVE)
        storages = [Memory(f"storage {number}") for number in range(8)]
        futures: list[Future[Delivery]] = []

        def join_next() -> None:
            if len(futures) < len(storages):
                futures.append(house.begin(make_request(key=key), storages[len(futures)]))

        for storage in storages:
            storage.store_hook = join_next
        join_next()
        wait_until(lambda: len(futures) == 8 and all(future.done() for future in futures), "the end")
        assert len(house.authority.orders) == 1
        assert len({future.result().chain.serial for future in futures}) == 1
        assert all(storage.chains for storage in storages)

    def test_a_request_that_missed_the_stored_chain_gets_the_one_just_issued(self, house: House) -> None:
        """Who has looked in vain, and comes to ask when the same has just been issued, gets that."""
        with self.looking_in_vain(house) as late:
            assert house.ask(late.request).source == "issued"
        assert late.outcome().source == "stored"
        assert len(house.authority.orders) == 1

    def test_no_request_misses_both_an_issuance_and_its_result(self, house: House) -> None:
        """Whoever does not find the issuance any more sees that one has ended, however short after it."""
        with self.looking_in_vain(house) as late:

            class Gate:
                """In the place of the lock: lets the other ask as soon as the issuance is not found."""

                def __init__(self, lock: threading.Lock) -> None:
                    self.lock = lock

                def __enter__(self) -> None:
                    self.lock.acquire()

                def __exit__(self, *_: object) -> None:
                    self.lock.release()
                    if house.storage.chains and not house.issuance._table and not late.go_on.is_set():
                        late.go_on.set()
                        wait_for(late.has_asked)

            house.issuance._table._lock = Gate(house.issuance._table._lock)  # type: ignore[assignment]  # as far as it is used
            assert house.ask(late.request).source == "issued"
        assert late.outcome().source == "stored"
        assert len(house.authority.orders) == 1

    @staticmethod
    @contextlib.contextmanager
    def looking_in_vain(house: House) -> Iterator[Late]:
        """Have somebody find nothing stored, and go on to ask at the end of this."""
        late = Late(house)
        late.thread.start()
        wait_for(late.has_looked)
        yield late
        late.go_on.set()
        late.thread.join(30)


class TestMistakes:
    """Who has joined gets the certificate of the one that was first, but not its mistakes."""

    @pytest.fixture
    def request_of(self) -> RequestOf:
        """A maker of requests for one name and key, by auth block."""
        key = ec.generate_private_key(CURVE)

        def make(
            block: str, storage: Memory | None = None, request: CertificateRequest | None = None
        ) -> Accepted:
            return Accepted(request or make_request(key=key), (), storage or Memory(block), block=block)

        return make

    @staticmethod
    def join(house: House, *asked: Accepted) -> list[Future[Delivery]]:
        """Ask while the CA works on the first of these."""
        house.authority.go.clear()
        futures = [house.issuance.issue(each) for each in asked]
        wait_until(lambda: len(house.authority.orders) == 1, "the order")
        return futures

    @pytest.mark.parametrize(
        "error",
        [
            ChallengeFailed("a.example.org", "no route", ""),
            ValidatorUnavailable("no DNS"),
            DeadlinePassed("slow DNS"),
            NoChallengeMethodsSupported("no dns-01"),
            CertificateUnusable("another name"),
            RateLimited("enough"),
            KeyError("a bug"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.threat("issuing", "mistakes of others")
    def test_what_belongs_to_the_first_block(
        self, house: House, request_of: RequestOf, error: Exception
    ) -> None:
        """Those of another block get a try of their own, once the first is over; they share that again."""
        first, *others = self.join(house, *(request_of(block) for block in ("A", "B", "A", "B", "C")))
        orders: list[int] = []
        house.authority.errors = [error]
        house.authority.began = lambda: orders.append(len(house.issuance._table))
        house.authority.go.set()
        assert isinstance(first.exception(30), type(error))
        assert isinstance(others[1].exception(30), type(error))
        assert [others[number].result(30).source for number in (0, 2, 3)] == ["issued", "joined", "joined"]
        assert len(house.authority.orders) == 2
        assert orders == [1]  # never two for the same

    @pytest.mark.parametrize(
        "error",
        [
            CAUnavailable("down"),
            AccountError("deactivated"),
            RateLimited("enough", is_overall=True),
            InvalidDomainName("a.example.org", "forbidden"),
            PayloadInvalid("a weak key"),  # the same CSR
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_what_belongs_to_everybody(
        self, house: House, request_of: RequestOf, error: AcmeException
    ) -> None:
        """What would be the answer to another try is everybody's, at once."""
        futures = self.join(house, request_of("A"), request_of("B"))
        house.authority.error = error
        house.authority.go.set()
        assert [type(future.exception(30)) for future in futures] == [type(error)] * 2
        assert len(house.authority.orders) == 1

    def test_a_pause_of_the_first_block(self, request_of: RequestOf) -> None:
        """Who is paused keeps nobody of another block from his try."""
        house = House(most_at_once=1)
        house.issuance.pauses.note(request_of("A"), CAProtocolError("nonsense"))
        (busy,) = self.join(house, Accepted(make_request("busy.example.org"), (), house.storage, block="A"))
        futures = [house.issuance.issue(request_of(block)) for block in ("A", "B")]
        house.authority.go.set()
        assert busy.result(30).source == "issued"
        assert isinstance(futures[0].exception(30), CAProtocolError)
        assert futures[1].result(30).source == "issued"
        house.close()

    def test_a_storage_of_the_first_block(self, house: House, request_of: RequestOf) -> None:
        """A storage that cannot be written to stops those who keep their chains there."""
        full = Memory("full", check_error=StorageUnavailable("full"))
        full.write.clear()
        futures = [house.issuance.issue(request_of("A", full)), house.issuance.issue(request_of("B"))]
        wait_until(lambda: full.checks == 1, "the storage is tried")
        full.write.set()
        assert isinstance(futures[0].exception(30), StorageUnavailable)
        assert futures[1].result(30).source == "issued"

    def test_a_corrected_csr(self, house: House, request_of: RequestOf) -> None:
        """Another CSR of the same block, for the same names and key, gets its own try."""
        key = ec.generate_private_key(CURVE)
        names = ("a.example.org", "b.example.org")
        bad, good = make_request(*names, key=key), make_request(*reversed(names), key=key)
        futures = self.join(house, request_of("A", None, bad), request_of("A", None, good))
        house.authority.errors = [PayloadInvalid("names out of order")]
        house.authority.go.set()
        assert isinstance(futures[0].exception(30), PayloadInvalid)
        assert futures[1].result(30).source == "issued"

    def test_each_has_its_own_stored_chain(self, house: House, request_of: RequestOf) -> None:
        """In the place of an error each gets the chain that is in its own storage, if it is valid."""
        request = make_request()
        stored, empty = Memory("stored"), Memory("empty")
        stored.chains[request.key_digest] = make_chain(request, days=3)
        futures = self.join(house, request_of("A", empty, request), request_of("B", stored, request))
        house.authority.error = CAUnavailable("down")
        house.authority.go.set()
        assert isinstance(futures[0].exception(30), CAUnavailable)
        assert futures[1].result(30).source == "stale"

    def test_a_chain_is_stored_for_those_who_have_left(self, house: House, request_of: RequestOf) -> None:
        """Who has stopped waiting for a try that failed finds the chain of the next one."""
        left = request_of("A")
        (late,) = self.join(house, left)
        house.pass_time(110)
        assert isinstance(late.exception(30), DeadlinePassed)
        other = house.issuance.issue(request_of("B"))
        house.authority.errors = [ValidatorUnavailable("no DNS")]
        house.authority.go.set()
        assert other.result(30).source == "issued"
        assert left.storage.find(left.request, IDENTITY) == other.result().chain


class Late:
    """Somebody who is held up between looking for a stored chain and asking for one."""

    def __init__(self, house: House) -> None:
        self.request = make_request()
        self.has_looked, self.go_on, self.has_asked = (threading.Event() for _ in range(3))
        self.thread = threading.Thread(target=self._ask)
        self._house = house
        self._futures: list[Future[Delivery]] = []

    def outcome(self) -> Delivery:
        return self._futures[0].result(30)

    def _ask(self) -> None:
        self._house.storage.find_hook = self._after_looking
        self._futures.append(self._house.begin(self.request))
        self.has_asked.set()

    def _after_looking(self) -> None:
        self._house.storage.find_hook = lambda: None
        self.has_looked.set()
        wait_for(self.go_on)
