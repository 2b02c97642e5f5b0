"""What happens is told to whoever listens."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from acmems.events import Bus, DeliveredEvent, Event, FailedEvent, IssuedEvent, RefusedEvent, RequestedEvent

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
ALL: list[Event] = [
    RequestedEvent(reference="r", client="192.0.2.1"),
    RefusedEvent(reference="r", client="192.0.2.1", status=403, reason="no"),
    IssuedEvent(
        reference="r", client="192.0.2.1", directory="https://ca.example.org", not_after=NOW, seconds=1.0
    ),
    DeliveredEvent(reference="r", client="192.0.2.1", status=200, source="stored", seconds=1.0),
    FailedEvent(reference="r", client="192.0.2.1", stage="order", status=503, reason="down"),
]


class TestEvents:
    @pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
    def test_events_are_frozen(self, event: Event) -> None:
        """An event is the same for all who hear of it."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.client = "192.0.2.2"  # type: ignore[misc]  # the point of the test

    def test_a_bug_is_not_printed(self) -> None:
        """The exception of a bug, which may hold anything, is no part of an event's text."""
        failed = FailedEvent(
            reference="r", client="c", stage="sign", status=500, reason="a bug", bug=KeyError("secret")
        )
        assert "secret" not in repr(failed)


class TestBus:
    def test_all_are_told_in_order(self) -> None:
        """Every subscriber hears every event, in the order of subscription and emission."""
        bus, heard = Bus(), list[tuple[str, Event]]()
        bus.subscribe(lambda event: heard.append(("first", event)))
        bus.subscribe(lambda event: heard.append(("second", event)))
        for event in ALL[:2]:
            bus.emit(event)
        assert heard == [("first", ALL[0]), ("second", ALL[0]), ("first", ALL[1]), ("second", ALL[1])]

    def test_an_event_without_subscribers_is_no_error(self) -> None:
        """An event that nobody hears is no error."""
        Bus().emit(ALL[0])

    def test_a_failing_subscriber(self, caplog: pytest.LogCaptureFixture) -> None:
        """A subscriber that fails is logged with its traceback, and hurts neither others nor the emitter."""
        bus, heard = Bus(), list[Event]()

        def fail(event: Event) -> None:
            raise KeyError(event.reference)

        bus.subscribe(fail)
        bus.subscribe(heard.append)
        bus.emit(ALL[0])
        assert heard == [ALL[0]]
        [record] = caplog.records
        assert record.getMessage() == "a subscriber failed"
        assert vars(record)["fields"] == {"ref": "r", "event": "requested"}
        assert record.exc_info
        assert record.exc_info[0] is KeyError

    def test_a_subscriber_that_comes_meanwhile(self) -> None:
        """Who subscribes while an event is emitted hears from the next one on."""
        bus, heard = Bus(), list[Event]()
        bus.subscribe(lambda event: bus.subscribe(heard.append) if event is ALL[0] else None)
        bus.emit(ALL[0])
        assert heard == []
        bus.emit(ALL[1])
        assert heard == [ALL[1]]
