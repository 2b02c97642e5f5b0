"""Fixtures that several unit tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.listening import Bench, later, post

from acmems.listener import Exchange


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A connection that has just been accepted, without a byte of a request."""
    bench = Bench()
    bench.connection.start()
    yield bench
    if bench.is_open:
        bench.connection.close()
    bench.epoll.close()
    bench.client.socket.close()


@pytest.fixture
def pending(bench: Bench) -> Exchange:
    """A request that the application has and has not answered yet."""
    bench.application.on_run = later
    bench.send(post("/first"))
    return bench.application.running[0]
