"""What holds for buckets whatever is put into them, and when."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from acmems.issuing.limits.gcra import Rate, fill, full, given_back, room, taken, wait

RATES = st.builds(Rate, st.integers(1, 500), st.integers(500, 700_000_000))
STEPS = st.lists(st.tuples(st.integers(0, 5_000_000), st.integers(1, 5)), max_size=60)


@given(RATES, STEPS)
def test_it_is_a_bucket_that_leaks(rate: Rate, steps: list[tuple[int, int]]) -> None:
    """A bucket with a level, which drains by one an interval, says the same as the one instant."""
    now, instant, level = 1_000_000, None, Fraction(0)
    for pause, cost in steps:
        now += pause
        level = max(Fraction(0), level - Fraction(pause, rate.interval))
        has_room = level + cost <= rate.count
        assert (wait(rate, instant, now, cost) == 0) == has_room
        if has_room:
            instant, level = taken(rate, instant, now, cost), level + cost
        found = fill(rate, instant, now)
        assert found.left == int(rate.count - level)
        assert found.used + found.left == rate.count


@given(RATES, st.integers(0, 10**9), st.integers(1, 5), st.integers(0, 3))
def test_after_the_wait_there_is_room_and_not_before(rate: Rate, full: int, cost: int, reserve: int) -> None:
    """The time that is told is the first at which it works."""
    now = 10**12
    instant = now + full % (2 * rate.period)
    seconds = wait(rate, instant, now, cost, reserve=reserve)
    if seconds is None:
        assert cost > rate.count - reserve
        return
    assert wait(rate, instant, now + seconds, cost, reserve=reserve) == 0
    if seconds:
        assert wait(rate, instant, now + seconds - 1, cost, reserve=reserve) != 0


@given(RATES, st.integers(0, 10**9), st.integers(1, 5))
def test_what_is_given_back_at_once_was_never_taken(rate: Rate, full: int, cost: int) -> None:
    """A bucket that is not empty is as it was; an empty one is empty."""
    now = 10**12
    before = now + full % rate.period
    assert given_back(rate, taken(rate, before, now, cost), now, cost) == before
    assert given_back(rate, taken(rate, None, now, cost), now, cost) == now


@given(RATES, st.integers(0, 10**9))
def test_the_next_place_is_free_when_it_is_said(rate: Rate, full: int) -> None:
    """One more place is free after the time that is told."""
    now = 10**12
    instant = now + full % rate.period
    found = fill(rate, instant, now)
    if found.used:
        assert fill(rate, instant, now + found.next_in).left == found.left + 1
        assert fill(rate, instant, now + found.next_in - 1).left == found.left
    else:
        assert found.next_in == 0


@given(RATES, st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_bucket_that_is_full_by_the_word_of_the_ca(rate: Rate, before: int, wait_for: int) -> None:
    """One place is free at the time that the CA has told, and none before."""
    now = 10**12
    assert wait(rate, full(rate, now, wait_for), now) == wait_for


@given(
    st.builds(Rate, st.integers(2, 40), st.integers(400, 4000)),
    st.lists(st.integers(0, 4000), max_size=40),
    st.lists(st.integers(0, 300), max_size=80),
)
def test_renewals_find_a_place(rate: Rate, comings: list[int], pauses: list[int]) -> None:
    """Whenever new certificates come, a renewal that would have a place without them has one."""
    start = 10**12
    renewals = sorted(start + each for each in comings)
    alone: int | None = None
    feasible = []
    for moment in renewals:
        if wait(rate, alone, moment) == 0:
            alone = taken(rate, alone, moment)
            feasible.append(moment)
    instant, now, left = None, start, list(feasible)
    for pause in [*pauses, 10**6]:
        now += pause
        while left and left[0] <= now:
            moment = left.pop(0)
            assert wait(rate, instant, moment) == 0
            instant = taken(rate, instant, moment)
        if wait(rate, instant, now, reserve=min(room(rate, left, now), rate.count - 1)) == 0 and (
            room(rate, left, now) < rate.count
        ):
            instant = taken(rate, instant, now)
    assert not left
