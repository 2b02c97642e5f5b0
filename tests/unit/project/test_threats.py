"""The marker `threat`: what it must name, and what `pytest --threats` counts."""

from __future__ import annotations

import pytest
from tests import threat_markers
from tests.threats import THREATS, statuses

BOTH = """
import pytest

@pytest.mark.threat("web", "odd paths")
def test_paths():
    assert 404 != 405

@pytest.mark.threat("web", "long lines")
@pytest.mark.parametrize("status", [414])
def test_lines(status):
    assert status
"""


@pytest.fixture(autouse=True)
def _small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # each run would load hypothesis anew
    table = {"web": {"odd paths": "404, or 405 with Allow", "long lines": "414"}}
    monkeypatch.setattr(threat_markers, "THREATS", table)
    monkeypatch.setattr(
        threat_markers, "EXPECTED", {("web", name): expected for name, expected in table["web"].items()}
    )


def run(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(source)
    return pytester.runpytest_inprocess("-p", "tests.threat_markers", "-p", "no:cacheprovider", *arguments)


def test_cases_are_counted(pytester: pytest.Pytester) -> None:
    """Where every case has its tests the count is printed, no test runs, and the exit code is 0."""
    result = run(pytester, BOTH, "--threats")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["web* 2 of  2 cases,    2 tests"])
    assert not result.parseoutcomes().get("passed")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (('"web", "long lines"', '"web", "odd paths"'), "web: long lines: has no test"),
        (("[414]", "[415]"), "web: long lines: no test has 414"),
        (("404 != 405", "True  # 404, 405"), "web: odd paths: no test has 404, 405"),
        (("assert 404 != 405", '"""404 and 405."""'), "web: odd paths: no test has 404, 405"),
    ],
)
def test_a_case_without_test_or_status_fails(
    pytester: pytest.Pytester, change: tuple[str, str], line: str
) -> None:
    """A case without a test, or with a status that only words mention, fails."""
    assert BOTH.count(change[0]) == 1
    result = run(pytester, BOTH.replace(*change), "--threats")
    assert result.ret == 1
    result.stdout.fnmatch_lines([line])


@pytest.mark.parametrize(
    "marker", ['"web", "odd hosts"', '"odd paths"', "", '"web"', '"web", case="odd paths"']
)
def test_a_marker_names_a_case_of_the_table(pytester: pytest.Pytester, marker: str) -> None:
    """A marker that names no case of the table stops every run."""
    result = run(pytester, BOTH.replace('"web", "odd paths"', marker))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *test_paths: *"])


def test_tests_run_without_the_option(pytester: pytest.Pytester) -> None:
    """Markers change nothing in an ordinary run."""
    run(pytester, BOTH).assert_outcomes(passed=2)


def test_the_table_names_each_case_once() -> None:
    """A case stands in one section, so that its name alone tells which one is meant."""
    names = [name for cases in THREATS.values() for name in cases]
    assert len(set(names)) == len(names)


def test_statuses_are_read_from_what_is_expected() -> None:
    """Only numbers of three digits between 100 and 599 are statuses."""
    assert statuses("404 or 405 within 1000 ms, 600 times") == {"404", "405"}
