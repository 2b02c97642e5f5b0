"""The simulation of a fleet tells a good server from a bad one."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from scripts.fleet_simulation import plots, report
from scripts.fleet_simulation.__main__ import simulate as run
from scripts.fleet_simulation.ca import CountingCA, IssuedLeaf, Time
from scripts.fleet_simulation.fleet import Course, Fleet
from scripts.fleet_simulation.outcome import Outcome
from scripts.fleet_simulation.plan import DAY, HOUR, START, Overrides, Plan, parse

from acmems.issuing.limits import ledger
from acmems.issuing.renewal import planner

FEW = Overrides(orders=30, per_domain=10)
"""So few that the ledger has something to do."""


def plan_of(*arguments: str) -> Plan:
    plan: Plan = parse(["--certificates", "150", "--days", "9", "--step", "180", *arguments]).plan
    return plan


def simulate(folder: Path, plan: Plan) -> Outcome:
    fleet = Fleet(folder, plan, Course.new(plan))
    fleet.begin()
    fleet.run(lambda _: True)
    return fleet.finish()


@pytest.fixture
def plan() -> Plan:
    """A few days with an outage, a mass revocation, and many machines that come at once."""
    made = plan_of("--outage", "2", "--burst", "4", "--revoke", "6", "--shares", "30", "30", "40")
    return Plan(**vars(made) | {"overrides": FEW, "burst_share": 0.5, "keep_chains": DAY})


class TestFleet:
    def test_all_is_well(self, tmp_path: Path, plan: Plan) -> None:
        """Nothing expires, no limit is broken; new machines wait for their turn, and failures are few."""
        outcome = simulate(tmp_path, plan)
        assert outcome.is_good
        assert outcome.renewals > 150
        assert outcome.refused > 0
        assert outcome.failed.keys() == {"the CA is away"}
        assert outcome.certificates == 150 + outcome.new
        assert (len(outcome.orders), outcome.days) == (9, 9)
        text = report.as_text(plan, outcome)
        assert "expired                                                  0\n" in text
        document = json.loads(report.as_json(plan, outcome))
        assert document["outcome"]["expired"] == 0
        assert [document["plan"][each] for each in ("step", "keep_chains")] == [3 * 3600, 86400]

    def test_another_day(self, tmp_path: Path, plan: Plan) -> None:
        """A simulation that is stopped and goes on later comes out as one that is not stopped."""
        (tmp_path / "whole").mkdir()
        (tmp_path / "parts").mkdir()
        whole = simulate(tmp_path / "whole", plan)
        signals = [15]
        parts = [run(plan, tmp_path / "parts", signals, keeps=True) for _ in range(4)]
        assert [each.days for each in parts] == [1, 2, 3, 4]
        signals.clear()
        (tmp_path / "parts" / "state.sqlite").unlink()  # what is kept is enough
        last = run(plan, tmp_path / "parts", signals, keeps=True)
        assert (last.orders, last.questions, last.latest) == (whole.orders, whole.questions, whole.latest)
        with pytest.raises(ValueError, match="another simulation"):
            run(plan_of("--seed", "2"), tmp_path / "parts", signals, keeps=True)

    def test_the_same_again(self, tmp_path: Path, plan: Plan) -> None:
        """The seed decides."""
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        one, other = (simulate(tmp_path / name, plan) for name in "ab")
        assert (one.orders, one.questions, one.latest) == (other.orders, other.questions, other.latest)

    def test_a_ledger_that_lets_all_pass(
        self, tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The CA sees the orders that break a limit."""

        def no_wait(*_: object) -> int:
            return 0

        monkeypatch.setattr(ledger, "wait_of", no_wait)
        outcome = simulate(tmp_path, plan)
        assert outcome.broken > 0
        assert not outcome.is_good

    def test_a_planner_that_does_nothing(
        self, tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Certificates expire."""
        monkeypatch.setattr(planner.RenewalPlanner, "run", lambda _: None)
        assert simulate(tmp_path, plan).expired > 0


class TestCA:
    def test_limits(self) -> None:
        """It counts as it says, and a place becomes free again."""
        time = Time()
        ca = CountingCA(time, Plan(**vars(plan_of()) | {"overrides": Overrides(orders=3, per_domain=2)}))
        names = [f"host{number}.d{number // 2}.example" for number in range(4)]
        assert [ca.order(name, None, replaces=False) for name in names] == [True, True, True, False]
        assert ca.order("host9.d0.example", None, replaces=False) is False
        assert ca.broken == {"orders": 2, "certificates per domain": 1}
        time.now += HOUR
        assert ca.order(names[3], None, replaces=False)

    @pytest.mark.parametrize(
        ("replaces", "moment", "counts"),
        [(True, 60.0, 0), (True, 58.0, 1), (True, 62.0, 1), (False, 60.0, 1)],
    )
    def test_renewals(self, replaces: bool, moment: float, counts: int) -> None:
        """It does not count those that name their predecessor, in its window, and once."""
        time = Time(START + moment * DAY)
        ca = CountingCA(time, plan_of("--days", "100", "--revoke", "-1"))
        old = IssuedLeaf("00", 90 * DAY, int((START + 90 * DAY).timestamp()))
        assert ca.order("host1.d0.example", old, replaces=replaces)
        assert sum(ca.counted.values()) == counts
        assert ca.order("host1.d0.example", old, replaces=replaces)
        assert sum(ca.counted.values()) == counts + 1

    def test_what_is_to_be_revoked(self) -> None:
        """A tenth of what was issued before; its window lies in the past and goes on for some days."""
        time = Time(START + 7 * DAY)
        ca = CountingCA(time, plan_of("--revoke", "6"))
        old, new = (int((START + days * DAY).timestamp()) for days in (90, 97))
        told = [ca.window(IssuedLeaf(f"{number:06x}", 90 * DAY, old)).explanation for number in range(20)]
        assert [bool(each) for each in told] == ([True] + [False] * 9) * 2
        assert ca.window(IssuedLeaf("000000", 90 * DAY, old)).start < time.now
        assert not ca.window(IssuedLeaf("000000", 90 * DAY, new)).explanation


def test_the_plots() -> None:
    """Each is whole, whatever it shows."""
    for orders in [[], [0], list(range(400))]:
        picture = ElementTree.fromstring(plots.as_svg(orders, orders, 300, "title"))  # noqa: S314 - ours
        assert picture.tag.endswith("svg")
        lines = list(plots.as_text(orders, orders))
        assert len({len(line) for line in lines[:12]}) == 1
