"""What `scripts.house` finds, in small houses that break one rule each."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts import house

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A house without a finding."""
    for name in ("__init__", "__main__", *house.PUBLISHED, *(f"m{n}" for n in range(house.MOST_ENTRIES))):
        write(tmp_path, f"src/acmems/{name}.py", "")
    write(tmp_path, "src/acmems/py.typed", "")
    write(tmp_path, "src/acmems/__pycache__/m1.cpython-313.pyc", "")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def findings(root: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what is found, without the note on long files; the exit code must agree."""
    code = house.main(root)
    *lines, note = capsys.readouterr().out.splitlines()
    assert note.startswith("over 300 lines")
    assert code == bool(lines)
    return lines


def test_a_house_at_its_limits_is_fine(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixteen entries, twelve modules, five hundred lines, and a class whose namesake is a method's."""
    for number in range(12):
        write(root, f"src/acmems/m1/n{number}.py", "#\n" * 500)
    write(root, "src/acmems/m1/__init__.py", "class Name: ...\n")
    write(root, "src/acmems/m2.py", "class Other:\n    class Name: ...\n")
    (root / "src/acmems/m1.py").unlink()
    assert findings(root, capsys) == []


@pytest.mark.parametrize(
    ("files", "finding"),
    [
        pytest.param(
            {"src/acmems/m18/a.py": ""},
            "acmems: 19 entries beside the published ones, at most 18",
            id="entry",
        ),
        pytest.param(
            {f"src/acmems/auth/inner/n{number}.py": "" for number in range(13)},
            "acmems/auth/inner: 13 modules, at most 12",
            id="modules",
        ),
        pytest.param(
            {"src/acmems/m1.py": "class _A: ...\n", "src/acmems/auth/b.py": "\nclass _A(Exception): ...\n"},
            "class _A: src/acmems/auth/b.py:2, src/acmems/m1.py:1",
            id="classes",
        ),
        pytest.param(
            {
                "src/acmems/m1.py": "A = re.compile('[a-z]')\n",
                "src/acmems/m2.py": "B = re.compile('[a-z]', re.I)\n",
            },
            "pattern '[a-z]': src/acmems/m1.py:1, src/acmems/m2.py:1",
            id="patterns",
        ),
        pytest.param(
            {"tests/a.py": "#\n" * 501}, "tests/a.py: 501 lines, 500 are the end", id="lines of a test"
        ),
        pytest.param(
            {"src/acmems/auth.py": "#\n" * 501}, "src/acmems/auth.py: 501 lines, 500 are the end", id="lines"
        ),
    ],
)
def test_each_broken_rule_is_told_with_its_places(
    root: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], finding: str
) -> None:
    """Each rule has its line, with the places that break it."""
    for path, text in files.items():
        write(root, path, text)
    assert findings(root, capsys) == [finding]


def test_long_files_are_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is over 300 lines and not over 500 is no finding, but is named."""
    write(root, "src/acmems/m1.py", "#\n" * 301)
    assert house.main(root) == 0
    assert "src/acmems/m1.py (301)" in capsys.readouterr().out


def test_this_house(capsys: pytest.CaptureFixture[str]) -> None:
    """The rules hold for acmems itself."""
    assert findings(ROOT, capsys) == []
