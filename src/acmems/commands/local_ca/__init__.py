"""`acmems ca`: make the keys of a local CA, show it, or print its root."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from acmems.commands.arguments import add_json
from acmems.commands.exit_code import ExitCode
from acmems.commands.local_ca.facts import described, print_ca, print_root
from acmems.commands.terminal import complain, note
from acmems.config import Configuration
from acmems.exceptions import ActFailed
from acmems.issuers.local.authority import RootAuthority
from acmems.issuers.local.files import LocalCaDirectory
from acmems.issuers.local.options import LocalCaOptions
from acmems.settings.findings import hint
from acmems.system.clock import SYSTEM, Clock
from acmems.system.permissions import other_owner

HELP = "make the keys of a local CA, show it, or print its root"

_ACTIONS: Mapping[str, str] = {
    "init": "make root and intermediate; where only the intermediate is missing, make that",
    "show": "print what it may issue for, and how long its certificates are valid",
    "root": "print its root certificate in PEM, which clients are to trust",
}


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Declare the actions, and what each takes beside configuration files."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    parsers = [
        actions.add_parser(name, help=words, description=f"{words[:1].upper()}{words[1:]}.")
        for name, words in _ACTIONS.items()
    ]
    for each in parsers:
        each.add_argument("--ca", metavar="NAME", help='that of [local-ca "NAME"], where there are several')
        add_json(each)
    return parsers


def run(config: Configuration, options: argparse.Namespace, clock: Clock = SYSTEM) -> ExitCode:
    """Do what is asked with a local CA.

    Raises:
        LocalCaUnusable: its files are missing, or cannot be used.
        ActFailed: there is a CA already, whose keys are not replaced; or the server could not read new ones.
    """
    if not config.local_cas:
        complain('acmems: there is no [local-ca "NAME"] in the configuration')
        return ExitCode.UNUSABLE
    if options.ca is not None and options.ca not in config.local_cas:
        complain(
            f"acmems: there is no [local-ca {json.dumps(options.ca)}] in the configuration"
            f"{hint(options.ca, config.local_cas)}"
        )
        return ExitCode.UNUSABLE
    if options.ca is None and len(config.local_cas) > 1:
        complain(f"acmems: there are several local CAs: name one by --ca ({', '.join(config.local_cas)})")
        return ExitCode.UNUSABLE
    local_ca = config.local_cas[options.ca or next(iter(config.local_cas))]
    directory = LocalCaDirectory(local_ca.dir)
    if options.action == "init":
        _make(directory, local_ca, clock)
    if options.action == "root":
        print_root(directory.root_pem(), as_json=options.json)
    else:
        print_ca(described(local_ca, directory.load()), as_json=options.json)
    return ExitCode.DONE


def _make(directory: LocalCaDirectory, local_ca: LocalCaOptions, clock: Clock) -> None:
    """Make what is missing: all of it, or only the intermediate."""
    now, existing = clock.now(), set(directory.existing())
    place = directory.path if directory.path.exists() else directory.path.parent
    owner = other_owner(place)
    if owner is not None:
        raise ActFailed(
            f"this runs as root, and {place} belongs to the user {owner}, who cannot read keys that root "
            f"makes: run it as that user (runuser -u {owner} -- acmems ca init …)"
        )
    if existing == {directory.root_file, directory.root_key_file}:
        directory.save_intermediate(directory.load_root().intermediate(now))
        note(f"acmems: made a new intermediate in {directory.path}")
        return
    if existing.issuperset(
        {directory.root_file, directory.intermediate_file, directory.intermediate_key_file}
    ):
        raise ActFailed(
            f"there is a CA in {directory.path} already: its keys are never replaced silently. Move it away "
            f"to begin anew, or move {directory.intermediate_file.name} and "
            f"{directory.intermediate_key_file.name} away to get a new intermediate"
        )
    root = RootAuthority.make(local_ca.common_name, local_ca.permits, now)
    directory.save_new(root, root.intermediate(now))
    note(
        f"acmems: made a CA in {directory.path}: keep {directory.root_key_file.name} in a safe place, it is "
        f"needed again only for a new intermediate"
    )
