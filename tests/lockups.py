"""Tests are run once more, with new peers, where a Pebble has locked itself up.

That is a fault of Pebble 2.10: now and then requests hold locks that each other wait for, and from then on
it answers nobody, not even at its management. `CALM` makes it rare. The test that has met it, and every one
after it in the module, would fail for nothing that acmems does.
"""

from __future__ import annotations

import contextlib

import pytest
from _pytest.runner import runtestprotocol
from tests.peers import Pebble


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test, again where it has failed and a Pebble has locked itself up meanwhile."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before = Pebble.lockups
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(each.failed for each in reports):
        for pebble in [each for each in Pebble.running if each.is_locked_up]:
            pebble.process.kill()
            Pebble.lockups += 1
        if Pebble.lockups > before:
            item.warn(pytest.PytestWarning("Pebble had locked itself up, so this has been run once more"))
            with contextlib.suppress(Exception):  # servers may not end as they should without their CA
                item.session._setupstate.teardown_exact(None)  # all peers are made anew
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
