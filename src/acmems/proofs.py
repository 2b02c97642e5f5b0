"""What is on show for the CA: each proof presented once, and withdrawn when the last order is done."""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from acmems.challenges import Proof, Validator
from acmems.clock import Clock, Deadline
from acmems.exceptions import AcmeException, DeadlinePassed, ValidatorUnavailable

logger = logging.getLogger(__name__)

_Key = tuple[str, str, str]


@dataclass(slots=True)
class _Shown:
    """One proof on show; orders that share a pending authorization share it."""

    proof: Proof
    watchers: list[Callable[[], None]] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    leaving: bool = False  # nobody joins any more

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
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows; never held while a validator works
        self._shown: dict[_Key, _Shown] = {}

    def show(self, validator: Validator, proof: Proof, deadline: Deadline) -> None:
        """Present a proof, or share one that is on show; `hide` takes it away.

        Args:
            validator: what presents it.
            proof: the proof; its `on_request` is called whoever has presented it.
            deadline: when to give up waiting for others who present or withdraw the same.

        Raises:
            AcmeException: what the validator raised; then there is nothing to hide.
            DeadlinePassed: others were not done in time.
        """
        shown, first = self._join(_key(validator, proof), proof, deadline)
        try:
            if first:
                self._present(validator, shown)
            else:
                self._await(shown, deadline)
        except BaseException:
            self.hide(validator, proof)
            raise

    def hide(self, validator: Validator, proof: Proof) -> None:
        """Leave a proof that was shown; the last one withdraws it.

        Args:
            validator: as it was shown.
            proof: as it was shown.
        """
        key = _key(validator, proof)
        with self._lock:
            shown = self._shown[key]
            shown.watchers.remove(proof.on_request)
            if shown.watchers:
                return
            shown.leaving = True
        try:
            validator.withdraw(shown.proof)
        except AcmeException as error:
            logger.warning("the proof for %s could not be withdrawn: %s", proof.identifier.value, error)
        except Exception:  # a bug of one validator must not keep the other proofs on show
            logger.exception("the proof for %s could not be withdrawn", proof.identifier.value)
        finally:
            with self._lock:
                del self._shown[key]
            shown.gone.set()

    def _join(self, key: _Key, proof: Proof, deadline: Deadline) -> tuple[_Shown, bool]:
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

    def _present(self, validator: Validator, shown: _Shown) -> None:
        try:
            validator.present(shown.proof)
        except BaseException as error:
            with self._lock:
                shown.error, shown.leaving = error, True
            raise
        finally:
            shown.ready.set()

    def _await(self, shown: _Shown, deadline: Deadline) -> None:
        """Wait for another order that presents the same."""
        if not self._clock.wait(shown.ready, deadline.remaining):
            raise _late()
        if shown.error is not None:
            raise _like(shown.error)


def _entry(proof: Proof) -> _Shown:
    shown = _Shown(proof)
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
