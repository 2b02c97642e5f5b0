"""The marker `threat`, and `pytest --threats`: each case of the table has tests that assert its statuses."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping

import pytest
from tests.threats import THREATS, statuses

Case = tuple[str, str]
EXPECTED: Mapping[Case, str] = {
    (section, name): expected for section, cases in THREATS.items() for name, expected in cases.items()
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that counts."""
    parser.addoption("--threats", action="store_true", help="count the tests of each threat, and run none")


def cases_of(item: pytest.Item) -> Iterator[Case]:
    """Yield the cases that a test's markers name.

    Raises:
        pytest.UsageError: a marker names a case that is not in the table.
    """
    for marker in item.iter_markers("threat"):
        section, *names = marker.args or ("",)
        if not names or marker.kwargs:
            raise pytest.UsageError(f"{item.nodeid}: the marker is threat(section, case, ...)")
        for name in names:
            if (section, name) not in EXPECTED:
                raise pytest.UsageError(f"{item.nodeid}: tests/threats.py has no {section!r}, {name!r}")
            yield section, name


def literals(item: pytest.Item) -> frozenset[str]:
    """Return the numbers and strings that a test's body holds or that are its parameters."""
    assert isinstance(item, pytest.Function)
    [function] = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(item.function)))).body
    assert isinstance(function, ast.FunctionDef)
    nodes = (node for statement in function.body for node in ast.walk(statement))
    values: list[object] = [node.value for node in nodes if isinstance(node, ast.Constant)]
    if hasattr(item, "callspec"):
        values += item.callspec.params.values()
    return frozenset(str(value) for value in values if isinstance(value, int | str))


def tests_by_case(items: Iterable[pytest.Item]) -> dict[Case, list[pytest.Item]]:
    """Return the tests of each case of the table, none left out."""
    found: dict[Case, list[pytest.Item]] = {case: [] for case in EXPECTED}
    for item in items:
        for case in cases_of(item):
            found[case].append(item)
    return found


def shortcoming(case: Case, tests: Iterable[pytest.Item]) -> str | None:
    """Return what the tests of a case do not show, None if they show all of it."""
    asserted = [literals(test) for test in tests]
    if not asserted:
        return "has no test"
    missing = statuses(EXPECTED[case]).difference(*asserted)
    return f"no test has {', '.join(sorted(missing))}" if missing else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Read every marker, so that one that names no case stops each run."""
    tests_by_case(items)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Count instead of running, where that is asked for; what a case lacks makes the run fail."""
    if not session.config.getoption("--threats") or session.testsfailed:
        return None
    found = tests_by_case(session.items)
    short = {case: words for case, tests in found.items() if (words := shortcoming(case, tests))}
    terminal = session.config.get_terminal_writer()
    for section in THREATS:
        cases = [case for case in found if case[0] == section]
        whole = sum(case not in short for case in cases)
        tests = {test.nodeid for case in cases for test in found[case]}
        terminal.line(f"{section:8} {whole:3} of {len(cases):2} cases, {len(tests):4} tests")
    for (section, name), words in short.items():
        terminal.line(f"{section}: {name}: {words}", red=True)
    session.testsfailed = len(short)
    return True
