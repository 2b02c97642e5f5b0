"""The contract between an issuance and what proves a name to the CA (RFC 8555 section 8)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from acmems.challenges.context import ValidatorContext
from acmems.exceptions import CAProtocolError
from acmems.net.address import Address
from acmems.net.listening import ListenerPlan
from acmems.settings.options import Options
from acmems.system.clock import Deadline
from acmems.x509.identifiers import Identifier

# RFC 8555 section 8.3: the base64url alphabet, no padding. The upper bound is this server's own.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Proof:
    """What a validator presents to the CA, for one challenge.

    Two proofs are equal where a validator presents the same for both; who is told of the CA's visit does
    not matter to that.

    Args:
        identifier: what is proved, as the CA looks it up: without "*.".
        token: the challenge's token; empty for types that have none (dns-persist-01).
        key_authorization: the token and the account key's thumbprint (RFC 8555 section 8.1).
        on_request: called, from any thread, each time the CA is seen fetching the proof.
        account_url: the URL of the account, which some types present beside or instead of the token.
        is_wildcard: whether the wildcard name below the identifier is proved.
        issuers: the domain names of the CA, where the challenge gives them (dns-persist-01).

    Raises:
        CAProtocolError: the CA's token is none.
    """

    identifier: Identifier
    token: str
    key_authorization: str = field(repr=False)
    on_request: Callable[[], None] = field(repr=False, compare=False)
    account_url: str = ""
    is_wildcard: bool = False
    issuers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.token or self.key_authorization) and not is_token(self.token):
            raise CAProtocolError(
                f"the CA sent a challenge for {self.identifier.value} with a token that is none"
            )


def is_token(text: str) -> bool:
    """Tell whether a text can be a token; tokens become table keys and the contents of DNS records."""
    return _TOKEN.fullmatch(text) is not None


class Validator(Protocol):
    """What proves names to the CA by one type of challenge: a `[verification "NAME"]`.

    Further methods are there where they are needed: those of `Locating`, `Recalling`, `Waiter`, `Waiting`,
    `SelfChecking` and `Listening`.
    """

    @property
    def name(self) -> str:
        """The name in the configuration."""

    @property
    def challenge_type(self) -> str:
        """The type as the CA spells it, such as "dns-01"."""

    @property
    def sees_requests(self) -> bool:
        """Whether it calls a proof's `on_request` when the CA comes for it."""

    @property
    def leaves_traces(self) -> bool:
        """Whether what it presents outlives this process, so that a crash leaves it behind."""

    @property
    def is_immediate(self) -> bool:
        """Whether `present` and `withdraw` only change tables in memory, so that they return at once."""

    @property
    def shows_one_at_a_time(self) -> bool:
        """Whether the CA can see only one proof for a name at a time, so that orders for it take turns."""

    def proves(self, identifier: Identifier) -> bool:
        """Tell whether the CA takes this type for a name; wildcards come with their `*.`."""

    @classmethod
    def from_options(cls, name: str, options: Options, context: ValidatorContext) -> Self:
        """Make the validator that a section describes.

        It MUST NOT touch anything outside, and MUST report problems to the options, not raise them.
        """

    def present(self, proofs: Sequence[Proof]) -> None:
        """Present proofs to the CA, all those of one order at once.

        It MUST be safe to call from several threads, MUST leave other proofs for the same name alone,
        MUST be harmless when repeated, and MUST return within the validator's own timeout. Where it
        raises, some proofs may be presented: they are withdrawn afterwards.

        Raises:
            ValidatorUnavailable: they cannot be presented now.
            NoChallengeMethodsSupported: one of these names can never be proved so.
        """

    def withdraw(self, proofs: Sequence[Proof]) -> None:
        """Take away exactly what `present` has added for these proofs.

        It MUST NOT raise for what is gone already or never was there, MUST work in a process that has
        not presented them, and MUST return within the validator's own timeout.

        Raises:
            ValidatorUnavailable: they cannot be taken away now.
        """


@runtime_checkable
class Locating(Protocol):
    """A validator that knows where its proofs are found."""

    def locate(self, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
        """Find where proofs belong that are about to be presented, and remember it until they are withdrawn.

        The places are noted before anything is presented. Where the nodes of a shared state answer the CA,
        one finds by them what another presents.

        Raises:
            ValidatorUnavailable: that cannot be found out now, or they must not be there.
            NoChallengeMethodsSupported: one of these names can never be proved so.
        """


@runtime_checkable
class Recalling(Locating, Protocol):
    """A validator whose proofs are found somewhere else, and stay there until they are withdrawn."""

    def recall(self, places: Mapping[Proof, str]) -> None:
        """Take over where proofs were put, which this process may not have presented, to withdraw them.

        Args:
            places: as `locate` has returned them, perhaps in an earlier process; an empty one is not known.
        """

    def forget(self, proofs: Sequence[Proof]) -> None:
        """Remember no more where proofs are: another server withdraws them."""


@runtime_checkable
class Waiter(Protocol):
    """A validator whose proofs take a while to be seen from outside."""

    def wait(self, proofs: Sequence[Proof], deadline: Deadline, stopping: threading.Event) -> None:
        """Return as soon as the CA can see proofs that are presented; the slow part, if there is one.

        Args:
            proofs: what was presented.
            deadline: when to give up.
            stopping: set when the server stops: then it MUST return or raise at once.

        Raises:
            ValidatorUnavailable: they were not seen in time.
        """


@runtime_checkable
class Waiting(Protocol):
    """A validator that knows how long its proofs may take to be seen."""

    @property
    def longest_wait(self) -> float:
        """Seconds that `wait` takes at most, before it raises."""


@runtime_checkable
class SelfChecking(Protocol):
    """A validator whose section names things outside, such as files."""

    def self_check(self) -> Iterable[tuple[str, str]]:
        """Say what is wrong outside with what its section names, as pairs of a key and a reason.

        It MUST change nothing: `acmems check` calls it.
        """


@runtime_checkable
class Listening(Protocol):
    """A validator that answers the CA itself, other than by HTTP."""

    @property
    def listeners(self) -> tuple[Address, ...]:
        """What it listens on."""

    def plan(self, descriptors: int | None = None) -> ListenerPlan:
        """Return what its listener is to be, which the server opens.

        What it presents MUST be found there as long as it is presented, also after the listener has become
        what another validator of a section with the same name plans.

        Args:
            descriptors: how many connections may be open; None: as many as it likes.
        """
