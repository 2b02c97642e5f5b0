"""What the last process has left unfinished is finished, as far as policy still grants it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.auth_blocks import OneOfEach
from tests.fake_ca import make_request
from tests.issuing import IDENTITY, House

from acmems.auth import Block
from acmems.auth.processor import Authenticator
from acmems.exceptions import CAUnavailable
from acmems.frontends.delivery import SigningPolicy
from acmems.frontends.history import RecordedHistory
from acmems.frontends.resumption import Resumption
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.state.orders import OrderRecords
from acmems.storages import NoStorage, Storage
from acmems.system.clock import SYSTEM
from acmems.x509.chain import Chain
from acmems.x509.csr import CertificateRequest

NOW = datetime.datetime.now(datetime.UTC)
NAME = "left.example.org"
DOMAINS = (("all", "yes"), ("domain", "*.example.org"))


class LastProcess:
    """A state with one open order, and the house of the next process."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.database = database
        self.records = OrderRecords(database)
        self.chains = ChainRecords(database)
        self.history = RecordedHistory(self.chains, IDENTITY, SYSTEM)
        self.house = House(memory=self.records, history=self.history)
        self.request = make_request(NAME)
        self.leave(self.request)

    def leave(self, request: CertificateRequest, identity: str | None = None) -> None:
        """Leave an order for a request."""
        identity = identity or self.house.issuance.key(request).digest
        self.records.intend(identity, request.pem, "b", NOW)
        end = NOW + datetime.timedelta(days=1)
        self.records.opened(identity, "account", "https://ca.example/order/1", end).result()

    def record_of(self, chain: Chain) -> ChainRecord:
        """Return the note of a chain that was issued a day before the order began."""
        return ChainRecord.of(
            chain,
            identity=self.house.issuance.key(self.request).digest,
            directory=IDENTITY.directory,
            profile=IDENTITY.profile,
            issued=NOW - datetime.timedelta(days=1),
        )

    def restart(self, *pairs: tuple[str, str], name: str = "b", storage: Storage | None = None) -> None:
        """Begin what is left, under a policy of one block, and wait for the end of it."""
        records = OrderRecords(self.database)
        self.house.issuance.claims.memory = records
        place = OneOfEach()
        place.default_storage = storage or self.house.storage
        auth = Authenticator((Block(name, pairs or DOMAINS, place),))
        policy = SigningPolicy(auth, 60.0, "dropped")
        self.resumption = Resumption(
            records,
            lambda: policy,
            self.house.issuances,
            lambda _: self.history,
            clock=self.house.time.clock(),
        )
        self.run()

    def run(self) -> None:
        """Take one turn, and wait for the end of what it has begun."""
        self.resumption.run()
        for future in self.resumption._running.values():
            future.exception(30)

    @property
    def left(self) -> int:
        """How many orders another restart would find."""
        return len(OrderRecords(self.database).recovered)


@pytest.fixture
def last(tmp_path: Path) -> Iterator[LastProcess]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    last = LastProcess(database)
    yield last
    last.house.close()
    database.close()


def test_an_order_is_finished(last: LastProcess) -> None:
    """Its chain is stored, and the order is forgotten; the client finds the chain."""
    last.restart()
    assert [request.names for request in last.house.authority.orders] == [(NAME,)]
    assert last.left == 0
    assert last.house.ask(last.request).source == "stored"


def test_a_chain_that_was_stored_already(last: LastProcess) -> None:
    """Where only the note was left, nothing is ordered."""
    last.house.issuance.claims.memory = last.house.issuance.claims.history = None
    chain = last.house.ask(last.request).chain
    last.restart()
    assert len(last.house.authority.orders) == 1
    assert last.left == 0
    (found,) = last.chains.find(chain.fingerprint)  # though the last process could not note it any more
    assert (found.block, found.client, found.order_url) == ("b", None, "https://ca.example/order/1")


def test_an_order_to_renew_a_fresh_chain(last: LastProcess) -> None:
    """Where a chain was stored before the order began, the order is for a newer one, and is finished."""
    claims = last.house.issuance.claims
    history, claims.history, claims.memory = claims.history, None, None
    last.chains.adopt([last.record_of(last.house.ask(last.request).chain)]).result()
    claims.history = history
    last.restart()
    assert len(last.house.authority.orders) == 2
    assert last.left == 0


@pytest.mark.parametrize(
    ("pairs", "name", "reason"),
    [
        (DOMAINS, "other", "there is no [auth 'b'] any more"),
        ((("all", "yes"), ("domain", "*.example.net")), "b", "does not grant left.example.org any more"),
    ],
)
def test_what_policy_no_longer_grants(
    last: LastProcess,
    pairs: tuple[tuple[str, str], ...],
    name: str,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A block that is gone, or that no longer grants the name, gets no certificate."""
    last.restart(*pairs, name=name)
    assert last.house.authority.orders == []
    assert last.left == 0
    assert reason in caplog.text


def test_an_order_at_another_ca(last: LastProcess, caplog: pytest.LogCaptureFixture) -> None:
    """What was ordered from another CA is not ordered from this one in its place."""
    last.leave(last.request, "an identity of before")
    last.restart()
    assert "another CA" in caplog.text
    assert len(last.house.authority.orders) == 1
    assert last.left == 0


def test_a_ca_that_is_down(last: LastProcess) -> None:
    """The order stays, and is finished when the CA is back."""
    last.house.authority.error = CAUnavailable("down")
    last.restart()
    assert last.left == 1
    last.house.authority.error = None
    last.run()
    assert last.left == 1  # it is not tried again at once
    last.house.time.seconds += Resumption.RETRY_SECONDS
    last.run()
    assert last.left == 0


def test_a_storage_that_keeps_nothing(last: LastProcess) -> None:
    """The chain is kept in memory, and the order is remembered, until a client has taken it."""
    nothing = NoStorage("none")
    last.restart(storage=nothing)
    assert last.left == 1
    assert last.house.ask(last.request, nothing).source == "stored"
    assert last.left == 0
