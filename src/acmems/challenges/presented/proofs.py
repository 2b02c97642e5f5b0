"""The proofs that are presented to the CA: each presented once, and withdrawn after the last order."""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from acmems.challenges.contract import Locating, Proof, Recalling, Validator, Waiter
from acmems.challenges.presented.journal import AbandonedNote, PromptJournal, ProofJournal, ProofNote
from acmems.exceptions import (
    AcmeException,
    CAUnavailable,
    DeadlinePassed,
    StateUnavailable,
    ValidatorUnavailable,
)
from acmems.system.clock import Clock, Deadline

logger = logging.getLogger(__name__)

# The validator as an object, because names are unique in one configuration only; a presentation keeps it
# alive. Of the proof all that a validator goes by: one order may hold two proofs of one name and token.
_Key = tuple[int, Proof]


@dataclass(slots=True)
class _Presentation:
    """One presented proof, which orders that share a pending authorization share."""

    validator: Validator
    proof: Proof
    watchers: list[Callable[[], None]] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    ending: bool = False  # it is being withdrawn, so nobody joins any more
    note: ProofNote | None = None

    def notify(self) -> None:
        """Tell every order that shares the proof that the CA came for it."""
        for watcher in tuple(self.watchers):
            watcher()


class PresentedProofs:
    """The proofs that are presented, by validator and proof.

    Presenting and withdrawing one proof never overlap: whoever wants a proof that is being withdrawn waits
    for the end of that, and presents it anew.

    Args:
        clock: for waits.
        journal: where proofs are noted that outlive this process, or that other servers answer for.
        others: journals that nothing is noted in any more, but in which something may be left.
    """

    SWEEPS = (30.0, 3600.0)  # seconds between tries to withdraw what is abandoned: at first, at most
    LOOKS = (0.05, 1.0)  # seconds between looks whether another server is done: at first, at most

    def __init__(self, clock: Clock, journal: ProofJournal, *others: ProofJournal) -> None:
        self.stopping = threading.Event()
        """Set when nobody shall wait any more until proofs can be seen."""
        self._clock = clock
        self._journal = journal
        self._journals = (journal, *others)
        self._lock = threading.Lock()  # guards what follows; never held while a validator works
        self._presentations: dict[_Key, _Presentation] = {}
        self._next_sweep = 0.0
        self._sweep_pause = self.SWEEPS[0]

    def is_immediate(self, validator: Validator) -> bool:
        """Tell whether presenting and withdrawing the proofs of a validator takes no time.

        They may have to be noted before: see `note`.
        """
        return validator.is_immediate and (
            not self._journal.keeps(validator) or self._prompt_for(validator) is not None
        )

    def note(self, validator: Validator, proofs: Sequence[Proof]) -> Future[ProofNote] | None:
        """Begin to note proofs that are presented without a wait then.

        Args:
            validator: what will present them.
            proofs: the proofs.

        Returns:
            a future, with what `present` needs or a `StateUnavailable`; None where nothing is noted, or where
            `present` does that.
        """
        journal = self._prompt_for(validator)
        if journal is None or not (validator.is_immediate and journal.keeps(validator)):
            return None
        return journal.begin(validator, _places(validator, proofs))

    def present(
        self,
        validator: Validator,
        proofs: Sequence[Proof],
        deadline: Deadline,
        note: ProofNote | None = None,
    ) -> None:
        """Present proofs, or share those that are presented, and return when the CA can see them.

        Args:
            validator: what presents them.
            proofs: the proofs; `on_request` of each is called whoever has presented it.
            deadline: when to give up waiting.
            note: what `note` has brought.

        Raises:
            AcmeException: what the validator raised; then there is nothing to withdraw.
            StateUnavailable: the proofs cannot be noted.
            DeadlinePassed: others were not done in time.
        """
        joined: list[Proof] = []
        firsts: list[_Presentation] = []
        others: list[_Presentation] = []
        try:
            for proof in proofs:
                presentation, first = self._join(validator, proof, deadline)
                joined.append(proof)
                (firsts if first else others).append(presentation)
            if note is not None:
                self._use(note, firsts, others)
            self._present(validator, firsts, deadline)
            for presentation in others:
                self._await(presentation, deadline)
        except BaseException as error:
            self._fail(firsts, error)
            self.withdraw(validator, joined)
            raise

    def withdraw(self, validator: Validator, proofs: Sequence[Proof]) -> None:
        """Leave proofs that were presented; each is withdrawn when the last order has left it.

        Args:
            validator: as for `present`.
            proofs: as for `present`.
        """
        ending: dict[_Key, _Presentation] = {}
        with self._lock:
            for proof in proofs:
                key = _key(validator, proof)
                presentation = self._presentations[key]
                presentation.watchers.remove(proof.on_request)
                if not presentation.watchers:
                    presentation.ending = True
                    ending[key] = presentation
        if not ending:
            return
        by_note: dict[int, tuple[ProofNote | None, list[Proof]]] = {}
        for presentation in ending.values():
            note = presentation.note
            by_note.setdefault(id(note), (note, []))[1].append(presentation.proof)
        try:
            self._withdraw_noted(validator, by_note.values())
        finally:
            self._end(ending)

    def _withdraw_noted(
        self, validator: Validator, noted: Collection[tuple[ProofNote | None, list[Proof]]]
    ) -> None:
        """Withdraw proofs, each unless another server presents it, and take note of that."""
        leaving = [(note, _leave(note, proofs)) for note, proofs in noted]
        proofs = [proof for _, each in leaving for proof in each]
        withdrawn = False
        try:
            withdrawn = not proofs or _withdraw(validator, proofs)
        finally:
            for note, each in leaving:
                if note is not None:
                    note.settle(each, withdrawn=withdrawn)
        left = [proof for _, each in noted for proof in each if proof not in proofs]
        if left and isinstance(validator, Recalling):
            validator.forget(left)

    def sweep(
        self, validators: Mapping[str, Validator], on_progress: Callable[[], None] = lambda: None
    ) -> None:
        """Withdraw what crashes and failed withdrawals have left; less and less often while that fails.

        Args:
            validators: what may have presented it, by name.
            on_progress: called after each batch of proofs.
        """
        now = self._clock.monotonic()
        if now < self._next_sweep:
            return
        done = True
        for journal in self._journals:
            with journal.abandoned() as notes:
                for note in notes:
                    done = self._clear(note, validators.get(note.verification)) and done
                    on_progress()
        self._sweep_pause = self.SWEEPS[0] if done else min(self.SWEEPS[1], self._sweep_pause * 2)
        self._next_sweep = now + self._sweep_pause

    def _clear(self, note: AbandonedNote, validator: Validator | None) -> bool:
        """Withdraw the proofs of an abandoned note, and remove it; return False where that failed."""
        proofs = tuple(note.places)
        if validator is None:
            logger.warning(
                "proofs for %s may still be in DNS: there is no [verification %s] any more",
                _names(proofs),
                note.verification,
            )
        else:
            ending = self._claim(validator, proofs)
            if ending is None:
                return True  # an order presents one of them at this moment; the next sweep comes soon
            if isinstance(validator, Recalling):
                validator.recall(note.places)
            try:
                if not _withdraw(validator, proofs):
                    return False
            finally:
                self._end(ending)
        try:
            note.forget()
        except OSError as error:
            logger.warning("a note of withdrawn proofs cannot be removed: %s", error)
            return False
        return True

    def _claim(self, validator: Validator, proofs: Iterable[Proof]) -> dict[_Key, _Presentation] | None:
        """Keep orders from presenting proofs until `_end`; None where one of them is presented now.

        The CA may give a later order the same token, which is then in the same record: withdrawn for the
        abandoned note, it would be missing for that order.
        """
        claimed = {_key(validator, proof): _Presentation(validator, proof, ending=True) for proof in proofs}
        with self._lock:
            if not claimed.keys().isdisjoint(self._presentations):
                return None
            self._presentations.update(claimed)
        return claimed

    def _end(self, ending: Mapping[_Key, _Presentation]) -> None:
        """Let those go on who wait to present proofs anew."""
        with self._lock:
            for key in ending:
                del self._presentations[key]
        for presentation in ending.values():
            presentation.gone.set()

    def _join(self, validator: Validator, proof: Proof, deadline: Deadline) -> tuple[_Presentation, bool]:
        """Return the presentation of a proof, and whether the caller is the one to begin it."""
        key = _key(validator, proof)
        while True:
            with self._lock:
                presentation = self._presentations.get(key)
                first = presentation is None
                if presentation is None:
                    presentation = self._presentations[key] = _presentation(validator, proof)
                if not presentation.ending:
                    presentation.watchers.append(proof.on_request)
                    return presentation, first
            if not self._clock.wait(presentation.gone, deadline.remaining):
                raise _late()

    def _present(self, validator: Validator, firsts: Sequence[_Presentation], deadline: Deadline) -> None:
        if not firsts:
            return
        proofs = [presentation.proof for presentation in firsts]
        if self._journal.keeps(validator) and firsts[0].note is None:
            note = self._noted(validator, _places(validator, proofs), deadline)
            for presentation in firsts:
                presentation.note = note
            self._look_until(note.is_free, deadline)
        validator.present(proofs)
        if not validator.is_immediate and isinstance(validator, Waiter):
            validator.wait(proofs, deadline, self.stopping)
        for presentation in firsts:
            presentation.ready.set()

    def _prompt_for(self, validator: Validator) -> PromptJournal | None:
        """Return the journal, if it notes the proofs of a validator while no thread waits."""
        journal = self._journal
        return journal if isinstance(journal, PromptJournal) and journal.is_prompt(validator) else None

    @staticmethod
    def _use(note: ProofNote, firsts: Sequence[_Presentation], others: Sequence[_Presentation]) -> None:
        """Let a note stand for the proofs that begin to be presented; others are noted already."""
        for presentation in firsts:
            presentation.note = note
        if others:
            note.settle([presentation.proof for presentation in others], withdrawn=True)

    def _noted(self, validator: Validator, places: Mapping[Proof, str], deadline: Deadline) -> ProofNote:
        """Note proofs as soon as no other server has its turn with one of their names."""
        notes: list[ProofNote] = []

        def try_to_note() -> bool:
            note = self._journal.note(validator, places)
            notes.extend([] if note is None else [note])
            return note is not None

        self._look_until(try_to_note, deadline)
        return notes[0]

    def _look_until(self, is_done: Callable[[], bool], deadline: Deadline) -> None:
        """Return when another server is done, which tells nobody."""
        pause, longest = self.LOOKS
        while not is_done():
            if deadline.passed:
                raise _late()
            if self._clock.wait(self.stopping, min(pause, deadline.remaining)):
                raise CAUnavailable("this server is stopping; ask again")
            pause = min(2 * pause, longest)

    def _fail(self, firsts: Sequence[_Presentation], error: BaseException) -> None:
        """Tell those who wait for proofs that these could not be presented."""
        for presentation in firsts:
            if not presentation.ready.is_set():
                with self._lock:
                    presentation.error, presentation.ending = error, True
                presentation.ready.set()

    def _await(self, presentation: _Presentation, deadline: Deadline) -> None:
        """Wait for another order that presents the same."""
        if not self._clock.wait(presentation.ready, deadline.remaining):
            raise _late()
        if presentation.error is not None:
            raise _like(presentation.error)


def _withdraw(validator: Validator, proofs: Sequence[Proof]) -> bool:
    """Take proofs away; return whether they are gone."""
    try:
        validator.withdraw(proofs)
    except ValidatorUnavailable as error:
        logger.warning("the proof for %s could not be withdrawn: %s; %s", _names(proofs), error, error.advice)
    except AcmeException as error:
        logger.warning("the proof for %s could not be withdrawn: %s", _names(proofs), error)
    except Exception:  # a bug of one validator must not keep other proofs presented
        logger.exception("the proof for %s could not be withdrawn", _names(proofs))
    else:
        return True
    return False


def _leave(note: ProofNote | None, proofs: Sequence[Proof]) -> Sequence[Proof]:
    """Return which proofs are to be withdrawn now."""
    if note is None:
        return proofs
    try:
        return note.leave(proofs)
    except StateUnavailable as error:
        # Whether another server needs them is not known, so they stay until somebody sweeps.
        logger.warning("the proof for %s is withdrawn later: %s", _names(proofs), error)
        note.settle(proofs, withdrawn=False)
        return ()


def _places(validator: Validator, proofs: Sequence[Proof]) -> Mapping[Proof, str]:
    """Return where each proof will be, as the validator spells it; empty where it does not say."""
    return validator.locate(proofs) if isinstance(validator, Locating) else dict.fromkeys(proofs, "")


def _names(proofs: Iterable[Proof]) -> str:
    return ", ".join(proof.identifier.value for proof in proofs)


def _presentation(validator: Validator, proof: Proof) -> _Presentation:
    made = _Presentation(validator, proof)
    made.proof = dataclasses.replace(proof, on_request=made.notify)
    return made


def _key(validator: Validator, proof: Proof) -> _Key:
    return id(validator), proof


def _late() -> DeadlinePassed:
    return DeadlinePassed("a proof could not be presented in time", retry_after=10.0)


def _like(error: BaseException) -> AcmeException:
    """Return what others raise who wait for a proof that could not be presented."""
    if isinstance(error, AcmeException):
        return copy.copy(error)
    return ValidatorUnavailable("the proof could not be presented", retry_after=10.0)
