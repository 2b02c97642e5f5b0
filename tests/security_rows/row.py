"""One thing that may go wrong, and whether tests show what happens then."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """One thing that may go wrong, and what must happen then.

    Args:
        case: what happens to us.
        expected: what we do.
        tests: node ids of the tests that show it, `FILE::CLASS::TEST`, without parameters.
    """

    case: str
    expected: str
    tests: tuple[str, ...]


@functools.cache
def known_tests(file: str) -> frozenset[str]:
    """Return the node ids of all tests in a file, without their parameters.

    Args:
        file: its path, from the root of the repository.
    """
    if not (ROOT / file).is_file():
        return frozenset()
    found = set()
    for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{file}::{node.name}::" if isinstance(node, ast.ClassDef) else f"{file}::"
        functions = [function.name for function in inner if isinstance(function, ast.FunctionDef)]
        found |= {prefix + name for name in functions if name.startswith("test_")}
    return frozenset(found)


def is_shown(row: Row) -> bool:
    """Tell whether a row names tests, and all of them exist."""
    return bool(row.tests) and all(test in known_tests(test.partition("::")[0]) for test in row.tests)
