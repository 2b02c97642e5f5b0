"""One accepted request becomes one chain: stored, joined, kept, stale, refused for a while."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.chains import make_chain, make_request
from tests.issuing import House, KnownChains, Memory
from tests.peers import wait_until

from acmems.events import FailedEvent, IssuedEvent
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    CertificateUnusable,
    ChallengeFailed,
    ClocksDiffer,
    InvalidDomainName,
    LimitReached,
    PayloadInvalid,
    RateLimited,
    StorageUnavailable,
)
from acmems.issuing.kept import KeptChains
from acmems.issuing.requests import Delivery
from acmems.storages import NoStorage
from acmems.x509.chain import Chain

CURVE = ec.SECP256R1()
ADMINISTRATORS = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "system:masters")])


@pytest.fixture
def house() -> Iterator[House]:
    """An issuance whose CA works."""
    made = House()
    yield made
    made.close()


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
        key = ec.generate_private_key(CURVE)
        house.authority.go.clear()
        futures = [house.begin(make_request("a.example.org", key=key)) for _ in range(20)]
        house.authority.go.set()
        deliveries = [future.result(30) for future in futures]
        assert len(house.authority.orders) == 1
        assert {delivery.source for delivery in deliveries} <= {"issued", "joined"}
        assert sum(isinstance(event, IssuedEvent) for event in house.events) == 1

    def test_other_names_are_another_order(self, house: House) -> None:
        """The same key with other names is another issuance."""
        key = ec.generate_private_key(CURVE)
        nothing = NoStorage("none")
        house.ask(make_request("a.example.org", key=key), nothing)
        house.ask(make_request("b.example.org", key=key), nothing)
        assert len(house.authority.orders) == 2

    @pytest.mark.parametrize(
        "error",
        [
            CAUnavailable("down"),
            LimitReached("full", limit="orders", subject="", used=5, most=5, retry_after=3600.0),
        ],
        ids=["the CA is failing", "a limit of the CA is used up"],
    )
    def test_a_valid_chain_outlives(self, house: House, error: AcmeException) -> None:
        """A stored chain that is due for renewal but valid is delivered where there is none."""
        request = make_request()
        first = house.ask(request)
        house.storage.renew_within = datetime.timedelta(days=3650)
        short = make_short(first.chain)
        house.storage.chains[request.key_digest] = short
        house.authority.error = error
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
        fingerprint=chain.fingerprint,
    )


class TestKept:
    """Nothing issued is lost."""

    @pytest.mark.threat("disk", "a storage that cannot be written")
    def test_a_storage_that_cannot_be_written_costs_no_certificate(self, house: House) -> None:
        """Where the test write fails, nothing is ordered."""
        house.storage.check_error = StorageUnavailable("not writable")
        with pytest.raises(StorageUnavailable):
            house.ask(make_request())
        assert house.authority.orders == []

    @pytest.mark.threat("disk", "a disk that is full")
    def test_a_full_disk_costs_no_certificate(self, house: House) -> None:
        """Where storing fails the client gets its chain, so does the next one, and storing is tried again."""
        house.storage.store_error = StorageUnavailable("disk full")
        request = make_request()
        first = house.ask(request)
        assert house.ask(request).chain == first.chain
        assert len(house.authority.orders) == 1
        house.storage.store_error = None
        house.issuance.save_kept()
        assert house.storage.chains[request.key_digest] == first.chain

    def test_a_bug_of_a_storage_costs_no_certificate(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whatever a storage raises, the client gets its chain, and storing is tried again."""
        house.storage.store_error = KeyError("a bug")
        request = make_request()
        first = house.ask(request)
        assert first.source == "issued"
        assert "KeyError" in caplog.text
        house.issuance.save_kept()
        house.storage.store_error = None
        house.issuance.save_kept()
        assert house.storage.chains == {request.key_digest: first.chain}

    def test_a_full_storage_gets_the_chain_later(self, house: House) -> None:
        """What one storage did not take is stored there later; the other has it at once."""
        full, key = Memory("full", store_error=StorageUnavailable("full")), ec.generate_private_key(CURVE)
        house.authority.go.clear()
        futures = [house.begin(make_request(key=key), storage) for storage in (full, house.storage)]
        house.authority.go.set()
        chain = futures[1].result(30).chain
        assert (list(full.chains.values()), list(house.storage.chains.values())) == ([], [chain])
        assert [event.stage for event in house.events if isinstance(event, FailedEvent)] == ["store"]
        full.store_error = None
        house.issuance.save_kept()
        assert (list(full.chains.values()), house.storage.batches) == ([chain], [1])

    def test_a_revoked_chain_is_not_stored_later(self, house: House) -> None:
        """A chain that could not be stored is forgotten when it is revoked, and neither stored nor sent."""
        history = KnownChains()
        house.issuance._history = history
        request = make_request()
        house.storage.store_error = StorageUnavailable("disk full")
        revoked = house.ask(request).chain
        history.revoked.add(revoked.fingerprint)
        house.storage.store_error = None
        house.issuance.save_kept()
        assert house.storage.chains == {}
        assert house.issuance.workload.unsaved == 0
        assert house.ask(request).chain != revoked

    def test_an_older_chain_never_replaces_a_newer_one(self, house: House) -> None:
        """A chain that could not be stored is forgotten once a newer one for the same is stored."""
        request = make_request()
        house.storage.store_error = StorageUnavailable("disk full")
        house.authority.days = 20  # of ninety: it is due for renewal at once
        older = house.ask(request)
        house.storage.store_error = None
        house.authority.days = 90
        newer = house.ask(request)
        assert older.chain != newer.chain
        house.issuance.save_kept()
        assert house.storage.chains == {request.key_digest: newer.chain}

    def test_a_newer_chain_is_not_forgotten_for_an_older_one(self, house: House) -> None:
        """A chain that cannot be stored stays in memory, though an older one is stored at that moment."""
        request = make_request()
        house.storage.store_error = StorageUnavailable("disk full")
        house.authority.days = 20
        house.ask(request)
        newer: list[Delivery] = []

        def ask_meanwhile() -> None:
            house.storage.store_hook = lambda: None
            house.authority.days = 90
            newer.append(house.ask(request))
            house.storage.store_error = None

        house.storage.store_hook = ask_meanwhile
        house.issuance.save_kept()
        assert house.ask(request).chain == newer[0].chain
        house.issuance.save_kept()
        assert house.storage.chains == {request.key_digest: newer[0].chain}

    def test_the_oldest_of_too_many_kept_chains_is_given_up(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Memory is bounded: the oldest of too many chains that nothing else keeps is given up."""
        monkeypatch.setattr(KeptChains, "MOST_KEPT", 2)
        house.storage.store_error = StorageUnavailable("disk full")
        requests = [make_request() for _ in range(3)]
        for request in requests:
            house.ask(request)
        assert [house.ask(request).source for request in reversed(requests)] == ["stored", "stored", "issued"]

    def test_a_client_that_hung_up_finds_its_chain(self, house: House) -> None:
        """What nobody was left to take is kept for the next request, once."""
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

    @pytest.mark.threat("ca", "another certificate")
    def test_what_policy_has_not_seen_pauses_for_long(self, house: House) -> None:
        """A CA that signs more than names is not asked again for an hour, and nothing of it is kept."""
        house.authority.subject = ADMINISTRATORS
        request = make_request()
        for _ in range(2):
            with pytest.raises(CertificateUnusable, match="O=system:masters") as caught:
                house.ask(request)
            assert caught.value.retry_after == 3600
        assert house.storage.chains == {}
        house.time.seconds += 3599
        with pytest.raises(CertificateUnusable):
            house.ask(request)
        assert len(house.authority.orders) == 1

    def test_a_subject_is_delivered_where_that_is_configured(self) -> None:
        """What a subject may hold is said to the issuance."""
        house = House(subject="any")
        house.authority.subject = ADMINISTRATORS
        assert house.ask(make_request()).source == "issued"
        house.close()

    @pytest.mark.threat("ca", "another certificate")
    def test_an_added_name_is_delivered_to_whom_it_is_granted(self, house: House) -> None:
        """A chain with a name that the CA has added goes to those whose block grants that name only."""
        house.authority.names = ["a.example.org", "www.a.example.org"]
        request = make_request("a.example.org")
        house.authority.go.clear()
        granted = house.begin(request, grants=lambda _: True)
        joined = house.begin(request)
        house.authority.go.set()
        assert granted.result(30).source == "issued"
        with pytest.raises(CertificateUnusable, match=r"www\.a\.example\.org"):
            joined.result(30)
        assert house.ask(request, grants=lambda _: True).source == "stored"
        with pytest.raises(CertificateUnusable, match=r"www\.a\.example\.org"):
            house.ask(request)


class TestClocks:
    """A wrong clock burns nothing."""

    @pytest.mark.threat("ca", "a wrong clock")
    @pytest.mark.parametrize("days", [200, -1], ids=["not valid yet", "expired"])
    def test_what_fails_by_time_alone_is_kept(
        self, house: House, days: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A new chain that is not valid by our clock is delivered and stored, and ordered once an hour."""
        house.authority.days = days
        request = make_request()
        assert house.ask(request).source == "issued"
        assert "one of the clocks is wrong; the certificate is delivered all the same" in caplog.text
        assert request.key_digest in house.storage.chains
        house.time.seconds += 3599
        if days > 0:  # by a clock that is behind: whatever the CA issued is good by the CA's clock
            assert house.ask(request).source == "stale"
        else:
            with pytest.raises(CertificateUnusable, match="one of the clocks is wrong"):
                house.ask(request)
        assert len(house.authority.orders) == 1

    @pytest.mark.threat("ca", "a wrong clock")
    def test_a_stored_chain_is_judged_by_the_clock_of_the_ca(self, house: House) -> None:
        """While the clocks differ, a stored chain is delivered as long as it is valid by the CA's clock."""
        request = make_request()
        house.storage.chains[request.key_digest] = make_chain(request, days=-1)
        now = datetime.datetime.now(datetime.UTC)
        house.authority.error = ClocksDiffer(now, now - datetime.timedelta(days=2))
        assert house.ask(request).source == "stale"
        house.authority.error = ClocksDiffer(now, now + datetime.timedelta(days=2))
        with pytest.raises(ClocksDiffer):
            house.ask(request)


class TestProtection:
    """One broken client does not burn the CA's limits."""

    @pytest.mark.parametrize(
        "error",
        [ChallengeFailed("a.example.org", "no route", ""), RateLimited("enough", retry_after=60)],
        ids=lambda error: type(error).__name__,
    )
    def test_failures_are_answered_from_memory_during_their_pause(
        self, house: House, error: AcmeException
    ) -> None:
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
        """A name that the CA does not accept is not tried again for another key either."""
        house.authority.error = InvalidDomainName("a.example.org", "forbidden")
        with pytest.raises(InvalidDomainName):
            house.ask(make_request("a.example.org"))
        house.authority.error = None
        with pytest.raises(InvalidDomainName):
            house.ask(make_request("a.example.org", "b.example.org"))
        assert house.ask(make_request("b.example.org")).source == "issued"

    def test_each_failure_of_a_name_doubles_its_pause(self, house: House) -> None:
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

    def test_a_csr_that_the_ca_refused_is_not_sent_again(self, house: House) -> None:
        """A refused CSR pauses, and so does one that is made in the same way; a corrected one does not."""
        key = ec.generate_private_key(CURVE)
        house.authority.error = PayloadInvalid("the CA does not accept the CSR")
        names = ("a.example.org", "b.example.org")
        for _ in range(2):  # ECDSA signatures differ
            with pytest.raises(PayloadInvalid):
                house.ask(make_request(*names, key=key))
        assert len(house.authority.orders) == 1
        house.authority.error = None
        assert house.ask(make_request(*reversed(names), key=key), NoStorage("none")).source == "issued"
        with pytest.raises(PayloadInvalid):
            house.ask(make_request(*names, key=key))

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

    def test_a_compromised_key_gets_no_certificate(self, house: House) -> None:
        """A CSR for a key that was reported as compromised is refused, whatever is stored; others are not."""
        request, other = make_request(), make_request()
        house.ask(request)
        history = KnownChains()
        history.compromised.add(request.key_digest)
        house.issuance._history = history
        with pytest.raises(PayloadInvalid, match="make a new key"):
            house.ask(request)
        assert house.ask(other).source == "issued"

    def test_a_bug_reaches_whoever_waits(self, house: House) -> None:
        """An unforeseen error ends the wait of every client, and the next order is placed after a pause."""
        house.authority.error = KeyError("a bug")
        request = make_request()
        with pytest.raises(KeyError):
            house.ask(request)
        house.authority.error = None
        with pytest.raises(AcmeException, match="KeyError"):
            house.ask(request)
        assert len(house.authority.orders) == 1
        house.time.seconds += 31
        assert house.ask(request).source == "issued"


class TestClosing:
    """A server that stops begins nothing, and keeps nobody waiting."""

    def test_a_stop_refuses_requests_that_have_not_begun(self) -> None:
        """What runs goes on to its end; what waits for its turn, or comes now, is told to ask again."""
        house = House(most_at_once=1)
        house.authority.go.clear()
        first, second = house.begin(make_request()), house.begin(make_request())
        wait_until(lambda: bool(house.authority.orders), "the first order")
        house.issuance.close(house.time.clock().deadline(0))
        error = second.exception(30)
        assert isinstance(error, CAUnavailable)
        assert error.retry_after
        with pytest.raises(CAUnavailable, match="stopping"):
            house.begin(make_request())
        house.authority.go.set()
        assert first.result(30).source == "issued"
        house.close()

    def test_a_closed_issuer_refuses_all_requests(self, house: House) -> None:
        """Where the issuer's loop is closed, those who wait for it, or come later, are told to ask again."""
        house.authority.go.clear()
        futures = [house.begin(make_request()) for _ in range(2)]
        wait_until(lambda: len(house.authority.orders) == 2, "two orders")
        house.loop.close()
        request = make_request()
        futures += [house.begin(request), house.begin(request)]
        assert [type(future.exception(30)) for future in futures] == [CAUnavailable] * 4

    def test_a_stop_still_delivers_stored_chains(self, house: House) -> None:
        """A stored chain needs no order, so a stop does not keep it back."""
        request = make_request()
        first = house.ask(request)
        house.issuance.close(house.time.clock().deadline(0))
        assert house.ask(request).chain == first.chain


class TestHealth:
    """An issuance that hangs takes the place of another; without places nothing is issued."""

    def test_issuances_that_hang(self) -> None:
        """While a client has a place left it is healthy; when none is it is not, until one gets on."""
        house = House(most_at_once=12)
        house.authority.go.clear()
        waiting = [house.begin(make_request(f"{number}.example.org")) for number in range(2)]
        wait_until(lambda: len(house.authority.orders) == 2, "two run")
        house.time.seconds += house.issuance.work_seconds + house.issuance.HANGING_SECONDS + 1
        assert house.issuance.is_healthy()
        waiting.append(house.begin(make_request("last.example.org")))
        wait_until(lambda: len(house.authority.orders) == 3, "three run")
        assert house.issuance.is_healthy()
        house.time.seconds += house.issuance.work_seconds + house.issuance.HANGING_SECONDS + 1
        assert not house.issuance.is_healthy()
        house.authority.go.set()
        for future in waiting:
            future.exception(30)
        wait_until(house.issuance.is_healthy, "it is healthy again")
        house.close()
