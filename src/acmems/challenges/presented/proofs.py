"""What is on show for the CA: each proof presented once, and withdrawn when the last order is done."""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from acmems.challenges import Proof, Validator, Waiter
from acmems.challenges.presented.journal import Entry, Journal
from acmems.exceptions import AcmeException, DeadlinePassed, ValidatorUnavailable
from acmems.system.clock import Clock, Deadline

logger = logging.getLogger(__name__)

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Presentation:
    """One proof on show; orders that share a pending authorization share it."""

    proof: Proof
    watchers: list[Callable[[], None]] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    leaving: bool = False  # nobody joins any more
    entry: Entry | None = None  # in the journal

    def tell(self) -> None:
        """Tell every order that shares the proof that the CA came for it."""
        for watcher in tuple(self.watchers):
            watcher()


class Proofs:
    """The proofs on show, each by validator, name and token.

    Presenting and withdrawing of one proof never overlap: whoever wants one that is being withdrawn
    waits for the end of that, and presents it anew.

    Args:
        clock: for waits.
        journal: where proofs are noted that outlive this process.
    """

    SWEEPS = (30.0, 3600.0)  # seconds between tries to withdraw what is left behind: at first, at most

    def __init__(self, clock: Clock, journal: Journal) -> None:
        self.stopping = threading.Event()
        """Set when nobody shall wait any more until proofs can be seen."""
        self._clock = clock
        self._journal = journal
        self._lock = threading.Lock()  # guards what follows; never held while a validator works
        self._shown: dict[_Key, _Presentation] = {}
        self._next_sweep = 0.0
        self._sweep_pause = self.SWEEPS[0]

    def show(self, validator: Validator, proofs: Sequence[Proof], deadline: Deadline) -> None:
        """Present proofs, or share those that are on show, and return when the CA can see them.

        `hide` takes them away.

        Args:
            validator: what presents them.
            proofs: the proofs; `on_request` of each is called whoever has presented it.
            deadline: when to give up waiting.

        Raises:
            AcmeException: what the validator raised; then there is nothing to hide.
            DeadlinePassed: others were not done in time.
        """
        joined: list[Proof] = []
        firsts: list[_Presentation] = []
        others: list[_Presentation] = []
        try:
            for proof in proofs:
                shown, first = self._join(_key(validator, proof), proof, deadline)
                joined.append(proof)
                (firsts if first else others).append(shown)
            self._present(validator, firsts, deadline)
            for shown in others:
                self._await(shown, deadline)
        except BaseException as error:
            self._fail(firsts, error)
            self.hide(validator, joined)
            raise

    def hide(self, validator: Validator, proofs: Sequence[Proof]) -> None:
        """Leave proofs that were shown; the last one to leave withdraws them.

        Args:
            validator: as they were shown.
            proofs: as they were shown.
        """
        leaving: dict[_Key, _Presentation] = {}
        with self._lock:
            for proof in proofs:
                key = _key(validator, proof)
                shown = self._shown[key]
                shown.watchers.remove(proof.on_request)
                if not shown.watchers:
                    shown.leaving = True
                    leaving[key] = shown
        if not leaving:
            return
        withdrawn = False
        try:
            withdrawn = _withdraw(validator, [shown.proof for shown in leaving.values()])
        finally:
            with self._lock:
                for key in leaving:
                    del self._shown[key]
            for shown in leaving.values():
                if shown.entry is not None:
                    shown.entry.settle(withdrawn=withdrawn)
                shown.gone.set()

    def sweep(self, validators: Mapping[str, Validator]) -> None:
        """Withdraw what crashes and failed withdrawals have left behind; ever rarer while that fails.

        Args:
            validators: what may have presented it, by name.
        """
        now = self._clock.monotonic()
        if now < self._next_sweep:
            return
        done = True
        with self._journal.abandoned() as found:
            for left in found:
                validator = validators.get(left.verification)
                if validator is None:
                    names = ", ".join(proof.identifier.value for proof in left.proofs)
                    logger.warning(
                        "proofs for %s may have stayed on show: there is no [verification %s] any more",
                        names,
                        left.verification,
                    )
                elif not _withdraw(validator, left.proofs):
                    done = False
                    continue
                left.forget()
        self._sweep_pause = self.SWEEPS[0] if done else min(self.SWEEPS[1], self._sweep_pause * 2)
        self._next_sweep = now + self._sweep_pause

    def _join(self, key: _Key, proof: Proof, deadline: Deadline) -> tuple[_Presentation, bool]:
        """Return the entry of a proof, and whether the caller is the one to present it."""
        while True:
            with self._lock:
                shown = self._shown.get(key)
                first = shown is None
                if shown is None:
                    shown = self._shown[key] = _entry(proof)
                if not shown.leaving:
                    shown.watchers.append(proof.on_request)
                    return shown, first
            if not self._clock.wait(shown.gone, deadline.remaining):
                raise _late()

    def _present(self, validator: Validator, firsts: Sequence[_Presentation], deadline: Deadline) -> None:
        if not firsts:
            return
        proofs = [shown.proof for shown in firsts]
        if validator.leaves_traces:
            entry = self._journal.note(validator.name, proofs)
            for shown in firsts:
                shown.entry = entry
        validator.present(proofs)
        if isinstance(validator, Waiter):
            validator.wait(proofs, deadline, self.stopping)
        for shown in firsts:
            shown.ready.set()

    def _fail(self, firsts: Sequence[_Presentation], error: BaseException) -> None:
        """Tell those who wait for proofs that these could not be presented."""
        for shown in firsts:
            if not shown.ready.is_set():
                with self._lock:
                    shown.error, shown.leaving = error, True
                shown.ready.set()

    def _await(self, shown: _Presentation, deadline: Deadline) -> None:
        """Wait for another order that presents the same."""
        if not self._clock.wait(shown.ready, deadline.remaining):
            raise _late()
        if shown.error is not None:
            raise _like(shown.error)


def _withdraw(validator: Validator, proofs: Sequence[Proof]) -> bool:
    """Take proofs away; return whether they are gone."""
    names = ", ".join(proof.identifier.value for proof in proofs)
    try:
        validator.withdraw(proofs)
    except ValidatorUnavailable as error:
        logger.warning("the proof for %s could not be withdrawn: %s; %s", names, error, error.advice)
    except AcmeException as error:
        logger.warning("the proof for %s could not be withdrawn: %s", names, error)
    except Exception:  # a bug of one validator must not keep other proofs on show
        logger.exception("the proof for %s could not be withdrawn", names)
    else:
        return True
    return False


def _entry(proof: Proof) -> _Presentation:
    shown = _Presentation(proof)
    shown.proof = dataclasses.replace(proof, on_request=shown.tell)
    return shown


def _key(validator: Validator, proof: Proof) -> _Key:
    return validator.name, proof.identifier.value, proof.token


def _late() -> DeadlinePassed:
    return DeadlinePassed("a proof could not be presented in time", retry_after=10.0)


def _like(error: BaseException) -> AcmeException:
    """Return what others raise who wait for a proof that could not be presented."""
    if isinstance(error, AcmeException):
        return copy.copy(error)
    return ValidatorUnavailable("the proof could not be presented", retry_after=10.0)
