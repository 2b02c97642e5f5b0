"""States that are damaged are refused with words; what was written by a wrong clock is not lost."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import CERTIFICATE, FINALIZE, NEW_ORDER
from tests.peers import Acmems, PeerFailed, Settings, curl_sign, make_key_and_csr


def damage(state: Path) -> None:
    """Write over most of a state."""
    size = state.stat().st_size
    with state.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


def replace(state: Path) -> None:
    """Put a folder in the place of a state."""
    state.unlink()
    state.mkdir()


def expose(state: Path) -> None:
    """Let others read a state."""
    state.chmod(0o644)


@pytest.mark.threat("disk", "a damaged state")
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage, r"the state cannot be used: .*run 'acmems state check'.* restore the file from a backup"),
        (replace, r"acmems.ini:[0-9]+: .*state.sqlite is no file: move it away"),
        (expose, r"acmems.ini:[0-9]+: .*is open to others than its owner .*: chmod 600 it"),
    ],
)
def test_a_start_with_a_damaged_state(settings: Settings, harm: Callable[[Path], None], words: str) -> None:
    """It is refused with words that say what to do; nothing is begun that a state would have to know."""
    with Acmems(settings) as acmems:
        acmems.stop()
        harm(settings.folder / "account" / "state.sqlite")
        before = len(acmems.log)
        with pytest.raises(PeerFailed, match=words):
            acmems.start()
        assert "Traceback" not in acmems.log[before:]


@pytest.mark.threat("ca", "a wrong clock")
@pytest.mark.parametrize("years", [-50, 50])
def test_an_order_that_was_noted_by_a_wrong_clock(
    proxy: FaultProxy, settings: Settings, tmp_path: Path, years: int
) -> None:
    """Whatever time a state was written at: the certificate that the CA has made is downloaded."""
    _, csr = make_key_and_csr(tmp_path, ["clock.example.org"])
    with Acmems(proxy.before(settings)) as acmems:
        proxy.when(path=FINALIZE, nth=1).call_after(acmems.process.kill)
        with pytest.raises(PeerFailed):
            curl_sign(acmems.sign_url, csr)
        acmems.process.wait()
        with contextlib.closing(sqlite3.connect(settings.folder / "account" / "state.sqlite")) as state:
            state.execute(
                "UPDATE orders SET begun = begun + ?1, expires = expires + ?1", (years * 31_557_600,)
            )
            state.commit()
        acmems.start()
        assert curl_sign(acmems.sign_url, csr).status == 200
    assert [proxy.count(path=path) for path in (NEW_ORDER, FINALIZE, CERTIFICATE)] == [1, 1, 1]
