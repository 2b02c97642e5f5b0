"""What the state knows of chains, whatever storage delivers them."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chains import make_request
from tests.issuing import IDENTITY, House

from acmems.events import AnsweredEvent, DeliveredEvent
from acmems.frontends.history import DeliveryNotes, RecordedHistory
from acmems.state.chains import ChainRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import NoStorage, digest_of
from acmems.system.clock import Clock

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
REQUEST = make_request("a.example.org")


class Recording:
    """A house whose chains are noted."""

    def __init__(self, path: Path) -> None:
        self.database = SqliteDatabase.open(path)
        self.records = ChainRecords(self.database)
        self.history = RecordedHistory(self.records, IDENTITY, Clock(now=lambda: NOW))
        self.house = House(history=self.history)

    def close(self) -> None:
        self.house.close()
        self.database.close()


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    with contextlib.closing(Recording(tmp_path / "state.sqlite")) as recording:
        yield recording


def test_a_chain_that_is_issued(recording: Recording) -> None:
    """It is noted with who asked, though its storage keeps nothing; the next change writes it."""
    accepted = recording.house.accept(
        REQUEST, storage=NoStorage("nothing"), block="block", client="192.0.2.1", reference="abc"
    )
    chain = recording.house.issuance.issue(accepted).result(30).chain
    recording.database.write(lambda _: None).result(30)
    found = recording.records.newest(digest_of(REQUEST, IDENTITY))
    assert found is not None
    assert (found.pem, found.csr, found.issued) == (chain.pem, REQUEST.pem, NOW)
    assert (found.block, found.storage, found.client, found.reference) == (
        "block",
        "nothing",
        "192.0.2.1",
        "abc",
    )


def test_a_chain_that_is_delivered(recording: Recording) -> None:
    """Each delivery is counted; other answers are not."""
    chain = recording.house.ask(REQUEST).chain
    notes = DeliveryNotes(recording.records, Clock(now=lambda: NOW))
    for client in ("192.0.2.1", "192.0.2.2"):
        notes(
            DeliveredEvent(
                reference="-",
                client=client,
                status=200,
                source="stored",
                seconds=0.1,
                fingerprint=chain.fingerprint,
            )
        )
    notes(AnsweredEvent(reference="-", client="192.0.2.3", status=200))
    recording.records.save_asked()
    recording.database.write(lambda _: None).result(30)
    (found,) = recording.records.find(chain.fingerprint)
    assert (found.asked, found.asked_by, found.last_asked) == (2, "192.0.2.2", NOW)


@pytest.mark.parametrize("is_stale", [False, True], ids=["fresh", "while the CA fails"])
def test_a_revoked_chain_in_another_storage(recording: Recording, *, is_stale: bool) -> None:
    """It is not delivered from there either: another one is ordered, or there is none."""
    house = recording.house
    first = house.ask(REQUEST).chain
    recording.records.revoking(first.fingerprint, "keyCompromise").result(30)
    if is_stale:
        house.authority.error = RuntimeError("down")
        with pytest.raises(RuntimeError):
            house.ask(REQUEST)
    else:
        second = house.ask(REQUEST)
        assert second.source == "issued"
        assert second.chain.fingerprint != first.fingerprint
    assert len(house.authority.orders) == 2
