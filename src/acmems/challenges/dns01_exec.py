"""dns-01 by a program of the site, which adds and removes the TXT records (RFC 8555 section 8.4)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, Self

import dns.name

from acmems.challenges.context import ValidatorContext
from acmems.challenges.contract import Proof
from acmems.challenges.dns_options import (
    aliases_from,
    environment_option,
    label_option,
    locate,
    longest_wait,
    propagation_from,
    recall,
)
from acmems.challenges.txt import TxtRecord, plain, possible_records, record_of
from acmems.dns.client.aliases import Aliases
from acmems.dns.client.propagation import Propagation
from acmems.dns.client.tsig import dns_name
from acmems.exceptions import ValidatorUnavailable
from acmems.settings.options import Options
from acmems.settings.values import command_line, seconds
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.system.permissions import NamedFile
from acmems.system.programs import ProgramResult, environment, program_slots, run, unusable
from acmems.text import one_line
from acmems.x509.identifiers import Identifier, IdentifierType

_log = logging.getLogger(__name__)

Action = Literal["present", "withdraw"]
_MOST = 4  # programs at a time for one order


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of the program: a record, and the name at which it belongs."""

    record: TxtRecord
    place: dns.name.Name
    proof: Proof

    def __str__(self) -> str:
        return str(self.record) if self.place == self.record.name else f"{self.record} at {plain(self.place)}"


class DnsExec:
    """Proves names by TXT records that a program adds and removes, one call a record.

    Args:
        command: the program's absolute path, and its fixed arguments.
        timeout: how long one program may take, in seconds; waiting for others does not count.
        challenge_type: `dns-01` or `dns-account-01`.
        aliases: where records are added whose names are CNAMEs; None: at these names.
        variables: names of environment variables that the program gets from this process.
        slots: one is held while a program runs.
    """

    sees_requests = False
    leaves_traces = True
    is_immediate = False
    shows_one_at_a_time = False

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        propagation: Propagation,
        timeout: float = 60.0,
        challenge_type: str = "dns-01",
        *,
        aliases: Aliases | None = None,
        variables: Sequence[str] = (),
        slots: threading.BoundedSemaphore | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.timeout = timeout
        self.challenge_type = challenge_type
        self._propagation = propagation
        self._aliases = aliases or Aliases(propagation.delegations, follow=False)
        self._variables = tuple(variables)
        self._slots = slots or program_slots()
        self._clock = clock

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Make the validator that a section describes."""
        command = options.required(
            "command",
            command_line,
            meaning="program that adds and removes the TXT records: absolute path and fixed arguments, "
            "quoted as for a shell, although none is used. `present` or `withdraw`, the record's name and "
            "its value are appended; they are also in the environment as `ACMEMS_ACTION`, `ACMEMS_NAME` and "
            "`ACMEMS_VALUE`, together with the name that the CA queries in `ACMEMS_CHALLENGE` (which differs "
            "from the record's name if it is a CNAME), the name to be validated in `ACMEMS_DOMAIN` and the "
            "name of this section in `ACMEMS_VERIFICATION`",
        )
        timeout = options.one(
            "timeout",
            seconds,
            60.0,
            meaning="seconds after which a program is killed, with all that it started",
        )
        challenge_type = label_option(options)
        propagation = propagation_from(options)
        zones = options.many(
            "zone",
            dns_name,
            meaning="zone that the program may be told to change, also as the target of CNAMEs; default: any",
        )
        return cls(
            name,
            command or (),
            propagation,
            timeout,
            challenge_type,
            aliases=aliases_from(options, propagation, zones, strict=False),
            variables=environment_option(options),
            slots=context.program_slots,
        )

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether it is a DNS name, wildcard or not."""
        return identifier.type is IdentifierType.DNS

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong with the program."""
        if (words := unusable(self.command[0])) is not None:
            yield "command", words

    def named_files(self) -> Iterable[NamedFile]:
        """Name the program, which whoever can change it runs as acmems."""
        yield NamedFile("command", Path(self.command[0]))

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Find where the CNAMEs of the records' names lead."""
        return locate(self._aliases, proofs, self.challenge_type)

    def recall(self, places: Mapping[Proof, str]) -> None:
        """Take over where records were added."""
        recall(self._aliases, places, self.challenge_type)

    def forget(self, proofs: Sequence[Proof]) -> None:
        """Remember no more where records are."""
        self._aliases.forget(record.pair for record, _ in possible_records(proofs, self.challenge_type))

    def present(self, proofs: Sequence[Proof]) -> None:
        """Have the TXT records added, each where the CNAME of its name leads."""
        jobs = {record_of(proof, self.challenge_type): proof for proof in proofs}
        ends = self._aliases.known([record.pair for record in jobs])
        self._each("present", [_Job(record, ends[record.pair].name, jobs[record]) for record in jobs])

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Have exactly these TXT records removed from where they were added."""
        jobs = dict(possible_records(proofs, self.challenge_type))
        ends = self._aliases.recall([record.pair for record in jobs])
        self._each(
            "withdraw",
            [_Job(record, ends[record.pair].name, jobs[record]) for record in jobs if record.pair in ends],
        )
        self.forget(proofs)

    @property
    def longest_wait(self) -> float:
        """Seconds that the records may take to be seen."""
        return longest_wait(self._propagation)

    def wait(self, proofs: Sequence[Proof], deadline: Deadline, stopping: threading.Event) -> None:
        """Return as soon as the records are seen, as `propagation` says."""
        records = [record_of(proof, self.challenge_type).pair for proof in proofs]
        self._propagation.wait(records, deadline, stopping, self._aliases.places(records))

    def _each(self, action: Action, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        # The values of one name come one after the other: many programs read all values of a name and write
        # them back, so that of two at the same time one would undo the other's change.
        by_name: dict[dns.name.Name, list[_Job]] = {}
        for job in jobs:
            by_name.setdefault(job.place, []).append(job)

        def one_name(name: dns.name.Name) -> ValidatorUnavailable | None:
            failed = None
            for job in by_name[name]:
                try:
                    self._run(action, job)
                except ValidatorUnavailable as error:
                    failed = failed or error
            return failed

        with ThreadPoolExecutor(min(_MOST, len(by_name)), thread_name_prefix="acmems-exec") as pool:
            failures = [failure for failure in pool.map(one_name, by_name) if failure is not None]
        if failures:
            raise failures[0]

    def _run(self, action: Action, job: _Job) -> None:
        program = PurePath(self.command[0]).name
        place, value = plain(job.place), job.record.value
        environ = environment(
            *self._variables,
            ACMEMS_ACTION=action,
            ACMEMS_NAME=place,
            ACMEMS_CHALLENGE=str(job.record),
            ACMEMS_VALUE=value,
            ACMEMS_DOMAIN=job.proof.identifier.base,
            ACMEMS_VERIFICATION=self.name,
        )
        try:
            with self._slots:
                deadline = self._clock.deadline(self.timeout)
                ended = run([*self.command, action, place, value], environ, deadline)
        except OSError as error:
            raise ValidatorUnavailable(
                f"the program {program} cannot be started to {action} record {job}: "
                f"{error.strerror or type(error).__name__}",
                advice=f"see that 'command' of [verification \"{self.name}\"] names a program "
                "that acmems may run",
            ) from None
        self._log_output(program, job, ended)
        if ended.code == 0:
            _log.info("%s: %s %s %s", self.name, program, action, job)
            return
        if ended.code is None:
            reason = f"did not {action} record {job} within {self.timeout:g} s, and was killed"
        elif ended.code < 0:
            reason = f"was ended by signal {-ended.code} when it should {action} record {job}"
        else:
            reason = f"ended with code {ended.code} when it should {action} record {job}"
        raise ValidatorUnavailable(
            f"the program {program} {reason}",
            advice=f"what 'command' of [verification \"{self.name}\"] wrote is in the log at level debug",
        )

    def _log_output(self, program: str, job: _Job, ended: ProgramResult) -> None:
        # At debug only: a program that fails tends to write what it was called with, secrets included.
        for line in ended.output.decode(errors="replace").splitlines():
            if words := one_line(line):
                _log.debug("%s: %s for %s wrote: %s", self.name, program, job, words)

    def __repr__(self) -> str:
        return f"DnsExec({self.name!r}, {PurePath(*self.command[:1]).name!r})"
