"""What several commands are given on the command line, and how it is read."""

from __future__ import annotations

import argparse


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Declare the configuration files, before arguments that follow them."""
    parser.add_argument(
        "config", nargs="+", metavar="CONFIG", help="configuration file; several are read as one"
    )


def has_configuration(parser: argparse.ArgumentParser) -> bool:
    """Tell whether the configuration files are declared already."""
    return any(action.dest == "config" for action in parser._actions)  # noqa: SLF001 - argparse has no public way
