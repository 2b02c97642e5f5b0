"""kill -9 in the middle of a start or an order: the next start finishes it, and the CA issues once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from tests.acme_crash import ACME_POINTS, AcmeCrashes, AcmePoint
from tests.crash import ANY_TIME, POINTS, STATE, Crashes, CrashPoint
from tests.peers.disk import FULL, UNSYNCED, DiskFault

_AT = {str(each): each for each in ACME_POINTS}
ACME_KILLS = (
    *(_AT["after order noted"], _AT["after order outside noted"], _AT["after end noted"]),
    dataclasses.replace(_AT["after challenge"], most=1, is_client_away=True),
)
"""Where something is noted or presented, and not answered; `scripts/chaos --front-end acme` has all."""


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


@pytest.fixture(scope="module")
def acme_crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AcmeCrashes]:
    """The same server, in front of ACME clients."""
    with AcmeCrashes(tmp_path_factory.mktemp("acme-crashes")) as running:
        yield running


@pytest.mark.threat("acme orders", "a kill while an order is processed")
@pytest.mark.parametrize("point", ACME_KILLS, ids=str)
def test_a_kill_while_an_acme_client_orders(acme_crashes: AcmeCrashes, point: AcmePoint) -> None:
    """The same client goes on after the restart, and nothing is done, made or left twice."""
    outcome = acme_crashes.kill(point)
    assert (outcome.issued, outcome.is_lost, outcome.torn, outcome.left) == (1, False, 0, 0), outcome.reason
    assert 1 <= outcome.placed <= 1 + point.places_anew
    assert (outcome.accounts, outcome.accounts_lost, outcome.repeated) == (0, 0, 0)
