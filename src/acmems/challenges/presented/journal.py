"""The contract of journals: where proofs are noted before they are presented, until they are withdrawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from acmems.challenges.contract import Proof, Validator


class ProofNote(Protocol):
    """Proofs that are noted together."""

    def is_free(self) -> bool:
        """Tell whether they may be presented: nobody is withdrawing the same at this moment.

        Raises:
            StateUnavailable: nobody knows.
        """

    def leave(self, proofs: Sequence[Proof]) -> Sequence[Proof]:
        """Return which proofs are to be withdrawn now: those that no other server presents.

        Args:
            proofs: some or all of those that were noted. Those that are returned are to be settled.

        Raises:
            StateUnavailable: nobody knows.
        """

    def settle(self, proofs: Sequence[Proof], *, withdrawn: bool) -> None:
        """Take note that proofs were withdrawn, or could not be.

        Args:
            proofs: what `leave` has returned, or was given where it has raised.
            withdrawn: whether they are gone; otherwise they stay noted, for `ProofJournal.abandoned`.
        """


class AbandonedNote(Protocol):
    """Proofs that whoever noted them does not withdraw any more."""

    @property
    def verification(self) -> str:
        """The name of the validator that presented them."""

    @property
    def places(self) -> Mapping[Proof, str]:
        """The proofs, and where each was put, as the validator spells it; empty where nobody has noted it."""

    def forget(self) -> None:
        """Remove the note, once its proofs are withdrawn.

        Raises:
            OSError: it cannot be removed.
        """


class ProofJournal(Protocol):
    """Where proofs are noted; for any thread, and for several servers at once."""

    def keeps(self, validator: Validator) -> bool:
        """Tell whether the proofs of a validator are noted here, for which a thread has to wait."""

    def note(self, validator: Validator, places: Mapping[Proof, str]) -> ProofNote | None:
        """Write down, durably, what is going to be presented; other servers can find it from then on.

        Args:
            validator: what will present it.
            places: the proofs, and where each will be; empty where the validator does not say.

        Returns:
            the note; None where another server has its turn with one of the names, so that nothing is noted.

        Raises:
            StateUnavailable: it cannot be kept.
        """

    def abandoned(self) -> AbstractContextManager[Iterable[AbandonedNote]]:
        """Yield the notes that nobody works on any more; nobody else gets them while the context lasts.

        Raises:
            StateUnavailable: nobody knows.
        """


@runtime_checkable
class PromptJournal(ProofJournal, Protocol):
    """A journal that no thread has to wait for, where proofs are not placed anywhere and have no turns."""

    def is_prompt(self, validator: Validator) -> bool:
        """Tell whether the proofs of a validator can be noted by `begin`."""

    def begin(self, validator: Validator, places: Mapping[Proof, str]) -> Future[ProofNote]:
        """Begin to write down what is going to be presented, as `note` does.

        Args:
            validator: what will present it; one of those for which `is_prompt` holds.
            places: as for `note`.

        Returns:
            a future; it has the note once that is durable, or a `StateUnavailable`.
        """
