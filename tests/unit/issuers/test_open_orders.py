"""Orders that were open when the server ended, and what is remembered of new ones."""

from __future__ import annotations

import datetime
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from tests.fake_ca import (
    AUTHORIZATION,
    CERTIFICATE,
    CHAIN,
    CHALLENGE,
    EPOCH,
    FINALIZE,
    NEW_ORDER,
    ORDER,
    Time,
    authorization,
    order,
    problem,
)
from tests.ordering import CSR, PLACED, Desk

from acmems.exceptions import (
    CAProblem,
    CAUnavailable,
    ChallengeFailed,
    DeadlinePassed,
    FateUnknown,
    LeaseLost,
    StateUnavailable,
)
from acmems.issuers.acme.orders.open_orders import OpenOrders

ACCOUNT = "https://ca.example/account/1"


@dataclass
class Recovered:
    identity: str = "key"
    account: str = ACCOUNT
    url: str = ORDER
    expires: datetime.datetime = EPOCH + datetime.timedelta(days=1)
    is_prepared: bool = False


@dataclass
class Others:
    """What other servers have made of the orders.

    Attributes:
        order: what they have left.
        takes_over: after how many looks another one has it; None: never.
    """

    order: Recovered | None = None
    takes_over: int | None = None

    def found(self, identity: str) -> Recovered | None:
        assert identity == "key"
        return self.order

    def held(self, identity: str) -> Future[None]:
        future: Future[None] = Future()
        if self.takes_over is None:
            future.set_result(None)
            return future
        self.takes_over -= 1
        if self.takes_over >= 0:
            future.set_result(None)
        else:
            future.set_exception(LeaseLost(identity))
        return future


@dataclass
class Memory:
    """Remembers at once, or fails as told."""

    recovered: tuple[Recovered, ...] = ()
    errors: list[Exception | None] = field(default_factory=list)
    opened_urls: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    sharing: Others | None = None
    taken: list[tuple[str, str]] = field(default_factory=list)

    def take(
        self, prepared: str, identity: str, account: str, url: str, expires: datetime.datetime
    ) -> Future[None]:
        self.taken.append((prepared, identity))
        return self.opened(identity, account, url, expires)

    def opened(self, identity: str, account: str, url: str, expires: datetime.datetime) -> Future[None]:
        assert account == ACCOUNT
        assert expires > EPOCH
        self.opened_urls.append(url)
        future: Future[None] = Future()
        error = self.errors.pop(0) if self.errors else None
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
        return future

    def forget(self, identity: str) -> None:
        self.forgotten.append(identity)


def desk(memory: Memory) -> Desk:
    time = Time()
    return Desk(open_orders=OpenOrders(time.clock(), ACCOUNT, memory))


class TestRecovered:
    """The next process goes on where the last one ended, wherever that was."""

    @pytest.mark.parametrize(
        ("status", "finalizes"), [("valid", 0), ("processing", 0), ("ready", 1), ("pending", 1)]
    )
    def test_an_order(self, status: str, finalizes: int) -> None:
        """Whatever state the CA has it in, it is finished, and no other is placed."""
        memory = Memory((Recovered(),))
        at = desk(memory)
        looks = 1 if status in {"processing", "pending"} else 10
        at.say(ORDER, *[order(status)] * looks, order("valid"))
        assert at.obtain() == CHAIN
        assert (at.count(NEW_ORDER), at.count(FINALIZE)) == (0, finalizes)
        assert memory.forgotten == []  # before the chain is safe

    def test_one_that_the_ca_has_ended(self) -> None:
        """It is forgotten, and a new one takes its place."""
        memory = Memory((Recovered(),))
        at = desk(memory)
        at.say(ORDER, order("invalid"))
        at.say(FINALIZE, order("valid"))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 1
        assert memory.forgotten == ["key"]

    def test_one_whose_proof_the_ca_did_not_find(self) -> None:
        """The CA came while the server was down: that is no fault of the name, so another order is placed."""
        memory = Memory((Recovered(),))
        at = desk(memory)
        at.say(ORDER, order("pending"))
        at.say(AUTHORIZATION, authorization("invalid"), authorization("valid"))
        assert at.obtain() == CHAIN
        assert (at.count(NEW_ORDER), memory.forgotten) == (1, ["key"])
        at.say(NEW_ORDER, PLACED)
        at.say(AUTHORIZATION, authorization("invalid"))
        with pytest.raises(ChallengeFailed):
            at.obtain()
        assert at.count(NEW_ORDER) == 2

    def test_one_that_the_ca_does_not_show(self) -> None:
        """There may be a certificate, so that it is not given up for an odd answer."""
        memory = Memory((Recovered(),))
        at = desk(memory)
        at.say(ORDER, problem("malformed", status=404))
        with pytest.raises(CAProblem):
            at.obtain()
        at.say(ORDER, order("valid"))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 0
        assert memory.forgotten == []

    @pytest.mark.parametrize("years", [-50, 50])
    def test_one_that_was_noted_by_a_wrong_clock(self, years: int) -> None:
        """Whether it has expired the CA knows: a certificate that exists is downloaded."""
        expires = EPOCH.replace(year=EPOCH.year + years)
        at = desk(Memory((Recovered(expires=expires),)))
        at.say(ORDER, order("valid"))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 0

    def test_one_that_has_expired(self) -> None:
        """Where the CA does not show it either, another is placed."""
        memory = Memory((Recovered(expires=EPOCH - datetime.timedelta(days=1)),))
        at = desk(memory)
        at.say(ORDER, *[problem("malformed", status=404)] * 5, order("ready"))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 1

    def test_one_of_another_account(self) -> None:
        """What another account has ordered is none of this one's business."""
        at = desk(Memory((Recovered(account="another"),)))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 1


class TestNoted:
    """A new order is remembered before anything is done for it."""

    def test_it_is_remembered_until_its_chain_is_safe(self) -> None:
        """Whoever keeps the chain says when it is safe."""
        memory = Memory()
        assert desk(memory).obtain() == CHAIN
        assert (memory.opened_urls, memory.forgotten) == ([ORDER], [])

    def test_one_that_cannot_be_remembered(self) -> None:
        """It is not finalized, stays open, and is finished once it can be remembered."""
        memory = Memory(errors=[StateUnavailable("full"), StateUnavailable("full")])  # it is tried twice
        at = desk(memory)
        at.say(ORDER, order("ready"))
        with pytest.raises(StateUnavailable):
            at.obtain()
        assert at.count(FINALIZE) == 0
        assert at.obtain() == CHAIN
        assert (at.count(NEW_ORDER), at.count(FINALIZE), at.count(CERTIFICATE)) == (1, 1, 1)

    def test_one_that_fails(self) -> None:
        """An order that is of no use is forgotten."""
        memory = Memory()
        at = desk(memory)
        at.say(NEW_ORDER, PLACED)
        at.say(FINALIZE, problem("badCSR", status=400))
        with pytest.raises(Exception, match="CSR"):
            at.obtain()
        assert memory.forgotten == ["key"]


class TestShared:
    """What other servers have left counts, and not what is known here."""

    def test_an_order_that_another_has_left(self) -> None:
        """It is gone on with, wherever it was left."""
        at = desk(Memory(sharing=Others(Recovered())))
        at.say(ORDER, order("processing"), order("valid"))
        assert at.obtain() == CHAIN
        assert (at.count(NEW_ORDER), at.count(FINALIZE)) == (0, 0)

    def test_an_order_that_another_has_finished(self) -> None:
        """It is not gone on with here."""
        others = Others()
        at = desk(Memory((Recovered(),), sharing=others))
        assert at.obtain() == CHAIN
        assert (at.count(NEW_ORDER), at.count(ORDER)) == (1, 0)

    def test_an_order_of_before(self) -> None:
        """Where another server may have been at it, it is read as if nothing was known of it."""
        others = Others()
        memory = Memory(sharing=others)
        at = desk(memory)
        at.say(NEW_ORDER, PLACED)
        at.say(AUTHORIZATION, authorization("pending"))
        with pytest.raises(DeadlinePassed):
            at.obtain(seconds=5)
        others.order = Recovered()
        at.say(ORDER, order("ready"), order("valid"))  # the other one may just have finalized it
        assert at.obtain() == CHAIN
        assert (at.count(NEW_ORDER), at.count(FINALIZE)) == (1, 0)

    def test_an_order_that_could_not_be_noted(self) -> None:
        """Nobody else can have taken it over: it is noted now, and gone on with."""
        memory = Memory(errors=[StateUnavailable("away"), StateUnavailable("away")], sharing=Others())
        at = desk(memory)
        at.say(NEW_ORDER, PLACED)
        with pytest.raises(StateUnavailable):
            at.obtain()
        at.say(ORDER, order("ready"), order("valid"))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 1
        assert len(memory.opened_urls) == 3

    def test_an_order_of_another_account(self) -> None:
        """It is left alone."""
        at = desk(Memory(sharing=Others(Recovered(account="another"))))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 1

    @pytest.mark.parametrize(("looks", "presented"), [(0, 0), (1, 1)])
    def test_an_order_that_is_taken_over(self, looks: int, presented: int) -> None:
        """Nothing is presented or finalized for it any more, and it is not forgotten."""
        memory = Memory(sharing=Others(takes_over=looks))
        at = desk(memory)
        at.say(NEW_ORDER, PLACED)
        at.say(AUTHORIZATION, authorization("pending"), authorization("valid"))
        with pytest.raises(LeaseLost):
            at.obtain()
        assert (at.count(CHALLENGE), at.count(FINALIZE)) == (presented, 0)
        assert memory.forgotten == []


class TestPrepared:
    """What was prepared is taken by a request for its names, and noted as its own before the CSR is sent."""

    @staticmethod
    def take(at: Desk) -> bytes:
        steps = at.ordering.obtain(CSR, [at.validator], at.time.within(60), "key", prepared="names")
        return at.loop.run(steps).pem

    @staticmethod
    def prepare(at: Desk) -> None:
        steps = at.ordering.prepare(CSR.identifiers, [at.validator], at.time.within(60), "names")
        at.loop.run(steps)

    @pytest.mark.parametrize(("later", "looks"), [(0, 0), (61, 1)])
    def test_by_this_process(self, later: float, looks: int) -> None:
        """The CA is asked for no other order, and not for its state if that was seen a moment ago."""
        memory = Memory()
        at = desk(memory)
        self.prepare(at)
        at.time.seconds += later
        at.say(ORDER, order("ready"))
        assert self.take(at) == CHAIN
        assert (memory.opened_urls, memory.taken) == ([ORDER, ORDER], [("names", "key")])
        assert [at.count(url) for url in (NEW_ORDER, ORDER, FINALIZE)] == [1, looks, 1]

    def test_by_the_last_process(self) -> None:
        """No CSR can have been sent, so that none is waited for."""
        at = desk(Memory((Recovered("names", is_prepared=True),)))
        at.say(ORDER, order("ready"))
        assert self.take(at) == CHAIN
        assert [at.count(url) for url in (NEW_ORDER, ORDER, FINALIZE)] == [0, 1, 1]

    def test_by_another_server(self) -> None:
        """The claim has taken it already."""
        memory = Memory(sharing=Others(Recovered(is_prepared=True)))
        at = desk(memory)
        at.say(ORDER, order("ready"))
        assert self.take(at) == CHAIN
        assert [at.count(url) for url in (NEW_ORDER, ORDER, FINALIZE)] == [0, 1, 1]
        assert memory.taken == []

    def test_that_could_not_be_noted_as_taken(self) -> None:
        """No CSR is sent for what a crash would lose."""
        memory = Memory()
        at = desk(memory)
        self.prepare(at)
        at.say(ORDER, order("ready"))
        memory.errors = [StateUnavailable("full"), StateUnavailable("full")]
        with pytest.raises(StateUnavailable):
            self.take(at)
        assert at.count(FINALIZE) == 0
        assert self.take(at) == CHAIN
        assert at.count(NEW_ORDER) == 1

    def test_whose_finalize_was_lost(self) -> None:
        """From then on it belongs to that request, as any order."""
        at = desk(Memory())
        self.prepare(at)
        at.say(ORDER, order("processing"))
        at.say(FINALIZE, FateUnknown("lost"))
        with pytest.raises(DeadlinePassed):
            self.take(at)
        at.say(ORDER, order("valid"))
        assert self.take(at) == CHAIN
        assert [at.count(url) for url in (NEW_ORDER, FINALIZE)] == [1, 1]

    def test_whose_finalize_was_lost_a_moment_ago(self) -> None:
        """It was ready then, and may be finalized by now: the CSR is not sent again without a look."""
        at = desk(Memory())
        self.prepare(at)
        at.say(FINALIZE, FateUnknown("lost"))
        at.say(ORDER, CAUnavailable("down"))
        with pytest.raises(CAUnavailable):
            self.take(at)
        at.say(ORDER, order("valid"))
        assert self.take(at) == CHAIN
        assert [at.count(url) for url in (NEW_ORDER, FINALIZE)] == [1, 1]

    def test_that_cannot_be_noted_at_all(self) -> None:
        """Then it is not prepared: a crash would lose it."""
        at = desk(Memory(errors=[StateUnavailable("full"), StateUnavailable("full")]))
        with pytest.raises(StateUnavailable):
            self.prepare(at)


class TestAccount:
    """Orders belong to an account, whatever its key."""

    OTHER = "https://ca.example/account/2"

    def test_only_its_own_are_taken_in(self) -> None:
        """Those of another account are left for that."""
        memory = Memory((Recovered(), Recovered("other", self.OTHER)))
        orders = OpenOrders(Time().clock(), memory=memory)
        assert orders.get("key") is None
        orders.belong_to(ACCOUNT)
        assert orders.get("key") is not None
        assert orders.get("other") is None
        orders.belong_to(self.OTHER)
        assert orders.get("key") is None
        assert orders.get("other") is not None

    def test_an_account_that_is_told_again(self) -> None:
        """What has happened to its orders since is not forgotten."""
        orders = OpenOrders(Time().clock(), ACCOUNT, Memory((Recovered(),)))
        known = orders.get("key")
        orders.belong_to(ACCOUNT)
        assert orders.get("key") is known

    def test_a_proof_by_an_old_key(self) -> None:
        """Where the CA came for a proof by a key that was changed meanwhile, another order is placed."""
        memory = Memory()
        orders = OpenOrders(Time().clock(), ACCOUNT, memory)
        at = Desk(open_orders=orders)
        at.say(AUTHORIZATION, CAUnavailable("down"))
        with pytest.raises(CAUnavailable):
            at.obtain()
        orders.note_new_key()
        at.say(ORDER, order("pending"))
        at.say(AUTHORIZATION, authorization("invalid"), authorization("valid"))
        assert at.obtain() == CHAIN
        assert at.count(NEW_ORDER) == 2
