"""The modules of `tests.own_network`, each run by a pytest in a network of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests import own_network
from tests.peers.network import OWN_NETWORK, can_have_own_network
from tests.peers.process import ROOT

PYTEST = [*OWN_NETWORK, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA"]
MODULES = sorted(Path(own_network.__file__).parent.glob("[!_]*.py"))


@pytest.mark.timeout(300)  # as long as clients may take to give up
@pytest.mark.skipif(not can_have_own_network(), reason="this machine lets users make no networks")
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.stem)
def test_all_of_a_module_passes(module: Path) -> None:
    """None of its tests is left out."""
    # Not in `tmp_path`: sockets of clients lie in there, whose paths may not be that long.
    with tempfile.TemporaryDirectory(prefix="own-network-") as folder:
        done = subprocess.run(
            [*PYTEST, "--basetemp", f"{folder}/inside", module],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=ROOT,
        )
    if done.returncode or "skipped" in done.stdout.splitlines()[-1]:
        pytest.fail(done.stdout, pytrace=False)
