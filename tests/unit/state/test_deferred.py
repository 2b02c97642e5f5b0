"""Requests whose answer is fetched later, in the state."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable

import pytest
from tests.sharing import count

from acmems.state import deferred
from acmems.state.deferred import KEPT, DeferredOutcome, DeferredRequests
from acmems.state.engines.contract import Database

NOW = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
FAILED = DeferredOutcome(None, 421, "no", NOW + 60 * SECOND)


@pytest.fixture
def requests(database: Database) -> DeferredRequests:
    return DeferredRequests(database)


def begin(
    requests: DeferredRequests,
    identity: str = "i",
    client: str = "192.0.2.1",
    at: datetime.datetime = NOW,
    block: str = "b",
) -> str:
    return requests.begin(identity, block, client, b"csr", at).result(20)


def test_what_is_kept_comes_back(requests: DeferredRequests) -> None:
    """By an id that nobody can guess, with what has come of it once that is known."""
    name = begin(requests)
    assert re.fullmatch("[A-Za-z0-9_-]{32}", name)
    found = requests.find(name, NOW)
    assert found is not None
    assert (found.identity, found.block, found.csr, found.begun) == ("i", "b", b"csr", NOW)
    assert found.outcome is None
    assert name not in repr(found)
    for outcome in (FAILED, DeferredOutcome("fingerprint")):
        requests.end(name, outcome, NOW).result(20)
        ended = requests.find(name, NOW)
        assert ended is not None
        assert ended.outcome == outcome
    assert requests.find(name[:-1], NOW) is None


def test_the_same_has_one_id(requests: DeferredRequests, database: Database) -> None:
    """Who asks again for the same, under the same block, begins anew under the id of before."""
    name = begin(requests)
    requests.end(name, FAILED, NOW).result(20)
    assert begin(requests, client="192.0.2.2", at=NOW + SECOND) == name
    found = requests.find(name, NOW)
    assert found is not None
    assert (found.begun, found.outcome) == (NOW + SECOND, None)
    others = {begin(requests, block="other"), begin(requests, "other")}
    assert len(others | {name}) == 3
    assert count(database, "requests") == 3


def test_a_change_that_is_made_twice(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known whether the first one was made: the id stays."""
    requests = DeferredRequests(database, lambda: "the same")
    write: Callable[..., object] = database.write

    def twice(change: Callable[..., object], **options: bool) -> object:
        write(change, **options)
        return write(change, **options)

    monkeypatch.setattr(database, "write", twice)
    assert begin(requests) == "the same"


def test_for_a_day(requests: DeferredRequests, database: Database) -> None:
    """From its end on, or from its beginning if nobody has heard of that."""
    unheard, ended = begin(requests, "unheard"), begin(requests, "ended")
    requests.end(ended, FAILED, NOW + SECOND).result(20)
    end = NOW + KEPT
    assert requests.find(unheard, end - SECOND) is not None
    assert requests.find(unheard, end) is None
    assert requests.find(ended, end) is not None
    requests.forget(end)
    database.flush()
    database.check().result(20)
    assert count(database, "requests") == 1
    assert requests.find(ended, end) is not None


@pytest.mark.threat("issuing", "thousands of requests to be fetched later")
def test_of_one_client(
    requests: DeferredRequests, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many are kept: the oldest go, those first whose answer was there; others keep theirs."""
    monkeypatch.setattr(deferred, "MOST_OF_CLIENT", 3)
    other = begin(requests, "theirs", "192.0.2.2")
    names = [begin(requests, f"{number}", at=NOW + number * SECOND) for number in range(3)]
    requests.end(names[1], FAILED, NOW).result(20)
    names.append(begin(requests, "3", at=NOW + 3 * SECOND))
    names.append(begin(requests, "4", at=NOW + 4 * SECOND))
    kept = [requests.find(name, NOW) is not None for name in names]
    assert kept == [False, False, True, True, True]
    assert requests.find(other, NOW) is not None
    assert count(database, "requests") == 4


def test_of_all(requests: DeferredRequests, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are kept for long."""
    monkeypatch.setattr(deferred, "MOST", 2)
    names = [begin(requests, f"{number}", f"192.0.2.{number}", NOW + number * SECOND) for number in range(5)]
    requests.forget(NOW)
    database.flush()
    database.check().result(20)
    assert [requests.find(name, NOW) is not None for name in names] == [False] * 3 + [True] * 2
