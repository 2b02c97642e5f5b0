"""kill -9 in the middle of an order: the next start finishes it, and the CA issues once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.crash import POINTS, Crashes, CrashPoint
from tests.fault_proxy import FaultProxy
from tests.peers import Acmems, Pebble, Settings


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_kill(
    proxy: FaultProxy, pebble: Pebble, settings: Settings, tmp_path: Path, point: CrashPoint
) -> None:
    """Whatever the CA had seen, the client gets a certificate after the restart, and the CA made one."""
    with Acmems(proxy.before(settings)) as acmems:
        outcome = Crashes(pebble, proxy, settings, acmems, tmp_path).kill(point)
    assert (outcome.issued, outcome.is_lost, outcome.torn) == (1, False, 0)
    assert 1 <= outcome.placed <= 1 + point.places_anew
