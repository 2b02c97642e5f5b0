"""Whom a failure stops: those who would fail again, and nobody else.

The table in docs/operations.md says the same for operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import Protocol, get_args

from acmems.challenges import Validator
from acmems.exceptions import (
    AccountError,
    AcmeException,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAProtocolError,
    CAUnavailable,
    CertificateUnusable,
    ChallengeFailed,
    DeadlinePassed,
    InvalidDomainName,
    LeaseLost,
    LimitReached,
    NamesPaused,
    NoChallengeMethodsSupported,
    PayloadInvalid,
    PreCheckFailed,
    RateLimited,
    StorageUnavailable,
    ValidatorUnavailable,
)
from acmems.issuing.cooldown import Cooldown, PauseMemory
from acmems.issuing.subjects import (
    AccountNameSubject,
    BlockSubject,
    CsrSubject,
    DomainSubject,
    EverythingSubject,
    NamesSubject,
    NameSubject,
    PausedSubject,
    Subject,
    VerificationSubject,
    kind_of,
)
from acmems.state.limits.pauses import PauseRecord
from acmems.storages import Storage
from acmems.system.clock import Clock
from acmems.x509.identifiers import Identifier

# These cost the CA nothing that it counts: the order stays open and goes on, or none was placed.
_PASSING = (
    AccountError,
    AuthorizationNotYetProcessed,
    AuthorizationNotYetRequested,
    CAUnavailable,
    DeadlinePassed,
    LeaseLost,
    LimitReached,
    StorageUnavailable,
    ValidatorUnavailable,
)
# Of these, what another auth block's request for the same certificate has to be told as well.
_EVERYBODYS = (AccountError, CAUnavailable)
_BUG = "an earlier request of this auth block for these names met a bug of this server"


class RequestContent(Protocol):
    """What of a request decides which failures stop it."""

    @property
    def identifiers(self) -> Sequence[Identifier]:
        """Every name asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The texts of these."""

    @property
    def content_digest(self) -> str:
        """What requests that are made alike have in common."""


class Asked(Protocol):
    """What decides which failures stop a request."""

    @property
    def request(self) -> RequestContent:
        """What is asked for."""

    @property
    def validators(self) -> Sequence[Validator]:
        """What can prove its names, best first."""

    @property
    def block(self) -> str | None:
        """The auth block that grants it."""

    @property
    def storage(self) -> Storage:
        """Where its chain is kept."""


class Pauses:
    """Pauses after failures of requests.

    Args:
        clock: for the pauses.
        directory: the URL of the CA's directory; what one CA refuses says nothing of another.
        memory: remembers pauses over a restart, and shares them with other servers; None for nothing.
        account: returns the URL of the account, None while it is not known.
    """

    REFUSED_CSRS = 3
    """So many CSRs with the same names may the CA refuse before further ones of the auth block wait."""
    LONGEST_OVERALL = 300.0
    """Seconds of the longest pause that stops everybody, so that an absurd `Retry-After` is tried again."""
    FIRST_OF_ACCOUNT, LONGEST_OF_ACCOUNT = 3600.0, 86_400.0
    """Seconds of pauses after the CA has said that a person has to act: nobody tells when that was done."""

    def __init__(
        self,
        clock: Clock,
        directory: str = "",
        memory: PauseMemory | None = None,
        account: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._account = account
        self._cooldown = Cooldown(clock, memory=memory)

    def check(self, asked: Asked) -> None:
        """Raise what stops a request at the moment.

        Raises:
            AcmeException: the error that began the pause, its `retry_after` set to the seconds left.
        """
        if not self._cooldown.is_empty:
            self._cooldown.check(self.subjects(asked))

    def subjects(self, asked: Asked) -> list[str]:
        """Return what may stop a request, as texts."""
        return self._texts([*_own(asked), *self._of_account(asked), *_shared(asked)])

    def replace(self, subjects: Sequence[str], records: Iterable[PauseRecord]) -> None:
        """Go by what is remembered of some subjects, and by nothing else.

        Args:
            subjects: those of a request.
            records: what is remembered.
        """
        self._cooldown.replace(subjects, records)

    def restore(self, records: Iterable[PauseRecord]) -> None:
        """Go on with pauses of the last process, but for those whose reason a restart may have mended."""
        self._cooldown.replace((), [each for each in records if not _may_be_mended(each.error)])

    def lasting(self) -> Mapping[PausedSubject, int]:
        """Return how many pauses last at the moment, by what they stop."""
        found = Counter(kind_of(subject) for subject in self._cooldown.lasting())
        return {subject: found[subject] for subject in get_args(PausedSubject)}

    def clear(self, asked: Asked) -> None:
        """Forget what would have stopped a request: it got its certificate.

        What the CA counts for others as well goes on: a limit is not lifted by a certificate.
        """
        if not self._cooldown.is_empty:
            self._cooldown.clear(self._texts([*_own(asked), *self._of_account(asked)]))

    def retry_paused(self, asked: Asked | None = None) -> None:
        """Ask the CA again for names that a person had to act for: that may be done by now.

        Args:
            asked: what is asked for; None for all such names.
        """
        if asked is None:
            paused = [each for each in self._cooldown.lasting() if kind_of(each) == AccountNameSubject.kind]
        else:
            paused = self._texts(self._of_account(asked))
        self._cooldown.clear(paused)

    def places(self, asked: Asked) -> int:
        """Return how many orders of one auth block for exactly these names may run at once.

        As many as may fail until further ones wait: they are counted when they begin, so that not all who
        come at the same moment cost an order.
        """
        if self._cooldown.is_empty:
            return self.REFUSED_CSRS
        refused = self._cooldown.failures(self._text(BlockSubject(asked.block, asked.request.names, "csrs")))
        return max(1, self.REFUSED_CSRS - refused)

    def answer(self, failed: Asked, error: Exception, other: Asked) -> Exception | None:
        """Return what a request is told when another one for the same certificate has failed.

        Args:
            failed: the request that was tried.
            error: how it failed; its pauses have begun.
            other: the request that has waited for the same.

        Returns:
            None where the failure says nothing about it, so that it is to be tried itself.
        """
        is_same_block = failed.block == other.block
        if isinstance(error, _EVERYBODYS):
            return error
        if isinstance(error, StorageUnavailable):
            return error if failed.storage is other.storage else None
        if isinstance(error, _PASSING):
            return error if is_same_block else None
        if is_same_block and failed.request.content_digest == other.request.content_digest:
            return error
        try:
            self.check(other)
        except AcmeException as stopped:
            return stopped
        return None

    def note(self, asked: Asked, error: Exception) -> None:
        """Begin the pauses that a failed order gives reason for.

        Args:
            asked: the request that it was for.
            error: how it ended; anything but an `AcmeException` is a bug.
        """
        if isinstance(error, (CancelledError, *_PASSING)):
            return
        if not isinstance(error, AcmeException):
            error = AcmeException(f"{_BUG}: {type(error).__name__}")
        if isinstance(error, PayloadInvalid):
            self._note_csr(asked, error)
        elif isinstance(error, NamesPaused):
            for paused in self._texts(self._of_account(asked, error.names)):
                self._cooldown.note(
                    paused, error, first=self.FIRST_OF_ACCOUNT, longest=self.LONGEST_OF_ACCOUNT
                )
        elif isinstance(error, RateLimited):
            longest = self.LONGEST_OVERALL if error.is_overall else None
            lengths = [
                self._cooldown.note(self._text(subject), error, error.retry_after, longest=longest)
                for subject in _limited(asked, error)
            ]
            if error.retry_after is None:  # who has met it is told what others are told after that
                error.retry_after = max(lengths)
        else:
            seconds = error.retry_after if isinstance(error, CertificateUnusable | PreCheckFailed) else None
            for subject in _failed(asked, error):
                self._cooldown.note(self._text(subject), error, seconds)

    def _of_account(self, asked: Asked, names: Collection[str] = ()) -> list[AccountNameSubject]:
        """Return what of a request the CA may have paused for this account.

        Args:
            asked: the request.
            names: those that the CA tells of; where none of them is asked for, all that is.
        """
        bases = dict.fromkeys(each.base for each in asked.request.identifiers)
        told = [base for base in bases if base in names]
        account = self._account()
        return [AccountNameSubject(base, account) for base in told or bases]

    def _note_csr(self, asked: Asked, error: PayloadInvalid) -> None:
        """Stop a CSR that the CA refused, and a client that makes one after another."""
        self._cooldown.note(self._text(CsrSubject(asked.request.content_digest)), error)
        names = asked.request.names
        stopped = RateLimited(f"the CA refused several CSRs for these names, so it is not asked now: {error}")
        several = self._text(BlockSubject(asked.block, names, "csrs"))
        self._cooldown.note(several, stopped, free=self.REFUSED_CSRS - 1)

    def _text(self, subject: Subject) -> str:
        return subject.text(self._directory)

    def _texts(self, subjects: Iterable[Subject]) -> list[str]:
        return [self._text(subject) for subject in subjects]


def _may_be_mended(error: AcmeException) -> bool:
    """Tell whether a restart may have mended what an error was about: the configuration, or a bug."""
    return type(error) in {AcmeException, CAProtocolError, NoChallengeMethodsSupported}


def _own(asked: Asked) -> Iterator[Subject]:
    """Yield what a request that works shows to work."""
    request = asked.request
    yield CsrSubject(request.content_digest)
    yield BlockSubject(asked.block, request.names)
    yield BlockSubject(asked.block, request.names, "csrs")
    for identifier in request.identifiers:
        yield NameSubject(identifier.value)
        for verifications in _beginnings(asked, identifier):
            yield VerificationSubject(identifier.value, verifications)


def _shared(asked: Asked) -> Iterator[Subject]:
    """Yield what the CA counts a request for; a certificate does not lift such a limit."""
    yield EverythingSubject()
    yield NamesSubject(asked.request.names)
    yield BlockSubject(asked.block, asked.request.names, "limit")
    domains = {domain for name in asked.request.names for domain in _domains(name)}
    yield from map(DomainSubject, domains)


def _failed(asked: Asked, error: AcmeException) -> list[Subject]:
    """Return what an error shows not to work, for each name that it tells of."""
    each = error.each if isinstance(error, InvalidDomainName | ChallengeFailed | PreCheckFailed) else (error,)
    return list(dict.fromkeys(subject for one in each for subject in _failed_name(asked, one)))


def _failed_name(asked: Asked, error: AcmeException) -> list[Subject]:
    names = asked.request.names
    if isinstance(error, InvalidDomainName | PreCheckFailed) and error.domain in names:
        is_for_all = isinstance(error, InvalidDomainName) or error.is_for_all
        return [NameSubject(error.domain) if is_for_all else BlockSubject(asked.block, names)]
    if isinstance(error, ChallengeFailed) and error.verification:
        # Whoever prefers this verification to others would be given it as well: the CA offers its challenge.
        ways: set[tuple[str, ...]] = {(error.verification,)}
        for identifier in asked.request.identifiers:
            if identifier.value == error.domain:
                ways.update(way for way in _beginnings(asked, identifier) if way[-1] == error.verification)
                return [VerificationSubject(error.domain, way) for way in ways]
    return [BlockSubject(asked.block, names)]


def _limited(asked: Asked, error: RateLimited) -> list[Subject]:
    """Return what the CA counts, as far as it says so."""
    names = asked.request.names
    if error.is_overall:
        return [EverythingSubject()]
    counted = {identifier.lower().rstrip(".") for identifier in error.identifiers}
    if counted == set(names):
        return [NamesSubject(names)]
    domains = counted.intersection(above for name in names for above in _domains(name))
    return [DomainSubject(domain) for domain in domains] or [BlockSubject(asked.block, names, "limit")]


def _beginnings(asked: Asked, identifier: Identifier) -> Iterator[tuple[str, ...]]:
    """Yield the beginnings of the list of what could prove a name: one is what the CA will be shown."""
    names = [validator.name for validator in asked.validators if validator.proves(identifier)]
    for number in range(len(names)):
        yield tuple(names[: number + 1])


def _domains(name: str) -> Iterator[str]:
    """Yield a name and all domains above it."""
    yield name
    labels = name.split(".")
    if ":" in name or labels[-1].isdigit():
        return  # an IP address
    for number in range(1, len(labels)):
        yield ".".join(labels[number:])
