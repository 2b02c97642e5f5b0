"""Buckets that several nodes use at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.sharing import ENGINES, Sharer, sharing

from acmems.state.limits.buckets import BucketRecord, BucketRecords

BUCKETS = [BucketRecord(name, "account", "limit", name) for name in ("a", "b", "c")]
MOST = 20


def take(sharer: Sharer, number: int) -> bool:
    """Take a place in each of the buckets, unless one of them is full; each names them in another order."""

    def decide(before: Mapping[str, int]) -> tuple[Mapping[str, int], bool]:
        if max(before.values()) >= MOST:
            return {}, False
        return {name: instant + 1 for name, instant in before.items()}, True

    buckets = BUCKETS[number % 3 :] + BUCKETS[: number % 3]
    return BucketRecords(sharer.database).update(buckets, decide).result(60)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_at_once(request: pytest.FixtureRequest, tmp_path: Path, engine: str) -> None:
    """As many get a place as there are, whichever node they ask, and none waits for another for ever."""
    server = request.getfixturevalue("postgres") if engine == "postgresql" else None
    with sharing(tmp_path, 3, server) as sharers:
        with ThreadPoolExecutor(30) as pool:
            taken = list(pool.map(lambda number: take(sharers[number % 3], number), range(60)))
        assert Counter(taken) == {True: MOST, False: 60 - MOST}
        assert [each.instant for each in BucketRecords(sharers[0].database).all()] == [MOST] * 3
