"""What integration tests share: a breakable way to the CA, and a script that goes it."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
from tests.fault_proxy import FaultProxy
from tests.peers import Pebble, Settings
from tests.script import Script, serving

from acmems.challenges import Http01
from acmems.server import ACMEHTTPHandler


@pytest.fixture
def proxy(pebble: Pebble) -> Iterator[FaultProxy]:
    """A proxy before the CA that counts, and breaks what a test tells it to break."""
    with FaultProxy(pebble) as running:
        yield running


@pytest.fixture
def script(proxy: FaultProxy, settings: Settings) -> Iterator[Script]:
    """A script with an account."""
    made = Script(proxy.before(settings))
    made.connect()
    yield made
    made.manager.close()


@pytest.fixture
def web(script: Script) -> Iterator[None]:
    """The documented http-01 handler, run by the standard library where the CA looks."""
    assert isinstance(script.validator, Http01)
    with serving(functools.partial(ACMEHTTPHandler, script.validator), script.port):
        yield
