"""Names examined before they are ordered, side by side, and never for long."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from acmems.challenges import Validator
from acmems.dns.authority.descent import Descent
from acmems.dns.authority.named_servers import NamedServers
from acmems.dns.authority.statement import Authorities
from acmems.dns.authority.statements import Statements
from acmems.dns.caa.policy import Applicant, CaaPolicy
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import PreCheckFailed, ValidatorUnavailable
from acmems.issuers.acme.prechecks.facts import NameSurvey, NotKnown
from acmems.issuers.acme.prechecks.judging import NameFacts, prospect
from acmems.issuers.acme.prechecks.options import PreCheckOptions
from acmems.system.clock import Clock, Deadline
from acmems.system.steps import OWNER, Owner, SharedThreads, Signal, StepLoop, Steps, gather
from acmems.text import one_line
from acmems.x509.identifiers import Identifier, IdentifierType

logger = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
"""For which an order waits for the DNS at most; then the CA decides."""
_LOOK_UP_SECONDS = 5.0  # for a look-up, whose answer serves the next order where it is late for this one
_THREADS = 32

Exclusions = frozenset[tuple[Identifier, str]]
"""Names, and types of challenge by which they must not be proved."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What can become of an order.

    Args:
        excluded: what would fail, of names that need not.
        errors: what is wrong with names that must.
    """

    excluded: Exclusions = frozenset()
    errors: tuple[PreCheckFailed, ...] = ()

    def check(self) -> None:
        """Raise what is wrong with the names, if anything is.

        Raises:
            PreCheckFailed: the order must fail; tells of each name.
        """
        if self.errors:
            raise self.errors[0].together(self.errors[1:])


@dataclass(slots=True, eq=False)
class NameExamination:
    """Names that are being examined.

    Args:
        methods: the types of challenge by which each could be proved, best first.
        issuers: the names of the CA in CAA records.
        until: when the order goes on.
        owner: for whom it is.
        caa: the CAA records of names, as far as they are known by now.
        addresses: what is known of their addresses.
        ended: set when everything is.
    """

    methods: Mapping[Identifier, tuple[str, ...]]
    issuers: tuple[str, ...]
    until: Deadline
    owner: Owner
    caa: dict[Identifier, CaaPolicy | None] = field(default_factory=dict)
    addresses: dict[Identifier, NameFacts] = field(default_factory=dict)
    ended: Signal = field(default_factory=Signal)

    def facts(self, identifier: Identifier) -> NameFacts:
        """Return what is known of a name by now."""
        return replace(self.addresses.get(identifier, NameFacts()), caa=self.caa.get(identifier))


@dataclass(frozen=True, slots=True)
class _Look:
    """One look-up.

    Args:
        identifier: the name.
        look: looks until a deadline; without one only at what is kept.
    """

    identifier: Identifier
    look: Callable[[Identifier, Deadline | None], None]

    def is_answered(self) -> bool:
        """Tell whether what is kept is enough."""
        try:
            self.look(self.identifier, None)
        except NotKnown:
            return False
        except ValidatorUnavailable:
            return True  # that nobody tells is known
        return True

    def ask(self, deadline: Deadline) -> None:
        """Look until a deadline; for any thread."""
        try:
            self.look(self.identifier, deadline)
        except ValidatorUnavailable as error:
            name, words = self.identifier, one_line(error)
            logger.debug("what the DNS says of %s is not known, so that the CA decides: %s", name, words)
        except Exception:
            logger.exception("a bug in what is looked up before an order, which goes on without it")


class PreChecks:
    """Looks at what the DNS says of names before an order. For the loop's thread.

    Only what is definite counts: where the DNS does not answer, or not in time, the CA decides.

    Args:
        options: what is looked at.
        loop: runs the steps.
        authorities: makes what is asked, given the options and the clock.
    """

    def __init__(
        self,
        options: PreCheckOptions,
        loop: StepLoop,
        authorities: Callable[[PreCheckOptions, Clock], Authorities] | None = None,
    ) -> None:
        self.options = options
        self._loop = loop
        self._clock = loop.clock
        self._authorities = authorities or authorities_for
        self._threads = SharedThreads(_THREADS, "acmems-precheck")
        self._survey = self._make_survey()

    def reconfigure(self, options: PreCheckOptions) -> None:
        """Go by other options from now on."""
        before, self.options = self.options, options
        if before.nameservers != options.nameservers:
            self._survey = self._make_survey()

    def begin(
        self, identifiers: Sequence[Identifier], validators: Sequence[Validator], issuers: tuple[str, ...]
    ) -> NameExamination:
        """Begin to look names up, and go on.

        Args:
            identifiers: what is to be ordered; IP addresses are in no DNS.
            validators: what there is to prove them, best first.
            issuers: the names of the CA in CAA records; none: the CA does not tell them, so that records
                say nothing about it.
        """
        methods = {
            each: tuple(dict.fromkeys(one.challenge_type for one in validators if one.proves(each)))
            for each in identifiers
            if each.type is IdentifierType.DNS
        }
        until = self._clock.deadline(WAIT_SECONDS)
        examination = NameExamination(methods, issuers, until, OWNER.get())
        looks = [] if self._survey.is_suspended else self._open_questions(examination)
        if looks:
            self._loop.submit(self._look(looks, examination))
        else:
            examination.ended.set()
        return examination

    def outlook(self, examination: NameExamination, account_url: str | None) -> Steps[Outlook]:
        """Return what can become of an order, by what is known when its time is over.

        Args:
            examination: of its names.
            account_url: the account that orders.
        """
        if not (yield examination.ended.wait(examination.until.remaining)):
            logger.debug("the DNS is slow, so that the CA decides on what is not known yet")
        applicant = Applicant(examination.issuers, account_url)
        excluded: set[tuple[Identifier, str]] = set()
        errors = []
        for identifier, methods in examination.methods.items():
            found = prospect(identifier, examination.facts(identifier), methods, applicant)
            excluded.update((identifier, method) for method in found.excluded)
            if found.error is not None:
                self._survey.forget(identifier.base)
                errors.append(found.error)
        return Outlook(frozenset(excluded), tuple(errors))

    def _open_questions(self, examination: NameExamination) -> list[_Look]:
        """Take note of what is known already, and return what has to be looked up."""
        survey = self._survey
        looks: list[_Look] = []

        def look_at_caa(identifier: Identifier, deadline: Deadline | None) -> None:
            examination.caa[identifier] = survey.caa(identifier.base, deadline)

        def look_at_addresses(identifier: Identifier, deadline: Deadline | None) -> None:
            examination.addresses[identifier] = survey.addresses(identifier.base, deadline)

        for identifier, methods in examination.methods.items():
            if methods and self.options.caa and examination.issuers:
                looks.append(_Look(identifier, look_at_caa))
            if methods and self.options.addresses:
                looks.append(_Look(identifier, look_at_addresses))
        return [look for look in looks if not look.is_answered()]

    def _look(self, looks: Sequence[_Look], examination: NameExamination) -> Steps[None]:
        OWNER.set(examination.owner)
        deadline = self._clock.deadline(_LOOK_UP_SECONDS)
        try:
            yield from gather(self._threads.call(functools.partial(each.ask, deadline)) for each in looks)
        finally:
            examination.ended.set()

    def _make_survey(self) -> NameSurvey:
        return NameSurvey(Statements(self._authorities(self.options, self._clock), self._clock))


def authorities_for(options: PreCheckOptions, clock: Clock, resolver: Resolver | None = None) -> Authorities:
    """Return what is asked.

    Args:
        options: may name name servers.
        clock: for how long what is found is kept.
        resolver: tells where the DNS begins; None: that of the system.
    """
    if options.nameservers:
        return NamedServers(options.nameservers, clock=clock)
    return Descent(resolver, clock=clock)
