"""Notices to a program of the site."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from acmems.notices.contract import NoticeUndelivered
from acmems.notices.notice import Notice
from acmems.notices.options import NoticeRoute, delivery_seconds
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.clock import SYSTEM, Clock
from acmems.system.permissions import NamedFile
from acmems.system.programs import environment, run, unusable
from acmems.text import one_line

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTarget:
    """Runs a program for each notice; its methods do what `NoticeTarget` says.

    Args:
        name: its name in the configuration.
        route: which notices go there.
        command: the program's absolute path, and its fixed arguments.
        timeout: seconds after which it is killed.
        variables: names of environment variables that it gets from this process.
        clock: for these seconds.
    """

    name: str
    route: NoticeRoute
    command: tuple[str, ...]
    timeout: float = 60.0
    variables: tuple[str, ...] = ()
    clock: Clock = SYSTEM

    @classmethod
    def from_options(cls, name: str, options: Options) -> Self:
        """Make the target that a section describes."""
        command = options.required(
            "command",
            values.command_line,
            meaning="program that is run for each notice: absolute path and fixed arguments, quoted as for a "
            "shell, although none is used. Its standard input is the notice in JSON; the environment has "
            "`ACMEMS_NOTICE_ID`, `…_CAUSE`, `…_KIND`, `…_PHASE`, `…_SEVERITY`, `…_SUBJECT` and `…_TEXT`. Any "
            "exit code but 0 means that it is to be tried again",
        )
        return cls(
            name=name,
            route=NoticeRoute.from_options(options),
            command=command or (),
            timeout=options.one(
                "timeout",
                delivery_seconds,
                60.0,
                meaning="seconds after which the program is killed, with all that it started",
            ),
            variables=options.many(
                "environment",
                values.variable,
                meaning="name of an environment variable of acmems that is passed on, besides `PATH`, `LANG` "
                "and `HOME`",
            ),
        )

    def deliver(self, notice: Notice) -> None:
        """Run the program; only the exit code 0 means that the notice was taken."""
        program = PurePath(self.command[0]).name
        environ = environment(
            *self.variables,
            ACMEMS_NOTICE_ID=notice.id,
            ACMEMS_NOTICE_CAUSE=notice.cause,
            ACMEMS_NOTICE_KIND=notice.kind,
            ACMEMS_NOTICE_PHASE=notice.phase,
            ACMEMS_NOTICE_SEVERITY=notice.severity,
            ACMEMS_NOTICE_SUBJECT=notice.title,
            ACMEMS_NOTICE_TEXT=notice.text,
        )
        try:
            ended = run(
                self.command, environ, self.clock.deadline(self.timeout), feed=notice.to_json().encode()
            )
        except (OSError, ValueError) as error:
            words = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            raise NoticeUndelivered(f"the program {program} cannot be started: {words}") from None
        # At debug only: a program that fails tends to write what it was called with, secrets included.
        for line in ended.output.decode(errors="replace").splitlines():
            if words := one_line(line):
                logger.debug("notice %s: %s wrote: %s", self.name, program, words)
        if ended.code is None:
            raise NoticeUndelivered(f"the program {program} had not ended after {self.timeout:g} s")
        if ended.code:
            how = f"with code {ended.code}" if ended.code > 0 else f"by signal {-ended.code}"
            raise NoticeUndelivered(
                f"the program {program} ended {how}; what it wrote is in the log at level debug"
            )

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the program."""
        if self.command and (words := unusable(self.command[0])) is not None:
            yield "command", words

    def named_files(self) -> Iterable[NamedFile]:
        """Return the program, which whoever can change it runs as acmems."""
        if self.command:
            yield NamedFile("command", Path(self.command[0]))
