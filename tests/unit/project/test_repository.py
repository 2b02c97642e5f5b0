"""What holds for the repository as a whole."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

MACHINE_PATH = re.compile(r"(?<![\w.<>~$}/-])/(?:home/\w|root/\w|work/\w|Users/\w|opt/\w+/simple)")
REGISTRY = re.compile(r"\b(?:pypi\.org|pythonhosted\.org|deb\.debian\.org|security\.debian\.org|index-url)\b")


def tracked() -> list[Path]:
    """Return the files under version control, or about to be."""
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    """Return `file:line: text` for each line of a tracked file that the pattern finds."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def own_imports(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of acmems' modules anywhere in a tree."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = ["acmems" if node.level else node.module or ""]
        else:
            continue
        if any(name.partition(".")[0] == "acmems" for name in names):
            found.append(node)
    return found


def test_no_file_knows_a_machine() -> None:
    """No tracked file names a path of somebody's machine."""
    assert lines_matching(MACHINE_PATH) == []


def test_no_file_knows_a_registry() -> None:
    """No tracked file names a package registry or mirror: the machine decides where packages come from."""
    assert lines_matching(REGISTRY) == []


def test_scripts_are_doors() -> None:
    """Each script, and what continuous integration calls, runs by its name alone."""
    scripts = [
        path
        for path in tracked()
        if path.parent.name == ".ci" or (path.parent.name == "scripts" and not path.suffix)
    ]
    assert {"check", "demo", "environment", "peers", "run", "test"} <= {path.name for path in scripts}
    for path in scripts:
        assert os.access(path, os.X_OK), path
        assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env "), path


def test_imports_hide_in_no_function() -> None:
    """Modules of acmems import each other at their top, where the import floors see it."""
    hidden = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "src").rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in own_imports(function)
    ]
    assert hidden == []


def test_every_module_has_its_floor() -> None:
    """The contracts of the import floors are exhaustive and ignore no import."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    assert not tool.get("exclude_type_checking_imports")
    assert not any(contract.get("ignore_imports") for contract in tool["contracts"])
    layered = [contract for contract in tool["contracts"] if contract["type"] == "layers"]
    assert ["acmems"] in [floors["containers"] for floors in layered]
    for floors in layered:
        assert floors["exhaustive"]
        assert not floors.get("exhaustive_ignores")


@pytest.mark.parametrize("comment", ["noqa", "type: ignore"])
def test_every_ignore_says_what_and_why(comment: str) -> None:
    """Each `noqa` and `type: ignore` carries a code and a reason."""
    code = r"(?:: [A-Z]+\d+(?:, [A-Z]+\d+)*|\[[a-z-]+(?:, ?[a-z-]+)*\])"
    bare = re.compile(rf"# {comment}(?!{code}\s+(?:#|-) \S)")
    lines = [line for line in lines_matching(bare) if line.partition(":")[0].endswith(".py")]
    assert lines == []
