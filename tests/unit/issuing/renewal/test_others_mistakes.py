"""Chains are renewed in time, and not without end, where clocks and CAs are wrong."""

from __future__ import annotations

import datetime

import pytest
from tests.renewing import DAY, PAST, START, WINDOW, Answer, House

from acmems.exceptions import AcmeException, CAUnavailable
from acmems.issuing.renewal.plan import MOST_AT_ONCE
from acmems.issuing.renewal.planner import NotRenewable


class TestWithoutEnd:
    """A CA that wants each new chain to have been renewed before it was issued."""

    def test_it_is_asked_for_few(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        """As after a revocation, it is renewed at once, but not for ever; its expiry counts in any case."""
        house.answer = PAST
        house.add("a.example.org", START + 2 * DAY)
        house.now = START + 3 * DAY
        renewed = []
        for _ in range(10):
            for _ in range(24):
                house.run()
            renewed.append(len(house.renewed))
        assert renewed[1] == MOST_AT_ONCE - 1
        assert renewed[-1] <= 4 * MOST_AT_ONCE
        assert "of which it has issued 3 lately" in caplog.text

    def test_a_revocation_of_what_is_new(self, house: House) -> None:
        """A CA that has to revoke twice within days is believed."""
        house.add("a.example.org", START + 2 * DAY)
        house.now = START + 3 * DAY
        for number in (1, 2):
            house.answer = PAST
            for _ in range(5):  # what is written in one turn is read in the next, if not before
                if len(house.renewed) < number:
                    house.run()
            house.answer = Answer(START + 60 * DAY, START + 62 * DAY)
            house.run()
            house.run()
            assert len(house.renewed) == number


class TestClock:
    """A clock that was ahead, as that of a machine which has just been switched on."""

    @pytest.mark.parametrize(
        "error",
        [CAUnavailable("the clocks differ"), NotRenewable("its client has not asked")],
        ids=["nothing is ordered", "its client seems to be gone"],
    )
    @pytest.mark.parametrize("has_restarted", [False, True])
    def test_what_it_has_put_off(self, house: House, error: AcmeException, *, has_restarted: bool) -> None:
        """Once it is right, the chain is asked about and renewed as if nothing had been."""
        house.answer = WINDOW
        house.add("a.example.org")
        house.run()
        house.error = error
        house.run(365 * DAY)
        house.run()
        house.now = START + DAY
        house.error = None
        house.renewed.clear()
        house.asked.clear()
        if has_restarted:
            house.make_planner()
        house.run()
        house.run()
        assert house.asked == [f"a.example.org {START}"]
        assert house.renewed == []
        house.run(54 * DAY)
        assert house.renewed == [("a.example.org", True)]

    def test_a_clock_that_is_right(self, house: House) -> None:
        """What is put off for hours stays so over a restart."""
        house.error = CAUnavailable("down")
        house.add("a.example.org")
        house.run()
        house.run(60 * DAY)
        before = house.plan()
        house.make_planner()
        house.run(datetime.timedelta(minutes=1))
        assert house.plan() == before
