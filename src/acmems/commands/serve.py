"""`acmems serve`: run the server until SIGTERM or SIGINT; SIGHUP has it read its configuration anew."""

from __future__ import annotations

import argparse
import errno

from acmems import app, logs
from acmems.commands import preflight
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain
from acmems.config import Configuration

HELP = "run the server until SIGTERM or SIGINT"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what this command takes beside configuration files: nothing."""


def run(config: Configuration, options: argparse.Namespace) -> ExitCode:
    """Serve until a signal comes.

    Raises:
        ConfigurationError: something that the configuration names is missing on this machine.
        AcmeException, OSError: the server cannot start.
    """
    preflight.require(config)
    logs.configure(options.logging or config.logging)

    def reread(running: Configuration) -> Configuration:
        again = Configuration.load(*options.config, previous=running)
        preflight.require(again)
        return again

    try:
        with logs.uncaught():
            source = app.ConfigurationSource(reread, options.logging, preflight.refused_listener)
            return ExitCode(app.run(config, source))
    except OSError as error:
        finding = preflight.refused_listener(config, error)
        if finding is None:
            raise
        complain(str(finding))
        # Another program may end, and an address may come; a missing right will be missing again.
        return ExitCode.UNUSABLE if error.errno == errno.EACCES else ExitCode.FAILED
