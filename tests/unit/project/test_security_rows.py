"""Every row of the table of what may go wrong names its tests, and they exist."""

from __future__ import annotations

import pytest
from tests.security_rows import ROWS
from tests.security_rows.row import Row, is_shown, known_tests

EVERY = [row for rows in ROWS.values() for row in rows]


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.case)
def test_a_row_has_its_tests(row: Row) -> None:
    """A row names at least one test, and each of them stands where the row says."""
    assert row.tests
    assert [test for test in row.tests if test not in known_tests(test.partition("::")[0])] == []


def test_rows_differ() -> None:
    """No case is in the table twice, and no row names a test twice."""
    assert len({row.case for row in EVERY}) == len(EVERY)
    assert all(len(set(row.tests)) == len(row.tests) for row in EVERY)


@pytest.mark.parametrize(
    "tests",
    [
        (),
        ("tests/unit/project/test_security_rows.py::test_that_is_none",),
        ("tests/unit/test_none.py::test_rows_differ",),
        ("tests/unit/project/test_security_rows.py::TestNone::test_rows_differ",),
        ("tests/unit/project/test_security_rows.py::test_rows_differ", "tests/unit/test_none.py::test_x"),
    ],
)
def test_what_is_missing_is_missed(tests: tuple[str, ...]) -> None:
    """A row without tests, or with one that is in no file, counts as not shown."""
    assert not is_shown(Row("case", "expected", tests))
