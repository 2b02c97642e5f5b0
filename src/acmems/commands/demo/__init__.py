"""`acmems demo`: a server with a CA of its own, and a certificate by each of its front ends."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from acmems import app, logs
from acmems.app.signals import StoppedEarly, taking
from acmems.commands.demo import story
from acmems.commands.demo.site import DemoSite
from acmems.commands.exit_code import ExitCode
from acmems.commands.terminal import complain, tell
from acmems.config import Configuration
from acmems.system import files

HELP = "show a certificate by each front end, on this machine alone; nothing is configured or fetched"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes; no configuration files."""
    parser.set_defaults(config=())
    parser.add_argument(
        "--dir", metavar="DIR", help="directory to make everything in, which stays; must be new or empty"
    )
    parser.add_argument("--once", action="store_true", help="stop when everything was shown")


def run(options: argparse.Namespace) -> ExitCode:
    """Show everything, and serve until a signal comes.

    Raises:
        DemoFailed: a step did not do what it should.
        AcmeException, OSError: the server cannot start.
    """
    with _directory(options.dir) as path:
        if path is None:
            complain(f"acmems: {options.dir} is not empty: name a new directory")
            return ExitCode.UNUSABLE
        site = DemoSite.make(path)
        config = Configuration.load(site.config_file)
        logs.configure(options.logging or config.logging)
        server = app.Server(config)
        with taking() as signals:
            try:
                with signals.interrupting():
                    server.start()
                    story.show(site)
                if not options.once:
                    story.invite(site)
                    for _ in signals.until_stop():
                        pass
            except StoppedEarly:
                pass
            finally:
                server.stop()
    if options.dir is None:
        tell("nothing is left running, and nothing on disk")
    return ExitCode.DONE


@contextlib.contextmanager
def _directory(named: str | None) -> Iterator[Path | None]:
    """Yield the directory to make everything in; None where the one that is named holds something."""
    if named is None:
        with tempfile.TemporaryDirectory(prefix="acmems-demo-") as folder:
            yield Path(folder)
        return
    path = Path(named).absolute()
    files.make_directory(path)
    yield None if any(path.iterdir()) else path
