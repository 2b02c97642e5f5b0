"""The steps of orders that come together: each finds what concerns it, and keeps its place."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import threading
from collections.abc import Iterator

import pytest
from tests.sharing import CHAIN, LATER, NOW, URL, Sharer, count, settle

from acmems.exceptions import AcmeException, LeaseLost
from acmems.state.engines.contract import Transaction
from acmems.state.limits.pauses import PauseRecord
from acmems.state.orders import OrderRecord, select_orders
from acmems.state.sharing.together import OrderClaim, OrderTaking


def claim_of(sharer: Sharer, identity: str) -> OrderClaim:
    return sharer.orders.claim(identity, (), lambda _: True).result(20)


@contextlib.contextmanager
def held_up(sharer: Sharer) -> Iterator[threading.Event]:
    """Let the writer of a node wait, so that what comes meanwhile comes together, until the event is set."""
    entered, go = threading.Event(), threading.Event()

    def wait(_: Transaction) -> None:
        entered.set()
        assert go.wait(3)  # a transaction may take only so long

    sharer.database.write(wait)
    assert entered.wait(20)
    yield go
    settle(sharer)


def opened_orders(sharer: Sharer) -> tuple[OrderRecord, ...]:
    return sharer.database.read(lambda found: select_orders(found, "WHERE url IS NOT NULL ORDER BY identity"))


def test_many_at_the_same_time(nodes: list[Sharer]) -> None:
    """Each finds what concerns it, and nothing of the others."""
    first, second, _ = nodes
    assert claim_of(first, "one").is_mine
    first.orders.issued("one", CHAIN).result(20)
    assert second.orders.claim("elsewhere", (), lambda _: True).result(20).is_mine
    first.pauses.put(PauseRecord("name:a", AcmeException("no"), 1, 30.0, 30.0))
    settle(first)
    with held_up(first) as go:
        futures = {
            identity: first.orders.claim(identity, subjects, lambda _: True)
            for identity, subjects in {
                "one": ("name:b",),
                "elsewhere": ("name:b",),
                "paused": ("name:b", "name:a"),
                "free": ("name:b",),
                "another": (),
            }.items()
        }
        go.set()
    found = {identity: each.result(20) for identity, each in futures.items()}
    assert found["one"].chain is not None
    assert [identity for identity, each in found.items() if each.is_elsewhere] == ["elsewhere"]
    assert [identity for identity, each in found.items() if each.is_mine] == ["free", "another"]
    paused = [(identity, pause.subject) for identity, each in found.items() for pause in each.pauses]
    assert paused == [("paused", "name:a")]
    assert count(first.database, "leases") == 3
    orders = (("free", f"{URL}/free"), ("another", f"{URL}/another"))
    for identity, _ in orders:
        first.orders.intend(identity, b"csr", "block", NOW)
    with held_up(first) as go:
        opened = [first.orders.opened(identity, "account", url, LATER) for identity, url in orders]
        go.set()
    for each in opened:
        each.result(20)
    assert {each.identity: each.url for each in opened_orders(second)} == dict(orders)
    chains = [dataclasses.replace(CHAIN, fingerprint=identity, identity=identity) for identity, _ in orders]
    with held_up(first) as go:
        issued = [first.orders.issued(each.identity, each) for each in chains]
        go.set()
    for each in issued:
        each.result(20)
    assert opened_orders(second) == ()
    assert count(second.database, "leases") == 1
    for identity, url in orders:
        known = claim_of(second, identity).chain
        assert known is not None
        assert (known.fingerprint, known.order_url) == (identity, url)


def test_one_of_them_is_lost(nodes: list[Sharer]) -> None:
    """What a node writes for several is written for those that are its own still."""
    first, second, _ = nodes
    for identity in ("lost", "kept"):
        assert claim_of(first, identity).is_mine
        first.orders.intend(identity, b"csr", "block", NOW)
    first.die()
    assert claim_of(second, "lost").is_mine
    with held_up(first) as go:
        lost, kept = (
            first.orders.opened(identity, "account", f"{URL}/{identity}", LATER)
            for identity in ("lost", "kept")
        )
        go.set()
    kept.result(20)
    with pytest.raises(LeaseLost):
        lost.result(20)
    assert [each.identity for each in opened_orders(second)] == ["kept"]
    with held_up(first) as go:
        kept = first.orders.issued("kept", dataclasses.replace(CHAIN, identity="kept"))
        lost = first.orders.issued("lost", dataclasses.replace(CHAIN, identity="lost", fingerprint="f2"))
        go.set()
    kept.result(20)
    with pytest.raises(LeaseLost):
        lost.result(20)
    assert count(second.database, "chains") == 1


def test_the_newest_of_several_chains(nodes: list[Sharer]) -> None:
    """Chains that are kept together supersede those of their own identity, and no others."""
    first, second, _ = nodes
    for moment, number in ((NOW, 1), (NOW + datetime.timedelta(seconds=5), 2)):
        for identity in ("one", "two"):
            assert first.orders.claim(identity, (), lambda _: False).result(20).is_mine
        with held_up(first) as go:
            issued = [
                first.orders.issued(
                    identity,
                    dataclasses.replace(
                        CHAIN, identity=identity, fingerprint=f"{identity}{number}", issued=moment
                    ),
                )
                for identity in ("one", "two")
            ]
            go.set()
        for each in issued:
            each.result(20)
    select = "SELECT fingerprint FROM chains WHERE superseded IS NULL ORDER BY fingerprint"
    current = second.database.read(lambda found: found.execute(select).fetchall())
    assert [name for (name,) in current] == ["one2", "two2"]
    assert [claim_of(second, identity).newest for identity in ("one", "two")] == ["one2", "two2"]


def test_behind_an_earlier_change(nodes: list[Sharer]) -> None:
    """What is written to an order comes after what was to be written to it, whatever comes together."""
    first, second, _ = nodes
    for identity in ("one", "two"):
        assert claim_of(first, identity).is_mine
        first.orders.intend(identity, b"csr", "block", NOW)
    first.orders.opened("one", "account", f"{URL}/old", LATER).result(20)
    with held_up(first) as go:
        first.orders.opened("two", "account", f"{URL}/two", LATER)
        first.orders.forget("one")
        opened = first.orders.opened("one", "account", f"{URL}/new", LATER)
        go.set()
    opened.result(20)
    assert {each.url for each in opened_orders(second)} == {f"{URL}/two", f"{URL}/new"}
    with held_up(first) as go:
        first.orders.claim("three", (), lambda _: True)
        first.orders.end("one")
        again = first.orders.claim("one", (), lambda _: True)
        go.set()
    assert again.result(20).is_mine
    assert not claim_of(second, "one").is_mine


def test_an_order_that_is_being_prepared(nodes: list[Sharer]) -> None:
    """Who wants it finds it, although the claims of others have come before it was noted."""
    first, second, _ = nodes
    assert claim_of(first, "prepared").is_mine
    first.orders.intend("prepared", b"", None, NOW)
    with held_up(first) as go:
        first.orders.claim("another", (), lambda _: True)
        first.orders.opened("prepared", "account", URL, LATER)
        first.orders.end("prepared")
        taking = OrderTaking("prepared", b"csr", "block")
        claimed = first.orders.claim("one", (), lambda _: True, taking)
        go.set()
    assert claimed.result(20).is_mine
    found = first.orders.found("one")
    assert found is not None
    assert found.url == URL
    assert [each.identity for each in opened_orders(second)] == ["one"]
