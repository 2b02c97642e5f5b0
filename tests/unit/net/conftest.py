"""What holds of connections holds of encrypted ones as well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.listening import Bench, quiet_tls


@pytest.fixture(params=["plain", "encrypted"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A connection that has just been accepted, or whose handshake is done, without a byte of a request."""
    bench = Bench(quiet_tls() if request.param == "encrypted" else None)
    yield bench
    bench.listener.close()
    assert not bench.is_open
    bench.client.socket.close()
