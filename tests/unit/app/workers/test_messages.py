"""What supervisor and workers tell each other."""

from __future__ import annotations

import pytest

from acmems.app.workers.messages import (
    Leave,
    Message,
    MessageReader,
    MetricsWanted,
    NotStarted,
    Ready,
    Report,
    Whole,
    WholeWanted,
    encoded,
)

FAMILY = ["acmems_orders", "counter", "Orders.", [["acmems_orders_total", {"outcome": "issued"}, 3.0]]]
MESSAGES: list[Message] = [
    Ready(["mgmt 127.0.0.1:1313"]),
    NotStarted("storage 'disk' cannot be written:\nit is full"),
    Report(["acmems-mgmt"], ["the disk"], [FAMILY]),  # type: ignore[list-item]  # as it comes out of JSON
    Report([], []),
    MetricsWanted(),
    WholeWanted(),
    Whole([], [], [], is_stopping=True),
    Leave(120.0),
]


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_messages_arrive_as_they_were_sent(size: int) -> None:
    """However the bytes are cut, the same messages come out, in order."""
    data = b"".join(map(encoded, MESSAGES))
    reader = MessageReader()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [message for piece in pieces for message in reader.feed(piece)] == MESSAGES
