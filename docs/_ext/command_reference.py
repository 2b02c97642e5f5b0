"""The reference of the command line, made from the parser itself.

    ```{command-options} account show
    ```

renders how a command is called and what its options mean. A command that no page shows is a warning of the
build.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from acmems.commands.main import make_parser

_logger = logging.getLogger(__name__)


def parsers(parser: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, and of each action instead of commands that have some.

    Args:
        parser: that of the program.
    """
    return dict(_leaves("", parser or make_parser()))


def _leaves(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    below = [action.choices for action in arguments(parser) if isinstance(action.choices, dict)]
    for choices in below:
        for word, one in choices.items():
            yield from _leaves(f"{name} {word}".strip(), one)
    if not below:
        yield name, parser


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options and other arguments of a parser, without its help."""
    found: list[argparse.Action] = parser._actions  # noqa: SLF001 - argparse has no public way to list them
    return [action for action in found if "--help" not in action.option_strings]


class CommandOptions(SphinxDirective):
    """Shows how a command is called, and its options."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the usage and the list of options."""
        name = self.arguments[0]
        parser = parsers().get(name)
        if parser is None:
            raise self.error(f"no such command: {name}; there are: {', '.join(parsers())}")
        self.env.note_reread()
        self.env.metadata[self.env.docname].setdefault("command-options", []).append(name)
        usage = " ".join(parser.format_usage().removeprefix("usage: ").replace("[-h] ", "").split())
        options = nodes.option_list("", *map(_item, filter(_is_option, arguments(parser))))
        return [nodes.paragraph("", "", nodes.literal(text=usage)), options]


def _is_option(action: argparse.Action) -> bool:
    return bool(action.option_strings)


def _item(action: argparse.Action) -> nodes.option_list_item:
    option = nodes.option("", nodes.option_string(text=action.option_strings[-1]))
    value = action.metavar or (",".join(action.choices) if action.choices else None)
    if action.nargs != 0 and value is not None:
        option += nodes.option_argument(text=str(value), delimiter=" ")
    described = nodes.description("", nodes.paragraph(text=action.help or ""))
    return nodes.option_list_item("", nodes.option_group("", option), described)


def _all_shown(app: Sphinx, _: object) -> None:
    pages = app.env.metadata.values()
    shown = {name for page in pages for name in page.get("command-options", [])}
    for name in parsers().keys() - shown:
        _logger.warning("no page shows the options of acmems %s", name)


def _without_links(app: Sphinx, doctree: nodes.document, _: str) -> None:
    """Leave the text of links to other pages on the manual page, where there are none."""
    if app.builder.format == "man":
        for link in list(doctree.findall(nodes.reference)):
            link.replace_self(link.children)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register with Sphinx."""
    app.add_directive("command-options", CommandOptions)
    app.connect("env-check-consistency", _all_shown)
    app.connect("doctree-resolved", _without_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
