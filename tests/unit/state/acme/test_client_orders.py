"""The orders of ACME clients: how they may change, and that of changes at the same time one counts."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.sharing import count

from acmems.state.acme import orders as order_records
from acmems.state.acme.certificates import AccountCertificate, AccountCertificates
from acmems.state.acme.order import ClientAuthorization, ClientChallenge, ClientOrder, OrderedName
from acmems.state.acme.orders import ClientOrders
from acmems.state.acme.statuses import (
    AUTHORIZATION_STEPS,
    CHALLENGE_STEPS,
    ORDER_STEPS,
    ClientAuthorizationStatus,
    ClientChallengeStatus,
    ClientOrderStatus,
)
from acmems.state.engines.contract import Change, Database
from acmems.x509.identifiers import IdentifierType

PENDING, VALID, INVALID = (ClientChallengeStatus(each) for each in ("pending", "valid", "invalid"))
GRANTED = ClientAuthorizationStatus.VALID


def authorization(
    value: str = "A.example.org", status: ClientAuthorizationStatus = ClientAuthorizationStatus.PENDING
) -> ClientAuthorization:
    name = OrderedName(IdentifierType.DNS, value)
    challenges = (ClientChallenge("http-01"), ClientChallenge("dns-01"))
    return ClientAuthorization(name, "token", challenges, status)


def order(
    *authorizations: ClientAuthorization, name: str = "o", account: str = "a", at: int = 1000
) -> ClientOrder:
    each = authorizations or (authorization(),)
    return ClientOrder(
        id=name,
        account=account,
        names=tuple(one.name for one in each),
        authorizations=each,
        created=at,
        expires=at + 100,
        block="b",
        client="192.0.2.1",
    )


READY = order(authorization(status=GRANTED)).begun()


class Writer:
    """In the place of a database: what becomes of changes is said by the test."""

    is_shared = False

    def __init__(self, write: Callable[[], Future[ClientOrder]]) -> None:
        self._write = write

    def write(self, _: Change[Any]) -> Future[ClientOrder]:
        return self._write()

    @classmethod
    def orders(cls, write: Callable[[], Future[ClientOrder]]) -> ClientOrders:
        return ClientOrders(cast("Database", cls(write)))


class TestSteps:
    """What an order becomes."""

    def test_it_is_ready_with_its_last_authorization(self) -> None:
        """Not before, and in the same change; the challenges that were not needed stay as they are."""
        begun = order(authorization(), authorization("b.example.org")).begun()
        assert begun.status is ClientOrderStatus.PENDING
        for index in (0, 1):
            assert begun.status is ClientOrderStatus.PENDING
            each = begun.authorizations[index]
            done = replace(each.challenges[0], status=VALID, validated=1)
            begun = begun.with_authorization(index, each.with_challenge(done))
        assert begun.status is ClientOrderStatus.READY
        assert [each.status for each in begun.authorizations[0].challenges] == [VALID, PENDING]

    def test_one_failed_challenge_ends_it(self) -> None:
        """With the error of the challenge."""
        each = authorization()
        failed = ClientChallenge("dns-01", INVALID, None, '{"type": "dns"}')
        ended = order(each, authorization("b.example.org")).with_authorization(0, each.with_challenge(failed))
        assert (ended.status, ended.error) == (ClientOrderStatus.INVALID, '{"type": "dns"}')
        assert ended.authorizations[0].status is ClientAuthorizationStatus.INVALID

    def test_deactivating_ends_what_is_not_finalized(self) -> None:
        """What is finalized goes on."""
        gone = READY.authorizations[0].become(ClientAuthorizationStatus.DEACTIVATED)
        assert READY.with_authorization(0, gone).status is ClientOrderStatus.INVALID
        processing = READY.finalize(b"csr", 1, "b")
        assert processing.with_authorization(0, gone).status is ClientOrderStatus.PROCESSING

    def test_what_was_finalized_is_never_ready_again(self) -> None:
        """Nor finalized again; and what has ended does not change."""
        processing = READY.finalize(b"csr", 1, "b")
        assert processing.status is ClientOrderStatus.PROCESSING
        assert processing.begun().status is ClientOrderStatus.PROCESSING
        assert processing.finalize(b"another", 2, "b") is processing
        issued = processing.issue("f", 5000)
        assert (issued.status, issued.certificate, issued.expires) == (ClientOrderStatus.VALID, "f", 5000)
        assert issued.fail("{}") is issued
        assert processing.fail("{}").issue("f", 1).status is ClientOrderStatus.INVALID
        assert order().finalize(b"csr", 1, "b").status is ClientOrderStatus.PENDING

    def test_the_tables_are_those_of_the_rfc(self) -> None:
        """RFC 8555 section 7.1.6; every status has its row, and what has ended leads nowhere."""
        for steps in (ORDER_STEPS, AUTHORIZATION_STEPS, CHALLENGE_STEPS):
            assert {*itertools.chain.from_iterable(steps.values())} <= steps.keys()
        assert [each for each in ORDER_STEPS if not ORDER_STEPS[each]] == ["valid", "invalid"]
        assert ORDER_STEPS[ClientOrderStatus.PROCESSING] == {"valid", "invalid"}
        waiting = ClientChallenge("http-01")
        assert waiting.become(VALID) is waiting, "it must be tried first"
        assert waiting.become(ClientChallengeStatus.PROCESSING).become(VALID, at=5).validated == 5


@pytest.fixture
def orders(database: Database) -> ClientOrders:
    return ClientOrders(database)


class TestKeeping:
    """What is in the state."""

    def test_what_is_kept_comes_back(self, orders: ClientOrders, database: Database) -> None:
        """As it was, whoever reads it."""
        kept = replace(READY, profile="short", replaces="x.y").finalize(b"csr", 7, "b").fail('{"a": "ü"}')
        orders.put(kept).result(20)
        for each in (orders, ClientOrders(database)):
            assert each.find("o") == kept
            assert each.find("p") is None
        assert b"csr" not in repr(kept).encode()

    def test_of_two_changes_one_counts(self, orders: ClientOrders, database: Database) -> None:
        """Two servers finalize the same order with different requests: both see the same one afterwards."""
        orders.put(READY).result(20)
        others = ClientOrders(database)
        changed = [
            orders.change("o", lambda order: order.finalize(b"one", 1, "b")),
            others.change("o", lambda order: order.finalize(b"two", 1, "b")),
        ]
        first, second = (each.result(20) for each in changed)
        assert first == second
        assert first is not None
        assert first.csr == b"one"
        assert orders.change("none", lambda order: order).result(20) is None

    def test_what_belongs_together_is_written_together(
        self, orders: ClientOrders, database: Database
    ) -> None:
        """An order and whose certificate it has brought; what it has replaced is not replaced by another."""
        certificates = AccountCertificates(database)
        orders.put(READY.finalize(b"csr", 1, "b")).result(20)
        mine = AccountCertificate("f", "a", "aki.serial", 2000)
        orders.change(
            "o",
            lambda order: order.issue("f", 1500),
            lambda transaction, _: certificates.put(transaction, mine),
        ).result(20)
        assert certificates.named("aki.serial", "a") == mine
        assert certificates.named("aki.serial", "b") is None
        assert certificates.is_owned("f", "a")
        assert not certificates.is_owned("f", "b")
        for name in ("o2", "o3"):
            replace_it = functools.partial(certificates.replace, name="aki.serial", account="a", order=name)
            database.write(replace_it).result(20)
        found = certificates.named("aki.serial", "a")
        assert found is not None
        assert found.replaced_by == "o2"
        certificates.forget(2000)
        database.check().result(20)
        assert count(database, "acme_certificates") == 0

    def test_an_account_has_a_bounded_number_of_open_orders(self, database: Database) -> None:
        """The oldest give way; what was finalized stays, and so does what another account has."""
        orders = ClientOrders(database, most_unfinished=3)
        orders.put(order(name="other", account="b")).result(20)
        orders.put(replace(READY, id="final").finalize(b"csr", 1, "b")).result(20)
        for number in range(5):
            made = order(name=f"o{number}", at=1000 + number)
            orders.put(made if number != 3 else made.fail("{}")).result(20)
        found = [each.id for each in orders.of_account("a", 1000)]
        assert found == ["final", "o2", "o3", "o4"]
        assert [each.id for each in orders.of_account("a", 1000, after="o2", most=1)] == ["o3"]
        assert [each.id for each in orders.of_account("b", 1000)] == ["other"]

    def test_finalized_orders_of_an_account_are_bounded(self, database: Database) -> None:
        """An account that gets a stored chain again and again fills no disk: its newest orders are kept."""
        orders = ClientOrders(database, most_unfinished=3, most_finalized=2)
        orders.put(replace(READY, id="other", account="b").finalize(b"csr", 1, "b")).result(20)
        for number in range(5):
            made = replace(READY, id=f"o{number}").finalize(b"csr", 1000 + number, "b")
            orders.put(made if number % 2 else made.issue("f", 1)).result(20)
        orders.put(replace(READY, id="open")).result(20)
        orders.forget(1000)
        database.write(lambda _: None).result(20)
        assert [each.id for each in orders.of_account("a", 1000)] == ["o3", "o4", "open"]
        assert [each.id for each in orders.of_account("b", 1000)] == ["other"]

    def test_who_is_told_of_a_change_finds_it(self) -> None:
        """Memory has it before anybody hears that it was written."""
        written, told = Future[ClientOrder](), list[bool]()
        written.add_done_callback(lambda _: told.append(done.done()))
        done = Writer.orders(lambda: written).put(order())
        written.set_result(order())
        assert told == [False]
        assert done.result(0) == order()

    def test_a_thread_that_is_held_up(self) -> None:
        """What memory has is the newest of an order, though whoever wrote that went on first."""
        changes = iter([READY, READY.finalize(b"csr", 1, "b")])
        others: list[threading.Thread] = []

        def write() -> Future[ClientOrder]:
            future: Future[ClientOrder] = Future()
            future.set_result(next(changes))
            if not others:
                others.append(threading.Thread(target=known.put, args=(order(),)))
                others[0].start()
                others[0].join(0.1)  # as long as it takes: only what is wrong needs so much
            return future

        known = Writer.orders(write)
        known.put(order())
        others[0].join(20)
        newest = known.known("o")
        assert newest is not None
        assert newest.status is ClientOrderStatus.PROCESSING

    def test_memory_is_bounded_by_names(self, orders: ClientOrders, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that changed last stay in it; all of them are in the state."""
        monkeypatch.setattr(order_records, "MOST_REMEMBERED", 5)
        pair = (authorization("a.example.org"), authorization("b.example.org"))
        for number in range(3):
            orders.put(order(*pair, name=f"o{number}")).result(20)
        orders.change("o1", lambda each: each.fail("{}")).result(20)
        orders.put(order(name="o3")).result(20)
        known = [number for number in range(4) if orders.known(f"o{number}") is not None]
        assert known in ([1, 2, 3], []), "nothing is, where others may change it"
        assert all(orders.find(f"o{number}") is not None for number in range(4))

    def test_what_has_expired_is_forgotten(self, orders: ClientOrders, database: Database) -> None:
        """From memory as well."""
        orders.put(order(name="old", at=0)).result(20)
        orders.put(order(name="new", at=100)).result(20)
        assert [each.id for each in orders.of_account("a", 100)] == ["new"]
        orders.forget(100)
        database.check().result(20)
        assert (orders.find("old"), count(database, "acme_orders")) == (None, 1)

    def test_a_certificate_is_replaced_by_what_is_not_invalid(self, orders: ClientOrders) -> None:
        """Nor by what has expired, nor for another account."""
        orders.put(replace(READY, replaces="c")).result(20)
        assert orders.replacing("c", "a", 1000) == ["o"]
        assert orders.replacing("c", "b", 1000) == []
        assert orders.replacing("c", "a", 1100) == []
        orders.change("o", lambda order: order.fail("{}")).result(20)
        assert orders.replacing("c", "a", 1000) == []
