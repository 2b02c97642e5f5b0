"""Print what pyproject.toml allows at least of each dependency that users install, a constraint each."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?>=(?P<version>[0-9.]+)")


def lowest(pyproject: str) -> list[str]:
    """Return `NAME==VERSION` for each dependency, those of extras included.

    Raises:
        ValueError: a dependency is not written as `NAME>=VERSION`, so that its lowest version is unclear.
    """
    project = tomllib.loads(pyproject)["project"]
    extras = project.get("optional-dependencies", {}).values()
    constraints = []
    for requirement in [*project["dependencies"], *(each for extra in extras for each in extra)]:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement} is not written as NAME>=VERSION")
        constraints.append(f"{match['name']}=={match['version']}")
    return constraints


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in lowest(PYPROJECT.read_text(encoding="utf-8"))))
