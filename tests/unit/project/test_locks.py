"""The locks hold what pyproject.toml wants, and no machine's own packages; scripts/lock makes them anew."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from scripts.lowest import PYPROJECT, lowest

LOCKS = sorted((PYPROJECT.parent / "requirements").glob("*.lock"))
PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]+?))?"
    r"(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
)
PYTHONS = ("3.11.2", "3.12.1", "3.13.0")


def pins(lock: Path, python: str) -> dict[str, Version]:
    """Return what a lock installs on Linux for a Python."""
    environment = {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": "linux",
    }
    found: dict[str, Version] = {}
    for match in PIN.finditer(lock.read_text(encoding="utf-8")):
        if match["marker"] is None or Marker(match["marker"]).evaluate(environment):
            assert match["name"] not in found
            found[match["name"]] = Version(match["version"])
    return found


def wanted(lock: str) -> list[Requirement]:
    """Return what pyproject.toml wants to be in a lock."""
    pyproject = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    lists = [pyproject["project"]["dependencies"], *pyproject["project"]["optional-dependencies"].values()]
    for name, group in pyproject["dependency-groups"].items():
        if name in {"build", "test"} or (lock == "dev" and name != "fuzz"):
            lists.append(group)
    return [Requirement(text) for texts in lists for text in texts]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_is_pins_with_hashes_alone(lock: Path) -> None:
    """Every line is part of a pin with its hashes: no index, no URL, no path, nothing open."""
    assert re.sub("^#.*\n", "", PIN.sub("", lock.read_text(encoding="utf-8")), flags=re.MULTILINE) == ""


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_what_is_wanted(lock: Path, python: str) -> None:
    """Each dependency and tool is pinned, for each Python, to a version that pyproject.toml allows."""
    found = pins(lock, python)
    for requirement in wanted(lock.stem):
        version = found.get(canonicalize_name(requirement.name))
        assert version is not None, requirement
        assert requirement.specifier.contains(version, prereleases=True), (requirement, version)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lowest_versions_are_locked(python: str) -> None:
    """What users install stands in lowest.lock with the very version that pyproject.toml names."""
    found = pins(LOCKS[0].with_stem("lowest"), python)
    for constraint in lowest(PYPROJECT.read_text(encoding="utf-8")):
        name, _, version = constraint.partition("==")
        assert found[canonicalize_name(name)] == Version(version), constraint


@pytest.mark.parametrize("requirement", ["a", "a<2", "a>=1,<2", "a==1", "a>=1; python_version < '3.12'"])
def test_a_dependency_says_its_lowest_version_alone(requirement: str) -> None:
    """Anything but a lower bound is refused, as nothing would test the rest."""
    with pytest.raises(ValueError, match=re.escape(requirement)):
        lowest(f'[project]\ndependencies = ["{requirement}"]')


def test_extras_are_dependencies_of_users() -> None:
    """Extras are counted, and their own extras left out."""
    text = '[project]\ndependencies = ["a>=1.0"]\n[project.optional-dependencies]\nmore = ["b[c]>=2"]\n'
    assert lowest(text) == ["a==1.0", "b==2"]
