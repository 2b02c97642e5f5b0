"""What holds for the layout and the names of src/acmems: `python -m scripts.house` tells what does not."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLISHED = frozenset({"auth", "config", "exceptions", "manager", "server"})
APART = PUBLISHED | {"__init__", "__main__", "py"}  # `py.typed`
MOST_ENTRIES = 18  # of the package itself, beside those
MOST_MODULES = 12  # of any package, beside `__init__`
MOST_LINES = 500
MANY_LINES = 300

Found = tuple[int, str]  # the line, and what stands there
Finder = Callable[[ast.Module], Iterator[Found]]


@dataclass(frozen=True)
class Source:
    """A Python file, read.

    Args:
        path: where it is, relative to the root of the repository.
        text: what it holds.
    """

    path: Path
    text: str

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return len(self.text.splitlines())

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text)


def main(root: Path = ROOT) -> int:
    """Print every finding, and return whether there is one."""
    package = root / "src" / "acmems"
    ours = list(sources(root, package))
    others = [source for name in ("tests", "scripts", "docs") for source in sources(root, root / name)]
    findings = [
        *crowded(package),
        *shared("class", ours, classes),
        *shared("pattern", ours, patterns),
        *(f"{each.path}: {each.lines} lines, {MOST_LINES} are the end" for each in too_long(ours + others)),
    ]
    for finding in findings:
        print(finding)
    long = sorted(f"{each.path} ({each.lines})" for each in ours if each.lines > MANY_LINES)
    print(f"over {MANY_LINES} lines, which needs a reason: {', '.join(long) or 'none'}")
    return 1 if findings else 0


def sources(root: Path, folder: Path) -> Iterator[Source]:
    """Yield the Python files below a folder."""
    for path in sorted(folder.rglob("*.py")):
        yield Source(path.relative_to(root), path.read_text(encoding="utf-8"))


def crowded(package: Path) -> Iterator[str]:
    """Tell which folder holds more than a stranger can survey."""
    names = {path.name.partition(".")[0] for path in package.iterdir() if _is_entry(path)} - APART
    if len(names) > MOST_ENTRIES:
        yield f"{package.name}: {len(names)} entries beside the published ones, at most {MOST_ENTRIES}"
    for folder in sorted(path for path in package.rglob("*") if _is_entry(path) and path.is_dir()):
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        if len(modules) > MOST_MODULES:
            name = folder.relative_to(package.parent)
            yield f"{name}: {len(modules)} modules, at most {MOST_MODULES}"


def _is_entry(path: Path) -> bool:
    return path.name != "__pycache__"


def shared(kind: str, files: Iterable[Source], found: Finder) -> Iterator[str]:
    """Tell what stands in more than one file, and where."""
    places: Mapping[str, list[str]] = defaultdict(list)
    for file in files:
        for line, name in found(file.tree):
            places[name].append(f"{file.path}:{line}")
    for name, where in sorted(places.items()):
        if len(where) > 1:
            yield f"{kind} {name}: {', '.join(where)}"


def classes(tree: ast.Module) -> Iterator[Found]:
    """Yield the classes of a module, private ones too."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name


def patterns(tree: ast.Module) -> Iterator[Found]:
    """Yield the regular expressions of a module that are written where they are compiled."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(ast.Name("re"), "compile"), args=[ast.Constant(pattern), *_]):
                yield node.lineno, repr(pattern)


def too_long(files: Iterable[Source]) -> list[Source]:
    """Return the files that are over the limit."""
    return [file for file in files if file.lines > MOST_LINES]


if __name__ == "__main__":
    sys.exit(main())
