"""The log of events: what has a line of its own, and what is told in sums."""

from __future__ import annotations

import logging

import pytest

from acmems.events import DeliveredEvent, Event, FailedEvent, RefusedEvent
from acmems.logs.events import EventLog


class Lines:
    """An event log, and what it has logged one by one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.log = EventLog(self.events.append)

    def refuse(self, client: str = "192.0.2.66", status: int = 403, block: str | None = None) -> None:
        self.log(RefusedEvent(reference="-", client=client, status=status, reason="no", block=block))


@pytest.fixture
def lines() -> Lines:
    return Lines()


def sums(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """Return the pairs of the lines that sum up."""
    return [record.__dict__["fields"] for record in caplog.records]


@pytest.mark.threat("fair shares", "refusals without end")
def test_one_stranger(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    """Of thousands of refusals of one address, ten have lines, and the others are summed up in one."""
    for number in range(5000):
        lines.refuse(status=400 if number % 5 else 403)
    assert len(lines.events) == 10
    assert not caplog.records
    lines.log.tell()
    assert sums(caplog) == [
        {
            "count": 4990,
            "statuses": ["400:3992", "403:998"],
            "clients": 1,
            "most": 4990,
            "client": "192.0.2.66",
        }
    ]
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.messages == ["refused without a line each"]


@pytest.mark.threat("fair shares", "refusals without end")
def test_many_strangers(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    """All addresses together have a hundred lines, and no more than a thousand are counted by themselves."""
    for number in range(5000):
        lines.refuse(f"10.0.{number // 250}.{number % 250}")
    assert len(lines.events) == 100
    lines.log.tell()
    (fields,) = sums(caplog)
    assert (fields["count"], fields["clients"]) == (4900, 1001)


def test_an_ipv6_network_is_one_stranger(lines: Lines) -> None:
    """Addresses of one network of 64 bits share their lines."""
    for number in range(1, 100):
        lines.refuse(f"2001:db8::{number:x}")
    assert len(lines.events) == 10


def test_after_a_sum_lines_begin_again(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    """Each sum gives everybody new lines; where nothing was left out there is no sum."""
    for _ in range(11):
        lines.refuse()
    lines.log.tell()
    lines.refuse()
    lines.log.tell()
    assert len(lines.events) == 11
    assert len(caplog.records) == 1


def test_whoever_is_no_stranger_has_lines(lines: Lines) -> None:
    """What an auth block has accepted is logged whatever becomes of it, and so is all that is no refusal."""
    for _ in range(50):
        lines.refuse(block="web", status=421)
        lines.log(
            DeliveredEvent(reference="-", client="192.0.2.66", status=200, source="stored", seconds=0.1)
        )
    assert len(lines.events) == 100


def test_failures_for_one_reason(lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk is not told for each machine that asks; another reason, and the next minute, are."""

    def fail(reason: str, times: int = 1, bug: Exception | None = None) -> None:
        for number in range(times):
            client = f"192.0.2.{number % 250}"
            lines.log(
                FailedEvent(reference="-", client=client, stage="request", status=503, reason=reason, bug=bug)
            )

    fail("the disk is full", 3000)
    fail("the CA is down")
    fail("a bug", 20, ValueError("each has its traceback"))
    assert len(lines.events) == 10 + 1 + 20
    lines.log.tell()
    assert caplog.messages == ["failed for the same reason without a line each"]
    assert sums(caplog) == [{"count": 2990, "stage": "request", "reason": "the disk is full"}]
    assert caplog.records[0].levelno == logging.ERROR
    fail("the disk is full")
    assert len(lines.events) == 10 + 1 + 20 + 1


def test_failures_for_many_reasons(lines: Lines) -> None:
    """So many reasons are remembered and no more; what fails for others has a line each."""
    for number in range(1500):
        for _ in range(11):
            lines.log(FailedEvent(reference="-", client="", stage="request", status=502, reason=str(number)))
    assert len(lines.events) == 1000 * 10 + 500 * 11
