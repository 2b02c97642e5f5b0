"""Fixtures that several unit tests share."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.crowd import Crowd
from tests.listening import Bench, later, post
from tests.steps import LoopTime
from tests.tls_server import ANSWERING, Behaviour, Serve, Server

from acmems.net.http import Exchange


@pytest.fixture
def time() -> Iterator[LoopTime]:
    """A loop whose clock the test moves."""
    time = LoopTime()
    with contextlib.closing(time.loop):
        yield time


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """A listener with forty places."""
    crowd = Crowd()
    yield crowd
    crowd.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A connection that has just been accepted, without a byte of a request."""
    bench = Bench()
    yield bench
    bench.listener.close()
    assert not bench.is_open
    bench.client.socket.close()


@pytest.fixture
def pending(bench: Bench) -> Exchange:
    """A request that the application has and has not answered yet."""
    bench.application.on_run = later
    bench.send(post("/first"))
    return bench.application.running[0]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def start(behave: Behaviour = ANSWERING, *, tls: bool = True) -> Server:
            folder = Path(tempfile.mkdtemp(dir=tmp_path))
            return stack.enter_context(contextlib.closing(Server(folder, behave, tls=tls)))

        yield start
