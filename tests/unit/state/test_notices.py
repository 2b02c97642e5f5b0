"""What is told to operators, in the state of either engine."""

from __future__ import annotations

import dataclasses
import datetime

from tests.noticing import DAY, DIRECTORY, HOUR, NOW, keep_failing

from acmems.state.chains import ChainRecords
from acmems.state.engines.contract import Database, Value
from acmems.state.notices import failing
from acmems.state.notices.causes import CauseRecord, CauseRecords
from acmems.state.notices.failing import failing_renewals
from acmems.state.notices.outbox import NoticeRecord, NoticeRecords
from acmems.state.notices.sightings import SightingRecord, SightingRecords
from acmems.state.notices.week import WeekRecords

CAUSE = CauseRecord(
    cause="c",
    kind="renewal",
    began=NOW - DAY,
    seen=NOW,
    told=NOW - HOUR,
    times=3,
    stage=2,
    number=1000,
    severity="critical",
    directory=DIRECTORY,
    reason="why",
)


def record(target: str = "ops", cause: str = "c", **changed: object) -> NoticeRecord:
    made = NoticeRecord(target=target, cause=cause, id="i", notice="{}", made=NOW, next_try=NOW)
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type] # what a test changes


def test_causes(database: Database) -> None:
    """What is kept comes back, and is replaced and forgotten."""
    causes = CauseRecords(database)
    other = dataclasses.replace(CAUSE, cause="d", began=NOW)
    database.write(lambda transaction: CauseRecords.put(transaction, [CAUSE, other])).result(20)
    assert causes.all() == [CAUSE, other]
    later = dataclasses.replace(other, told=NOW + HOUR, times=4)
    database.write(lambda transaction: CauseRecords.put(transaction, [later])).result(20)
    database.write(lambda transaction: CauseRecords.remove(transaction, ["c"])).result(20)
    assert causes.all() == [later]


class TestOutbox:
    def test_what_is_due(self, database: Database) -> None:
        """The oldest first; what is to be tried later waits."""
        records = NoticeRecords(database)
        kept = [record(cause=f"c{each}", made=NOW + each * HOUR) for each in (2, 1)]
        kept.append(record("pager", next_try=NOW + HOUR))
        database.write(lambda transaction: NoticeRecords.put(transaction, kept)).result(20)
        assert records.due(NOW, 9, DAY) == [kept[1], kept[0]]
        assert records.due(NOW, 1, DAY) == [kept[1]]
        assert len(records.all()) == 3
        assert records.waiting() == {"ops": 2, "pager": 1}

    def test_what_fails(self, database: Database) -> None:
        """All that waits for its target is tried later, and is never tried earlier than it was to be."""
        records = NoticeRecords(database)
        kept = [record(cause="a"), record(cause="b", next_try=NOW + DAY), record("pager")]
        database.write(lambda transaction: NoticeRecords.put(transaction, kept)).result(20)
        records.postpone(kept[0], "no route", NOW + HOUR).result(20)
        tried = {
            (each.target, each.cause): (each.tries, each.reason, each.next_try) for each in records.all()
        }
        assert tried == {
            ("ops", "a"): (1, "no route", NOW + HOUR),
            ("ops", "b"): (0, None, NOW + DAY),
            ("pager", "c"): (0, None, NOW),
        }
        records.hasten(["ops"], NOW + datetime.timedelta(minutes=1)).result(20)
        assert {each.next_try for each in records.all() if each.target == "ops"} == {
            NOW + datetime.timedelta(minutes=1)
        }

    def test_what_is_replaced(self, database: Database) -> None:
        """It keeps its turn; the one before it is not there any more, and its delivery removes nothing."""
        records = NoticeRecords(database)
        first, second = record(), record(id="j", notice="[]", made=NOW + HOUR, next_try=NOW + HOUR)
        database.write(lambda transaction: NoticeRecords.put(transaction, [first])).result(20)
        records.postpone(first, "no route", NOW + DAY).result(20)
        database.write(lambda transaction: NoticeRecords.put(transaction, [second])).result(20)
        records.remove(first).result(20)
        (left,) = records.all()
        assert (left.id, left.made, left.tries, left.next_try) == ("j", NOW + HOUR, 1, NOW + DAY)
        records.remove(left).result(20)
        assert records.all() == []


def test_sightings(database: Database) -> None:
    """When something began stays; what works is forgotten."""
    records = SightingRecords(database)
    seen = SightingRecord(subject="ca u", kind="ca", directory=DIRECTORY, began=NOW, seen=NOW, reason="away")
    records.note([seen], []).result(20)
    again = dataclasses.replace(seen, began=NOW + HOUR, seen=NOW + HOUR, reason="still")
    records.note([again], ["account u"]).result(20)
    assert records.all() == [dataclasses.replace(again, began=NOW)]
    records.note([], ["ca u"]).result(20)
    assert records.all() == []


class TestFailing:
    def test_all_of_them(self, database: Database) -> None:
        """However many pages they are."""
        keep_failing(database, failing.PAGE + 3, now=NOW)
        found = list(failing_renewals(database))
        assert len({each.fingerprint for each in found}) == len(found) == failing.PAGE + 3
        first = found[0]
        assert (first.names, first.block, first.directory) == (("machine0.example.org",), "web", DIRECTORY)
        assert (first.due, first.ends, first.next_try) == (NOW - 21 * DAY, NOW + 9 * DAY, NOW + HOUR)
        assert (first.failures, first.fault) == (3, "ChallengeFailed")

    def test_what_does_not_fail(self, database: Database) -> None:
        """What has not been tried, what is revoked, and what has a successor."""
        keep_failing(database, 3, now=NOW)
        fingerprints = [each.fingerprint for each in failing_renewals(database)]
        statements = (
            "UPDATE renewals SET failures = 0 WHERE fingerprint = ?",
            "UPDATE chains SET reason = 'keyCompromise' WHERE fingerprint = ?",
            "UPDATE chains SET superseded = 1 WHERE fingerprint = ?",
        )
        for left, (statement, fingerprint) in enumerate(zip(statements, fingerprints, strict=True)):
            change(database, statement, fingerprint)
            assert len(list(failing_renewals(database))) == 2 - left


def change(database: Database, statement: str, *values: Value) -> None:
    database.write(lambda transaction: transaction.execute(statement, values).rowcount).result(20)


def test_a_week(database: Database) -> None:
    """Certificates by how they are, and what was issued; of a former one nothing is counted."""
    keep_failing(database, 4, now=NOW)
    first, _, third, fourth = (f"{each:064x}" for each in range(4))
    yesterday, tomorrow = (int((NOW + days * DAY).timestamp()) for days in (-1, 1))
    change(database, "UPDATE renewals SET failures = 0 WHERE fingerprint <> ?", first)
    change(database, "UPDATE renewals SET due = ? WHERE fingerprint = ?", tomorrow, third)
    change(database, "UPDATE chains SET not_after = ? WHERE fingerprint = ?", yesterday, fourth)
    change(database, "UPDATE renewals SET ends_at = ? WHERE fingerprint = ?", yesterday, fourth)
    (kept,) = ChainRecords(database).of([first])
    former = dataclasses.replace(
        kept, fingerprint="old", issued=NOW - 60 * DAY, superseded=NOW, not_after=NOW + DAY
    )
    ChainRecords(database).add(former).result(20)
    change(database, "UPDATE chains SET superseded = NULL WHERE fingerprint = ?", first)
    weeks = WeekRecords(database)
    week = weeks.look(NOW - 7 * DAY, NOW, 2)
    assert (week.fresh, week.due, week.failing, week.expired) == (1, 2, 1, 1)
    assert (week.issued, week.renewed, week.failed) == (4, 1, 0)
    assert len(week.ends) == 2
    database.write(lambda transaction: WeekRecords.note(transaction, ["a", "b"], NOW)).result(20)
    database.write(lambda transaction: WeekRecords.note(transaction, ["b"], NOW + DAY)).result(20)
    assert weeks.made() == {"a": NOW, "b": NOW + DAY}
