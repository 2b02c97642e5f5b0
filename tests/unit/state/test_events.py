"""Events, as those who look find them."""

from __future__ import annotations

import datetime

import pytest

from acmems.state.engines.contract import Database
from acmems.state.events import PAGE, EventFilter, EventRecord, EventRecords, event_id, id_before

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
WHOLE = EventRecord(
    id="1",
    at=NOW,
    word="failed",
    client="192.0.2.7",
    block="web",
    names=("a.example.org", "b.example.org"),
    account="https://ca.example/account/1",
    reference="9f3a",
    status=502,
    outcome="request",
    reason="the CA answered nonsense",
    count=3,
    node="host",
)
BARE = EventRecord(id="2", at=NOW, word="refused", client="192.0.2.9")


@pytest.fixture
def records(database: Database) -> EventRecords:
    return EventRecords(database)


def minutes(number: int) -> datetime.datetime:
    return NOW + datetime.timedelta(minutes=number)


def test_what_is_kept(records: EventRecords) -> None:
    """Every field comes back as it was, also those that are empty."""
    records.add([WHOLE, BARE]).result()
    assert list(records.search(EventFilter())) == [BARE, WHOLE]


def test_a_change_that_is_made_twice(records: EventRecords) -> None:
    """A row that is there already stays as it is."""
    for count in (3, 3, 4):
        records.add([EventRecord(id="1", at=NOW, word="refused", client="-", count=count)]).result()
    assert [each.count for each in records.search(EventFilter())] == [3]


def test_more_than_a_page(records: EventRecords) -> None:
    """All of them are found, newest first, although most of them happened in the same second."""
    many = [
        EventRecord(id=f"{number:06}", at=minutes(number // 1000), word="refused", client="-")
        for number in range(2 * PAGE + 7)
    ]
    records.add(many).result()
    assert [each.id for each in records.search(EventFilter())] == [each.id for each in reversed(many)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (EventFilter(), ["3", "2", "1"]),
        (EventFilter(since=minutes(2)), ["3", "2"]),
        (EventFilter(word="refused"), ["2"]),
        (EventFilter(client="192.0.2.7"), ["3", "1"]),
        (EventFilter(block="web"), ["1"]),
        (EventFilter(names="%a.example%"), ["3", "1"]),
        (EventFilter(names="%a\\_example%"), []),
        (EventFilter(status=403), ["2"]),
        (EventFilter(client="192.0.2.7", since=minutes(3)), ["3"]),
    ],
    ids=str,
)
def test_a_filter(records: EventRecords, wanted: EventFilter, found: list[str]) -> None:
    """Only what fits is found."""
    names = ("a.example.org",)
    records.add(
        [
            EventRecord(
                id="1", at=minutes(1), word="delivered", client="192.0.2.7", names=names, block="web"
            ),
            EventRecord(id="2", at=minutes(2), word="refused", client="192.0.2.9", status=403),
            EventRecord(id="3", at=minutes(3), word="failed", client="192.0.2.7", names=names, block="x"),
        ]
    ).result()
    assert [each.id for each in records.search(wanted)] == found


def test_what_was_written_since(records: EventRecords) -> None:
    """Rows are found in the order of their ids, whenever what they tell of happened."""
    first, second, third = (event_id(minutes(number), 0, "n") for number in (0, 1, 2))
    ids = [third, first, second]
    records.add([EventRecord(id=each, at=NOW, word="refused", client="-") for each in ids]).result()
    assert [each.id for each in records.written_after(first)] == [second, third]
    assert [each.id for each in records.written_after(id_before(first, 1))] == [first, second, third]
    assert [each.id for each in records.written_after(id_before(third, 61))] == [second, third]


def test_ids_grow() -> None:
    """Those of later rows are greater, in one process also where the clock does not tell them apart."""
    ids = [event_id(NOW, 1, "a"), event_id(NOW, 2, "a"), event_id(minutes(1), 0, "a")]
    assert ids == sorted(set(ids))


def test_what_is_too_old(records: EventRecords) -> None:
    """It is removed a little at a time, the oldest first; what is younger stays."""
    records.add(
        [
            EventRecord(id=f"{number:06}", at=minutes(number), word="refused", client="-")
            for number in range(PAGE + 20)
        ]
    ).result()
    before = minutes(PAGE + 10)
    assert [records.forget(before).result() for _ in range(3)] == [PAGE, 10, 0]
    assert len(list(records.search(EventFilter()))) == 10
