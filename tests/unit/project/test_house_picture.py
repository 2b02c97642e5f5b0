"""The picture of the layers on the page of the design, held against the contracts and the source."""

from __future__ import annotations

import ast
import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from docs._ext.house_picture import picture
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[3]
EXTENSIONS = str(ROOT / "docs" / "_ext")
SVG = "{http://www.w3.org/2000/svg}"
TOOL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
CONTRACTS = [contract for contract in TOOL["contracts"] if contract["type"] == "layers"]
FILES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "src").rglob("*.py")
}


@dataclass(frozen=True)
class Box:
    """A module on the picture."""

    name: str
    kind: str
    left: float
    top: float
    right: float
    bottom: float
    role: str

    def is_in(self, other: Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )

    def is_beside(self, other: Box) -> bool:
        return (
            self.right <= other.left
            or other.right <= self.left
            or self.bottom <= other.top
            or other.bottom <= self.top
        )


def boxes(element: ET.Element, left: float = 0.0, top: float = 0.0) -> Iterator[Box]:
    """Return the modules in a part of a picture, with the places where they are drawn."""
    if moved := re.fullmatch(r"translate\((\S+) (\S+)\)", element.get("transform", "")):
        left, top = left + float(moved[1]), top + float(moved[2])
    if name := element.get("data-module"):
        frame = element.find(f"{SVG}rect")
        assert frame is not None
        right, bottom = left + float(frame.get("width", "")), top + float(frame.get("height", ""))
        words = [each.text or "" for each in element.findall(f"{SVG}text[@class='role']")]
        words += [each.text or "" for each in element.findall(f"{SVG}title")]
        yield Box(name, element.get("class", ""), left, top, right, bottom, " ".join(words))
    for child in element:
        yield from boxes(child, left, top)


def drawn(text: str) -> list[Box]:
    """Return the modules on a picture."""
    return list(boxes(ET.fromstring(text)))  # noqa: S314 - our own program has just made it


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Box]:
    """What the page of the design shows, as the documentation build makes it."""
    source = tmp_path_factory.mktemp("page")
    shutil.copy(ROOT / "docs" / "design.md", source / "index.md")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {EXTENSIONS!r})\nextensions = ['myst_parser', 'house_picture']\n"
    )
    arguments = ["-q", "-d", str(source / "doctrees"), str(source), str(source / "built")]
    subprocess.run([sys.executable, "-m", "sphinx", *arguments], check=True, capture_output=True)
    page = (source / "built" / "index.html").read_text(encoding="utf-8")
    [svg] = re.findall(r"(?s)<svg .*?</svg>", page)
    return drawn(svg)


def floors(shown: list[Box]) -> list[list[str]]:
    """Return the names on each floor, from the top; a floor is what begins at one height."""
    found = sorted((box for box in shown if box.kind == "floor"), key=lambda box: (box.top, box.left))
    return [[box.name for box in row] for _, row in itertools.groupby(found, key=lambda box: box.top)]


def layers_of(container: str, layers: list[str]) -> list[list[str]]:
    return [[f"{container}.{name}" for name in re.split(" [|:] ", layer)] for layer in layers]


def test_floors_are_the_layers_that_are_checked(shown: list[Box]) -> None:
    """The built page shows each layer that import-linter checks as a floor, in the same order."""
    [layers] = [contract["layers"] for contract in CONTRACTS if contract["containers"] == ["acmems"]]
    assert floors(shown) == layers_of("acmems", layers)


def test_every_module_is_shown_once(shown: list[Box]) -> None:
    """The built page shows each module and package of the source, and nothing else."""
    assert Counter(box.name for box in shown) == Counter(FILES.keys() - {"acmems"})


def test_each_module_is_in_its_package(shown: list[Box]) -> None:
    """A box encloses those of the modules in its package; all others are beside it."""
    for one, other in itertools.permutations(shown, 2):
        if other.name.startswith(f"{one.name}."):
            assert other.is_in(one), (one, other)
        elif not one.name.startswith(f"{other.name}."):
            assert one.is_beside(other), (one, other)


def test_roles_are_those_of_the_docstrings(shown: list[Box]) -> None:
    """Each box has the first line of the docstring of its module."""
    for box in shown:
        docstring = ast.get_docstring(ast.parse(FILES[box.name].read_text(encoding="utf-8"))) or ""
        assert box.role == docstring.partition("\n")[0].rstrip(".").replace("`", ""), box.name


@pytest.mark.parametrize(
    ("container", "layers"),
    [(each, contract["layers"]) for contract in CONTRACTS for each in contract["containers"]],
)
def test_layers_are_read_from_the_top(shown: list[Box], container: str, layers: list[str]) -> None:
    """In each package with a contract, a module is below or to the right of what may import it."""
    places = {box.name: (box.top, box.left) for box in shown}
    ordered = [[places[name] for name in layer] for layer in layers_of(container, layers)]
    for above, below in itertools.pairwise(ordered):
        assert max(above) < min(below)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with contracts for its root and for one of its two packages."""
    for name in ("top", "wide/__init__", "wide/b", "wide/a", "wide/deep/__init__", "wide/deep/x", "low"):
        path = tmp_path / "src" / "toy" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"""Does what {name} <does>."""\n')
    (tmp_path / "src" / "toy" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        "[tool.importlinter]\nroot_package = 'toy'\n"
        "[[tool.importlinter.contracts]]\ntype = 'layers'\ncontainers = ['toy']\n"
        "layers = ['top', 'wide | low']\n"
        "[[tool.importlinter.contracts]]\ntype = 'layers'\ncontainers = ['toy.wide']\n"
        "layers = ['b', 'deep', 'a']\n"
    )
    return tmp_path


def test_packages_may_have_contracts(project: Path) -> None:
    """Inside a package its own contract gives the order, and packages in it get rows of their own."""
    found = {box.name: box for box in drawn(picture(project))}
    assert floors(list(found.values())) == [["toy.top"], ["toy.wide", "toy.low"]]
    tops = [found[f"toy.wide.{name}"].top for name in ("b", "deep", "deep.x", "a")]
    assert tops == sorted(set(tops))
    assert found["toy.wide.deep.x"].is_in(found["toy.wide.deep"])
    assert found["toy.low"].role == "Does what low <does>"


def test_contracts_must_fit_the_source(project: Path) -> None:
    """A layer without a module stops the build and is named."""
    (project / "src" / "toy" / "wide" / "a.py").unlink()
    with pytest.raises(ExtensionError, match=r"toy\.wide\.a, which does not exist"):
        picture(project)


def test_root_must_have_a_contract(project: Path) -> None:
    """Without a contract for the root package there is nothing to draw."""
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("containers = ['toy']", "containers = ['other']"))
    with pytest.raises(ExtensionError, match="checks no layers of toy"):
        picture(project)
