"""Validations, in a few threads that accounts share out among them."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.validation import ChallengeCheck, Validation
from acmems.system.clock import SYSTEM, Clock

logger = logging.getLogger(__name__)

Outcome = Future[AcmeProblem | None]
_TOO_MANY: Final = "rateLimited"


@dataclass(frozen=True, slots=True)
class ProverLimits:
    """How much is validated at once, and how long that takes.

    Args:
        seconds: for one validation, from when it begins.
        threads: validations at the same time.
        of_account: those of one account at the same time.
        waiting: validations that wait, in total.
        waiting_of_account: those of one account.
    """

    seconds: float = 20.0
    threads: int = 16
    of_account: int = 8
    waiting: int = 4000
    waiting_of_account: int = 1000


class Prover:
    """Validates challenges. For any thread.

    Args:
        checks: one for each type of challenge.
        limits: how much is done at once.
        clock: for deadlines.
    """

    def __init__(
        self, checks: Iterable[ChallengeCheck], limits: ProverLimits | None = None, clock: Clock = SYSTEM
    ) -> None:
        self._checks: Mapping[str, ChallengeCheck] = {}
        self.adapt(checks)
        self._limits = limits or ProverLimits()
        self._clock = clock
        self._lock = threading.Lock()
        # By account; the one whose turn it is comes first.
        self._waiting: OrderedDict[str, deque[tuple[Validation, Outcome]]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._is_closed = False

    def adapt(self, checks: Iterable[ChallengeCheck]) -> None:
        """Use other checks for what begins from now on."""
        self._checks = {check.challenge_type: check for check in checks}

    def prove(self, validation: Validation) -> Outcome:
        """Begin a validation; the future has why it failed, None if it did not.

        What the future raises says nothing of the challenge: nobody has looked, because the server stops, or
        because too many names lead to the same address.

        Raises:
            AcmeProblem: too many wait; the challenge is as it was, and its client may come again.
        """
        outcome: Outcome = Future()
        with self._lock:
            waiting = self._waiting.get(validation.account, ())
            total = sum(map(len, self._waiting.values()))
            if len(waiting) >= self._limits.waiting_of_account or total >= self._limits.waiting:
                raise AcmeProblem(_TOO_MANY, "too many names wait for their validation: ask again later")
            if self._is_closed:
                outcome.set_exception(_stopping())
                return outcome
            self._waiting.setdefault(validation.account, deque()).append((validation, outcome))
            self._begin()
        return outcome

    def close(self) -> None:
        """Begin no further validation, and give up those that wait; running ones are not waited for."""
        with self._lock:
            self._is_closed = True
            waiting = [outcome for queue in self._waiting.values() for _, outcome in queue]
            self._waiting.clear()
        for outcome in waiting:
            outcome.set_exception(_stopping())

    def _begin(self) -> None:
        """Begin what may begin. The lock is held."""
        while not self._is_closed and self._running.total() < self._limits.threads:
            ready = (name for name in self._waiting if self._running[name] < self._limits.of_account)
            account = next(ready, None)
            if account is None:
                return
            # A thread of its own, and a daemon: the end of the server does not wait for a slow machine.
            entry = self._waiting[account][0]
            thread = threading.Thread(target=self._run, args=entry, name="acmems-proving", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                logger.warning("no thread can be had to validate names: they wait for the next one that ends")
                return
            self._running[account] += 1
            self._waiting[account].popleft()
            self._waiting.move_to_end(account)
            if not self._waiting[account]:
                del self._waiting[account]

    def _run(self, validation: Validation, outcome: Outcome) -> None:
        found = self._outcome_of(validation)
        with self._lock:
            self._running[validation.account] -= 1
            if not self._running[validation.account]:
                del self._running[validation.account]
            self._begin()
        if found is not None and found.kind == _TOO_MANY:
            outcome.set_exception(found)
        else:
            outcome.set_result(found)

    def _outcome_of(self, validation: Validation) -> AcmeProblem | None:
        try:
            self._checks[validation.challenge_type].check(
                validation, self._clock.deadline(self._limits.seconds)
            )
        except AcmeProblem as failure:
            return failure
        except Exception:
            logger.exception("%s of %s: a bug", validation.challenge_type, validation.identifier)
            return AcmeProblem("serverInternal", "a bug of this server: tell its administrator")
        return None


def _stopping() -> AcmeProblem:
    return AcmeProblem(
        "serverInternal", "the server stops: ask again", status=503, headers={"Retry-After": "5"}
    )
