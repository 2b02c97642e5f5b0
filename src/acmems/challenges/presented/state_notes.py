"""A journal in the state: for whoever comes after a crash, and for the other nodes that share the state."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from acmems.challenges.contract import Proof, Validator
from acmems.challenges.presented.journal import ProofNote
from acmems.exceptions import CAProtocolError
from acmems.state.proofs import ProofRecord, ProofRecords
from acmems.state.sharing.leases import Lease
from acmems.x509.identifiers import named


class StateNote:
    """Proofs that are noted in the state.

    Args:
        records: where they are noted.
        validator: what presents them.
        ids: of their records.
        turns: leases of what only this node may show until they are withdrawn.
    """

    def __init__(
        self,
        records: ProofRecords,
        validator: Validator,
        ids: Mapping[Proof, str],
        turns: Mapping[Proof, Lease],
    ) -> None:
        self._records = records
        self._is_answered = not validator.leaves_traces
        self._ids = ids
        self._turns = turns

    def is_free(self) -> bool:
        """Tell whether they may be presented: nobody is withdrawing the same at this moment.

        Raises:
            StateUnavailable: nobody knows.
        """
        return self._is_answered or not self._records.are_being_withdrawn(self._ids.values())

    def leave(self, proofs: Sequence[Proof]) -> Sequence[Proof]:
        """Return which proofs no other node presents.

        Raises:
            StateUnavailable: nobody knows.
        """
        if self._is_answered:
            return proofs
        needless = self._records.leave([self._ids[proof] for proof in proofs])
        return [proof for proof in proofs if self._ids[proof] in needless]

    def settle(self, proofs: Sequence[Proof], *, withdrawn: bool) -> None:
        """Take note that proofs were withdrawn, or could not be."""
        ids = [self._ids[proof] for proof in proofs]
        if not ids:
            return
        turns = [self._turns[proof] for proof in proofs if proof in self._turns]
        if withdrawn or self._is_answered:
            # Other nodes may wait for a turn, or until they can present the same record.
            is_awaited = self._records.is_shared and not (self._is_answered and not turns)
            self._records.remove(ids, turns, soon=is_awaited)
        else:
            self._records.give_up(ids)


@dataclass(slots=True)
class AbandonedRecords:
    """Proofs that no living node withdraws.

    Args:
        verification: the name of the validator that presented them.
        places: the proofs, and where each was put.
        ids: of their records.
        is_forgotten: whether they are withdrawn.
    """

    verification: str
    places: Mapping[Proof, str]
    ids: Sequence[str]
    is_forgotten: bool = False

    def forget(self) -> None:
        """Take note that its proofs are withdrawn."""
        self.is_forgotten = True


class StateNotes:
    """The journal in the state.

    Args:
        records: what nodes present.
    """

    def __init__(self, records: ProofRecords) -> None:
        self._records = records

    def keeps(self, validator: Validator) -> bool:
        """Tell whether proofs outlive this process, or whether the CA may come to other nodes for them."""
        return validator.leaves_traces or (self._records.is_shared and validator.sees_requests)

    def note(self, validator: Validator, places: Mapping[Proof, str]) -> StateNote | None:
        """Write down, durably, what is going to be presented, all in one transaction.

        Raises:
            StateUnavailable: it cannot be kept.
        """
        turns = [f"proof:{place}" for place in places.values()] if self._takes_turns(validator) else []
        ids, written = self._write(validator, places, turns)
        taken = written.result()
        return (
            None
            if taken is None
            else StateNote(self._records, validator, ids, dict(zip(places, taken, strict=False)))
        )

    def is_prompt(self, validator: Validator) -> bool:
        """Tell whether nothing but the note itself is to be waited for."""
        return not validator.leaves_traces and not self._takes_turns(validator)

    def begin(self, validator: Validator, places: Mapping[Proof, str]) -> Future[ProofNote]:
        """Begin to write down what is going to be presented, where `is_prompt` allows it."""
        ids, written = self._write(validator, places, ())
        begun: Future[ProofNote] = Future()

        def note(written: Future[Sequence[Lease] | None]) -> None:
            error = written.exception()
            if error is None:
                begun.set_result(StateNote(self._records, validator, ids, {}))
            else:
                begun.set_exception(error)

        written.add_done_callback(note)
        return begun

    def _takes_turns(self, validator: Validator) -> bool:
        return self._records.is_shared and validator.shows_one_at_a_time

    def _write(
        self, validator: Validator, places: Mapping[Proof, str], turns: Sequence[str]
    ) -> tuple[dict[Proof, str], Future[Sequence[Lease] | None]]:
        ids = {proof: secrets.token_hex(16) for proof in places}
        records = [_record(ids[proof], validator, proof, place) for proof, place in places.items()]
        is_answered = not validator.leaves_traces
        return ids, self._records.add(records, is_answered=is_answered, turns=turns)

    @contextlib.contextmanager
    def abandoned(self) -> Iterator[Sequence[AbandonedRecords]]:
        """Yield what no living node withdraws; no other node gets it while the context lasts.

        Raises:
            StateUnavailable: nobody knows.
        """
        taken = self._records.take_abandoned()
        notes = [
            _abandoned(verification, list(records))
            for (verification, _), records in itertools.groupby(
                taken, lambda record: (record.verification, record.presented)
            )
        ]
        try:
            yield notes
        finally:
            for note in notes:
                if note.is_forgotten:
                    self._records.remove(note.ids)
                else:
                    self._records.give_up(note.ids)


def _record(number: str, validator: Validator, proof: Proof, place: str) -> ProofRecord:
    return ProofRecord(
        number,
        validator.name,
        validator.challenge_type,
        proof.identifier.value,
        proof.token,
        proof.key_authorization,
        proof.account_url,
        proof.is_wildcard,
        proof.issuers,
        place,
    )


def _abandoned(verification: str, records: Sequence[ProofRecord]) -> AbandonedRecords:
    places = {}
    for record in records:
        with contextlib.suppress(
            ValueError, CAProtocolError
        ):  # nothing that this server could have presented
            places[_proof(record)] = record.place
    return AbandonedRecords(verification, places, [record.id for record in records])


def _proof(record: ProofRecord) -> Proof:
    return Proof(
        named(record.name),
        record.token,
        record.key_authorization,
        lambda: None,
        account_url=record.account_url,
        is_wildcard=record.is_wildcard,
        issuers=record.issuers,
    )
