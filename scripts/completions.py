"""What shells complete after `acmems`, made from the parser of the command line.

usage: python -m scripts.completions FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import shtab
from docs._ext.command_reference import arguments, parsers

from acmems.commands.main import make_parser

FILES = {"bash": "acmems.bash", "zsh": "_acmems", "fish": "acmems.fish"}


def main(folder: Path) -> None:
    """Write a file for each shell."""
    for shell, name in FILES.items():
        (folder / name).write_text(shtab.complete(completed(), shell), encoding="utf-8")


def completed() -> argparse.ArgumentParser:
    """Return the parser, in which what names a file says so."""
    parser = make_parser()
    for one in parsers(parser).values():
        for action in arguments(one):
            if action.metavar in {"CONFIG", "FILE"}:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # what shtab looks for
    return parser


if __name__ == "__main__":
    main(Path(sys.argv[1]))
