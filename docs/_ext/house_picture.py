"""The layers of the source as a picture, drawn from the contracts that import-linter checks.

    ```{house-picture}
    ```

becomes an SVG with a floor for each layer of the root package. A floor shows its packages with the first
line of their docstring and the modules in them; packages with a contract of their own show their layers.
"""

from __future__ import annotations

import ast
import math
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

ROOT = Path(__file__).parents[2]
WIDTH = 860.0
MARGIN = 30.0  # left of the floors, for the arrow
ROOF = 38.0
PADDING = 8.0
GAP = 4.0
LINE = 15.0
CHIP = 17.0
# Widths of characters, in pixels. Browsers choose the fonts, so the widest of the usual ones counts.
NAME_CHARACTER = 7.85
CHIP_CHARACTER = 6.65
ROLE_CHARACTER = 6.25
SIGN = 16.0
MOST_PACKAGES = 7  # side by side; more of them stand in two rows
NARROWEST = 200.0  # for a role beside its name; below, it gets lines of its own

STYLE = """
.house-picture { overflow-x: auto; margin: 1em 0; }
.house-picture svg { display: block; width: 100%; min-width: 720px; height: auto; }
.house-picture text { fill: var(--color-foreground-primary, #222); font: 12px var(--font-stack, sans-serif); }
.house-picture .name, .house-picture .module text { font-family: var(--font-stack--monospace, monospace); }
.house-picture .name { font-size: 13px; font-weight: 600; }
.house-picture .name, .house-picture .roof text { fill: var(--color-brand-content, #2757dd); }
.house-picture .module text { font-size: 11px; }
.house-picture .next, .house-picture .arrow text { fill: var(--color-foreground-muted, #6b6f76); }
.house-picture .arrow path { fill: none; stroke: var(--color-foreground-muted, #6b6f76); stroke-width: 1.5; }
.house-picture rect, .house-picture .roof path { stroke: var(--color-foreground-border, #878787); }
.house-picture rect { stroke-opacity: 0.5; }
.house-picture .floor > rect, .house-picture .roof path { fill: var(--color-background-secondary, #f5f6f8); }
.house-picture .package > rect { fill: var(--color-background-hover, #eaecf0); }
.house-picture .module > rect { fill: var(--color-background-primary, #fff); }
.house-picture .module:hover > rect { stroke: var(--color-brand-primary, #2757dd); }
"""


@dataclass(frozen=True, slots=True)
class Module:
    """A module or package of the source.

    Args:
        name: the full name, with dots.
        role: the first line of its docstring.
        inside: the modules of a package; None for a plain module.
    """

    name: str
    role: str
    inside: tuple[Module, ...] | None = None

    @property
    def label(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def child(self, label: str) -> Module:
        """Return one of the modules in this package.

        Raises:
            ExtensionError: a contract names a module that does not exist.
        """
        for module in self.inside or ():
            if module.label == label:
                return module
        raise ExtensionError(f"a contract of import-linter names {self.name}.{label}, which does not exist")

    def walk(self) -> Iterator[Module]:
        """Return the module and all modules below it."""
        yield self
        for module in self.inside or ():
            yield from module.walk()


Layers = Sequence[Sequence[str]]


def read_module(path: Path, name: str) -> Module:
    """Return the module or package at a path, with what it contains; nothing is imported."""
    source = path / "__init__.py" if path.is_dir() else path
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    role = docstring.partition("\n")[0].rstrip(".").replace("`", "")
    if not path.is_dir():
        return Module(name, role)
    inside = [
        read_module(each, f"{name}.{each.stem}")
        for each in sorted(path.iterdir())
        if (each.suffix == ".py" and each.stem != "__init__") or (each / "__init__.py").is_file()
    ]
    return Module(name, role, tuple(inside))


def read_layers(pyproject: Path) -> tuple[str, dict[str, Layers]]:
    """Return the name of the root package, and the layers of each container from the top.

    Members of one layer are divided by `|` where they must not import each other, else by `:`.
    """
    tool = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]
    found: dict[str, Layers] = {
        container: [re.split(r"\s*[|:]\s*", layer.strip()) for layer in contract["layers"]]
        for contract in tool["contracts"]
        if contract["type"] == "layers"
        for container in contract["containers"]
    }
    return str(tool["root_package"]), found


@dataclass(slots=True)
class Piece:
    """A part of the picture: its own group of elements, and the space that it takes."""

    group: ET.Element
    width: float
    height: float

    def at(self, x: float, y: float) -> ET.Element:
        """Return the group, moved to a place in the group around it."""
        self.group.set("transform", f"translate({x:g} {y:g})")
        return self.group


class Drawing:
    """Draws modules as boxes of given widths.

    Args:
        layers: the layers of each container.
    """

    def __init__(self, layers: Mapping[str, Layers]) -> None:
        self.layers = layers
        self.name_width = 0.0

    def house(self, package: Module) -> ET.Element:
        """Return the picture of the root package.

        Raises:
            ExtensionError: its layers are not checked, or one of them does not exist.
        """
        if package.name not in self.layers:
            raise ExtensionError(f"import-linter checks no layers of {package.name}")
        floors = [[package.child(label) for label in layer] for layer in self.layers[package.name]]
        longest = max(len(module.label) for floor in floors for module in floor)
        self.name_width = longest * NAME_CHARACTER + 12
        svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "group"})
        _sub(svg, "title", f"The layers of {package.name}, from the top")
        svg.append(_roof(package.name).at(MARGIN, 0))
        y = ROOF + GAP
        for floor in floors:
            piece = self.columns(floor, WIDTH - MARGIN, "floor")
            svg.append(piece.at(MARGIN, y))
            y += piece.height + GAP
        svg.append(_arrow(y - ROOF - 2 * GAP).at(0, ROOF + GAP))
        svg.set("viewBox", f"0 0 {WIDTH + 1:g} {math.ceil(y)}")
        return svg

    def columns(self, modules: Sequence[Module], width: float, kind: str) -> Piece:
        """Return boxes side by side, with the widths that make the row lowest."""
        room = width - GAP * (len(modules) - 1)
        extents = [sum(len(each.label) + 3 for each in module.walk()) for module in modules]
        rows = []
        for exponent in (0.0, 0.25, 0.5, 0.75, 1.0):
            weights = [extent**exponent for extent in extents]
            widths = [room * (0.4 / len(modules) + 0.6 * weight / sum(weights)) for weight in weights]
            pieces = [self.box(*each, kind) for each in zip(modules, widths, strict=True)]
            rows.append((max(piece.height for piece in pieces), exponent, pieces))
        height, _, pieces = min(rows, key=lambda row: row[:2])
        group = ET.Element("g", {"class": "row"})
        x = 0.0
        for piece in pieces:
            piece.group[0].set("height", f"{height:g}")
            group.append(piece.at(x, 0))
            x += piece.width + GAP
        return Piece(group, width, height)

    def box(self, module: Module, width: float, kind: str) -> Piece:
        """Return a box with name and role, and what is inside."""
        group = ET.Element("g", {"class": kind, "data-module": module.name})
        frame = _sub(group, "rect", x="0", y="0", width=f"{width:g}", rx="4")
        _sub(group, "text", module.label, x=f"{PADDING:g}", y="16", **{"class": "name"})
        indent = PADDING + (self.name_width if kind == "floor" else len(module.label) * NAME_CHARACTER + 10)
        y = 16.0
        if width - indent < NARROWEST:
            indent, y = PADDING, y + LINE
        characters = max(10, int((width - indent - PADDING) / ROLE_CHARACTER))
        for line in textwrap.wrap(module.role, characters, break_long_words=False, break_on_hyphens=False):
            _sub(group, "text", line, x=f"{indent:g}", y=f"{y:g}", **{"class": "role"})
            y += LINE
        y = max(y - LINE, 16.0) + 7
        for piece in self.rows(module, width - indent - PADDING):
            group.append(piece.at(indent, y))
            y += piece.height + GAP
        y += 1
        frame.set("height", f"{y:g}")
        return Piece(group, width, y)

    def rows(self, package: Module, width: float) -> Iterator[Piece]:
        """Return what is inside a package, row by row."""
        inside = package.inside or ()
        checked = self.layers.get(package.name)
        if checked is None:
            plain = [module for module in inside if module.inside is None]
            packages = [module for module in inside if module.inside is not None]
            rows = [packages[start::2] for start in (0, 1)] if len(packages) > MOST_PACKAGES else [packages]
            layers = [layer for layer in (plain, *rows) if layer]
        else:
            layers = [[package.child(label) for label in layer] for layer in checked]
        waiting: list[Sequence[Module]] = []
        for layer in layers:
            if all(module.inside is None for module in layer):
                waiting.append(layer)
                continue
            if waiting:
                yield _flow(waiting, width)
            waiting = []
            yield self.columns(layer, width, "package")
        if waiting:
            yield _flow(waiting, width)


def _flow(layers: Iterable[Sequence[Module]], width: float) -> Piece:
    """Return modules one after the other in lines, with an arrow between layers."""
    group = ET.Element("g", {"class": "flow"})
    x = y = 0.0
    for number, layer in enumerate(layers):
        if number:
            _sub(group, "text", "→", x=f"{x:g}", y=f"{y + 12.5:g}", **{"class": "next"})
            x += SIGN - GAP
        for module in layer:
            piece = _chip(module)
            if x and x + piece.width + SIGN > width:
                x, y = 0.0, y + CHIP + GAP
            group.append(piece.at(x, y))
            x += piece.width + GAP
    return Piece(group, width, y + CHIP)


def _chip(module: Module) -> Piece:
    width = len(module.label) * CHIP_CHARACTER + 12
    group = ET.Element("g", {"class": "module", "data-module": module.name})
    _sub(group, "rect", x="0", y="0", width=f"{width:g}", height=f"{CHIP:g}", rx="3")
    _sub(group, "title", module.role)
    _sub(group, "text", module.label, x="6", y="12.5")
    return Piece(group, width, CHIP)


def _roof(name: str) -> Piece:
    width = WIDTH - MARGIN
    group = ET.Element("g", {"class": "roof"})
    _sub(group, "path", d=f"M0 {ROOF:g} L{width / 2:g} 1 L{width:g} {ROOF:g} Z")
    text = {"class": "name", "text-anchor": "middle"}
    _sub(group, "text", name, x=f"{width / 2:g}", y=f"{ROOF - 10:g}", **text)
    return Piece(group, width, ROOF)


def _arrow(height: float) -> Piece:
    group = ET.Element("g", {"class": "arrow"})
    _sub(group, "path", d=f"M20 0 V{height:g} m-5 -8 l5 8 l5 -8")
    middle = f"{height / 2:g}"
    turned = {"text-anchor": "middle", "transform": f"rotate(-90 13 {middle})"}
    _sub(group, "text", "imports only from below", x="13", y=middle, **turned)
    return Piece(group, MARGIN, height)


def _sub(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def picture(root: Path) -> str:
    """Return the picture of the project in a folder, as SVG.

    Raises:
        ExtensionError: the contracts do not fit the source.
    """
    name, layers = read_layers(root / "pyproject.toml")
    svg = Drawing(layers).house(read_module(root / "src" / name, name))
    return ET.tostring(svg, encoding="unicode")


class HousePicture(SphinxDirective):
    """Shows the layers of this project."""

    def run(self) -> list[nodes.Node]:
        """Return the picture."""
        # What it shows may change while the page does not.
        self.env.note_reread()
        html = f'<div class="house-picture"><style>{STYLE}</style>{picture(ROOT)}</div>'
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register with Sphinx."""
    app.add_directive("house-picture", HousePicture)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
