"""Peers that tests share: each test process has its own, started when first asked for."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from tests.peers import CALM, ChallTestSrv, Pebble, Postgres, Settings
from tests.peers.acmems_processes import Forking

pytest_plugins = ["pytester", "tests.lockups", "tests.threat_markers"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a job that a shell has put into the background: what tests start would not hear it either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

Forking.is_on = True

# An example may take as long as a busy machine makes it.
hypothesis.settings.register_profile("acmems", deadline=None)
hypothesis.settings.load_profile("acmems")


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Let no test that configures logging, as commands do, change what later ones see of the log.

    Fixtures of whole modules configure it, too, and servers that reload: what was there before may be theirs.
    """
    ours = logging.getLogger("acmems")
    ours.setLevel(logging.NOTSET)
    yield
    ours.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def dns() -> Iterator[ChallTestSrv]:
    """A DNS server in which every name has the address 127.0.0.1."""
    with ChallTestSrv() as server:
        yield server


@pytest.fixture(scope="session")
def pebble(dns: ChallTestSrv) -> Iterator[Pebble]:
    """A CA without delays; other behaviour needs a `Pebble` of the test's own."""
    with Pebble(dns.address, env=CALM) as ca:
        yield ca


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A database server; a test that stops or holds it needs a `Postgres` of its own."""
    with Postgres() as server:
        yield server


@pytest.fixture
def settings(pebble: Pebble, tmp_path: Path) -> Settings:
    """A configuration of acmems for that CA, with empty account and storage folders of its own."""
    return Settings.of(pebble, tmp_path)
