"""What those find who look at a state."""

from __future__ import annotations

import datetime
import itertools
from concurrent.futures import Future

import pytest

from acmems.state import overview as overviews
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.contract import Database
from acmems.state.orders import OrderRecords
from acmems.state.overview import StateOverview

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
NUMBERS = itertools.count(1)


@pytest.fixture
def overview(database: Database) -> StateOverview:
    return StateOverview(database)


def keep(
    database: Database, identity: str, end: datetime.datetime, block: str = "web", storage: str = "disk"
) -> str:
    number = next(NUMBERS)
    record = ChainRecord(
        fingerprint=f"{number:064x}",
        identity=identity,
        directory="https://ca.example/directory",
        names=(f"{identity}.example.org", "example.org"),
        block=block,
        storage=storage,
        serial=f"{number:x}",
        key_digest="key",
        pem=b"pem",
        not_before=end - 90 * DAY,
        not_after=end,
        issued=end - 90 * DAY,
    )
    ChainRecords(database).add(record).result()
    return record.fingerprint


def place(database: Database, identity: str, block: str | None = "web") -> None:
    orders = OrderRecords(database, NOW)
    orders.intend(identity, b"csr", block, NOW)
    orders.opened(identity, "account", f"https://ca.example/{identity}", NOW + DAY).result()


def found(overview: StateOverview, **wanted: object) -> list[str]:
    return [each.identity for each in overview.certificates(**wanted)]  # type: ignore[arg-type]  # of several types


def test_the_soonest_end_comes_first(database: Database, overview: StateOverview) -> None:
    """Certificates are in the order in which they end, with all that a list shows."""
    keep(database, "late", NOW + 9 * DAY)
    fingerprint = keep(database, "soon", NOW + DAY)
    place(database, "soon")
    soon, late = overview.certificates()
    assert (soon.identity, late.identity) == ("soon", "late")
    assert (soon.fingerprint, soon.names) == (fingerprint, ("soon.example.org", "example.org"))
    assert (soon.block, soon.storage, soon.order_url) == ("web", "disk", "https://ca.example/soon")
    assert (soon.not_before, soon.not_after) == (NOW - 89 * DAY, NOW + DAY)
    assert (late.order_url, late.last_asked, late.superseded) == (None, None, None)


def test_which_are_asked_for(database: Database, overview: StateOverview) -> None:
    """Those of a block, those that end soon, and on demand those of which there is a newer one."""
    keep(database, "one", NOW + DAY)
    keep(database, "one", NOW + 50 * DAY)
    keep(database, "two", NOW + 20 * DAY, block="mail")
    assert found(overview) == ["two", "one"]
    assert found(overview, superseded=True) == ["one", "two", "one"]
    assert found(overview, block="mail") == ["two"]
    assert found(overview, before=NOW + 20 * DAY) == ["two"]
    assert found(overview, before=NOW + 20 * DAY - datetime.timedelta(seconds=1)) == []


def test_a_revoked_one(database: Database, overview: StateOverview) -> None:
    """It is there until another one takes its place."""
    fingerprint = keep(database, "one", NOW + DAY)
    chains = ChainRecords(database)
    chains.revoking(fingerprint, "keyCompromise").result()
    (being,) = overview.certificates()
    assert (being.revoked, being.reason) == (None, "keyCompromise")
    chains.revoked(fingerprint, NOW, "keyCompromise").result()
    (revoked,) = overview.certificates()
    assert revoked.revoked == NOW


def test_more_than_a_page(
    database: Database, overview: StateOverview, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is found once, also where several end at the same time."""
    monkeypatch.setattr(overviews, "_PAGE", 2)
    kept = {keep(database, f"n{number}", NOW + (number // 3) * DAY) for number in range(8)}
    seen = [each.fingerprint for each in overview.certificates()]
    assert (len(seen), set(seen)) == (8, kept)


def test_history(database: Database, overview: StateOverview) -> None:
    """All certificates of an identity, newest first."""
    fingerprints = [keep(database, "one", NOW + number * DAY) for number in (1, 50, 99)]
    keep(database, "two", NOW)
    assert [each.fingerprint for each in overview.history("one")] == fingerprints[::-1]


def test_orders(database: Database, overview: StateOverview) -> None:
    """What is ordered for the first time is told apart from what is ordered anew."""
    place(database, "new", block=None)
    keep(database, "old", NOW + DAY)
    place(database, "old")
    (new,) = overview.new_orders()
    assert (new.identity, new.csr, new.block, new.begun) == ("new", b"csr", None, NOW)
    old = overview.order("old")
    assert old is not None
    assert (old.url, old.expires) == ("https://ca.example/old", NOW + DAY)
    assert overview.order("none") is None


def test_pauses(database: Database, overview: StateOverview) -> None:
    """Those that last, the longest first."""

    def pause(subject: str, until: datetime.datetime) -> Future[object]:
        row = (subject, "{}", 2, int(until.timestamp()))
        return database.write(
            lambda transaction: (
                transaction.execute(
                    "INSERT INTO pauses (subject, error, failures, until) VALUES (?, ?, ?, ?)", row
                ).rowcount
            )
        )

    for subject, until in (("over", NOW), ("short", NOW + DAY), ("long", NOW + 2 * DAY)):
        pause(subject, until).result()
    assert [(each.subject, each.failures) for each in overview.pauses(NOW)] == [("long", 2), ("short", 2)]
    assert overview.pauses(NOW)[0].until == NOW + 2 * DAY
