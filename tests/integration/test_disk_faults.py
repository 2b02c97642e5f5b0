"""Disks that fail under a running server: what cannot be noted is not ordered, what is there is delivered."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.crash import STATE
from tests.fault_proxy import FaultProxy
from tests.faults import CERTIFICATE, FINALIZE, NEW_ACCOUNT, NEW_ORDER
from tests.peers import (
    CALM,
    Acmems,
    ChallTestSrv,
    Pebble,
    PeerFailed,
    Reply,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    wait_until,
)
from tests.peers.disk import BROKEN, FULL, READ_ONLY, SLOW, UNSYNCED, UNSYNCED_ONCE, Call, Disk, DiskFault

from acmems.state.orders import CHECKED_SECONDS

UNWRITABLE = (FULL, BROKEN, UNSYNCED, READ_ONLY)
METRICS = """
[metrics]
listener = 127.0.0.1:{port}
"""


@dataclass
class Machine:
    """A server with a disk that fails as it is told, before a CA that shows what it has seen.

    Args:
        acmems: the server.
        disk: its disk.
        proxy: the way to the CA.
        folder: where its files are.
        metrics: the port that monitoring systems ask.
        csrs: where requests are made.
    """

    acmems: Acmems
    disk: Disk
    proxy: FaultProxy
    folder: Path
    metrics: int
    csrs: Path
    number: int = 0

    def csr(self) -> Path:
        """Return a request for another name."""
        self.number += 1
        name = f"disk{self.number}.example.org"
        return make_key_and_csr(self.csrs, [name], stem=name)[1]

    def ask(self, csr: Path) -> Reply:
        """Ask for a certificate."""
        return curl_sign(self.acmems.sign_url, csr)

    def is_ready(self) -> bool:
        """Tell what a load balancer is told."""
        return curl(f"http://127.0.0.1:{self.metrics}/readyz").status == 200

    def fault(self, fault: DiskFault, place: str) -> contextlib.AbstractContextManager[object]:
        """Have files fail, by a pattern relative to the folder."""
        return self.disk.fault(fault, f"{self.folder}/{place}")


@pytest.fixture(scope="module")
def machine(dns: ChallTestSrv, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server that all tests here share: each leaves it well."""
    folder = tmp_path_factory.mktemp("machine")
    (folder / "csrs").mkdir()
    disk = Disk(folder)
    with Pebble(dns.address, env=CALM) as pebble, FaultProxy(pebble) as proxy:
        settings = proxy.before(Settings.of(pebble, folder))
        port = free_port()
        settings.auth += METRICS.format(port=port)
        with Acmems(settings, disk.env) as acmems:
            yield Machine(acmems, disk, proxy, folder, port, folder / "csrs")


@pytest.mark.threat("disk", "a state that cannot be written")
@pytest.mark.parametrize("fault", UNWRITABLE, ids=str)
def test_a_state_that_fails_while_idle(machine: Machine, fault: DiskFault) -> None:
    """No order reaches the CA, stored chains are sent, the log tells it once, and it passes by itself."""
    stored, new = machine.csr(), machine.csr()
    first = machine.ask(stored)
    assert first.status == 200
    time.sleep(CHECKED_SECONDS)  # what was written this moment vouches for no later one
    placed, logged = machine.proxy.count(path=NEW_ORDER), len(machine.acmems.log)
    with machine.fault(fault, STATE):
        for _ in range(15):
            reply = machine.ask(new)
            assert reply.status == 503
            assert int(reply.headers["Retry-After"]) >= 1
            assert reply.text.startswith("this server cannot note its orders at the moment")
            assert str(machine.folder) not in reply.text
        again = machine.ask(stored)
        assert (again.status, again.body) == (200, first.body)
        assert not machine.is_ready()
        assert machine.proxy.count(path=NEW_ORDER) == placed
    log = machine.acmems.log[logged:]
    assert log.count("nothing is ordered until this is mended: the state cannot be written: ") == 1
    assert log.count(" failed ") <= 11  # the others are counted
    assert machine.ask(new).status == 200
    assert machine.is_ready()
    assert machine.acmems.log[logged:].count("the state can be written again") == 1


def test_one_sync_that_fails(machine: Machine) -> None:
    """The connection is good after it: the next order is noted, and found again after a kill."""
    kept = machine.csr()

    def meets_an_order() -> bool:
        """Tell whether it is a client who hears of it: what is written now and then may take its place."""
        time.sleep(CHECKED_SECONDS)
        with machine.fault(UNSYNCED_ONCE, STATE):
            return machine.ask(machine.csr()).status == 503

    wait_until(meets_an_order, "an order cannot be noted", 60)
    machine.proxy.when(path=FINALIZE, nth=1).call_after(machine.acmems.process.kill)
    with pytest.raises(PeerFailed):
        machine.ask(kept)
    machine.acmems.process.wait()
    machine.proxy.heal()
    placed = machine.proxy.count(path=NEW_ORDER)
    machine.acmems.start()
    assert machine.ask(kept).status == 200
    assert machine.proxy.count(path=NEW_ORDER) == placed


@pytest.mark.threat("disk", "a state that cannot be written")
@pytest.mark.parametrize("fault", UNWRITABLE, ids=str)
def test_a_state_that_fails_while_ordering(machine: Machine, fault: DiskFault) -> None:
    """An order that cannot be noted is not finalized; once it can be, it is finished, and no other placed."""
    csr = machine.csr()
    placed, finalized = machine.proxy.count(path=NEW_ORDER), machine.proxy.count(path=FINALIZE)
    with contextlib.ExitStack() as failing:
        rule = machine.proxy.when(path=NEW_ORDER, nth=1)
        rule.call_meanwhile(lambda: failing.enter_context(machine.fault(fault, STATE)))
        assert machine.ask(csr).status == 503
        assert machine.proxy.count(path=FINALIZE) == finalized
    machine.proxy.heal()
    assert machine.ask(csr).status == 200
    assert machine.proxy.count(path=NEW_ORDER) == placed + 1


@pytest.mark.threat("disk", "a disk that is full")
@pytest.mark.parametrize("place", ["storage", STATE])
@pytest.mark.parametrize("fault", [FULL, UNSYNCED], ids=str)
def test_a_disk_that_fails_while_storing(machine: Machine, place: str, fault: DiskFault) -> None:
    """The client gets its chain, and so does who asks again, also after a stop; the CA has issued once."""
    csr = machine.csr()
    placed = machine.proxy.count(path=NEW_ORDER)
    with contextlib.ExitStack() as failing:
        rule = machine.proxy.when(path=CERTIFICATE, nth=1)
        rule.call_meanwhile(lambda: failing.enter_context(machine.fault(fault, place)))
        first = machine.ask(csr)
        assert first.status == 200
        assert machine.ask(csr).body == first.body
    machine.proxy.heal()
    machine.acmems.restart()
    assert machine.ask(csr).body == first.body
    assert machine.proxy.count(path=NEW_ORDER) == placed + 1


def test_a_disk_that_is_slow(machine: Machine) -> None:
    """Where each sync takes long, certificates are issued all the same."""
    with machine.fault(SLOW, "*"):
        assert machine.ask(machine.csr()).status == 200
        assert machine.is_ready()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (FULL, "account.pem cannot be written: No space left on device"),
        (UNSYNCED, "account.pem cannot be written: Input/output error"),
        (READ_ONLY, "the state cannot be opened: .*: Read-only file system"),
        (DiskFault("another's", Call.OPEN, 13), "the state cannot be opened: .*: Permission denied"),
    ],
    ids=str,
)
def test_a_disk_that_fails_at_the_first_start(
    proxy: FaultProxy, settings: Settings, tmp_path: Path, fault: DiskFault, words: str
) -> None:
    """No account is made that could not be kept, and a person reads what to do."""
    disk = Disk(tmp_path)
    place = "account/.acmems-*" if words.startswith("account.pem") else "account"
    with disk.fault(fault, f"{tmp_path}/{place}"):
        with pytest.raises(PeerFailed, match=words) as failed, Acmems(proxy.before(settings), disk.env):
            pass
        assert "Traceback" not in str(failed.value)
    assert proxy.count(path=NEW_ACCOUNT) == 0
