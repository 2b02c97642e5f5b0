"""kill -9 in the middle of a start or an order: the next start finishes it, and the CA issues once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.crash import ANY_TIME, POINTS, STATE, Crashes, CrashPoint
from tests.peers.disk import FULL, UNSYNCED, DiskFault


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashes]:
    """A server that serves again after each kill."""
    with Crashes(tmp_path_factory.mktemp("crashes")) as running:
        yield running


@pytest.mark.parametrize("point", [*POINTS, ANY_TIME], ids=str)
def test_a_kill(crashes: Crashes, point: CrashPoint) -> None:
    """Whatever was done by then, the client gets a certificate after the restart, and the CA made one."""
    outcome = crashes.kill(point)
    assert (outcome.issued, outcome.is_lost, outcome.torn, outcome.left) == (1, False, 0, 0)
    assert 1 <= outcome.placed <= 1 + point.places_anew
    assert outcome.accounts == point.is_start


@pytest.mark.parametrize("fault", [FULL, UNSYNCED], ids=str)
@pytest.mark.parametrize("place", [STATE, "storage"])
def test_a_kill_while_the_disk_fails(crashes: Crashes, place: str, fault: DiskFault) -> None:
    """The same holds when files fail while an order runs, and the kill comes before the disk works again."""
    outcome = crashes.kill_while(fault, place)
    assert (outcome.issued, outcome.is_lost, outcome.torn, outcome.left) == (1, False, 0, 0)
    assert 1 <= outcome.placed <= 2
